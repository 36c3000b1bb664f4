//! Addresses at which nobody listens, and which nobody else gets meanwhile.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

/// An address that refuses connections. A port that was freed could be that of another test by now.
pub(crate) struct Nowhere {
    pub(crate) address: SocketAddr,
    socket: Socket,
}

impl Nowhere {
    pub(crate) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self { address, socket }
    }

    /// Listens there from now on.
    pub(crate) fn listen(self) -> TcpListener {
        self.socket.listen(128).unwrap();
        self.socket.into()
    }
}

/// An address that refuses connections until the process of the tests ends.
pub(crate) fn nowhere() -> SocketAddr {
    let nowhere = Nowhere::new();
    let address = nowhere.address;
    std::mem::forget(nowhere);
    address
}
