//! What both listeners are: a socket, and what is spoken on it beneath HTTP.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use rustix::system::uname;
use socket2::{Domain, Protocol, Socket, Type};
use tokio_rustls::TlsAcceptor;

use crate::app::error::StartError;
use crate::front::certificates::{Certificates, ServerPair};

/// Connections that the kernel holds for us while every worker is busy.
const BACKLOG: i32 = 1024;

/// How long a connection that is being closed may take to do so.
pub(super) const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The certificates of a listener, with the files that they are read from again.
pub(super) type Served = (Arc<Certificates>, Vec<ServerPair>);

/// What a listener speaks beneath HTTP.
#[derive(Clone)]
pub(super) enum Front {
    Plain,
    Tls(TlsAcceptor),
}

impl Front {
    /// TLS with these certificates, or nothing where there are none.
    pub(super) fn of(pairs: &[ServerPair]) -> Result<(Self, Option<Served>), StartError> {
        let Some(certificates) = Certificates::new(pairs) else {
            return Ok((Self::Plain, None));
        };
        let acceptor = TlsAcceptor::from(Arc::new(certificates.server_config()?));
        Ok((Self::Tls(acceptor), Some((certificates, pairs.to_vec()))))
    }

    /// What its clients speak.
    pub(super) fn scheme(&self) -> &'static str {
        match self {
            Self::Plain => "http",
            Self::Tls(_) => "https",
        }
    }
}

/// Binds the address that `setting` names.
pub(super) fn listen(
    address: SocketAddr,
    setting: &'static str,
) -> Result<TcpListener, StartError> {
    let bind = || {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(TcpListener::from(socket))
    };
    bind().map_err(|cause| StartError::Listen {
        address,
        setting,
        cause,
    })
}

/// What other gateways and the command line know this one by: its host, and where it listens.
pub(super) fn name(address: SocketAddr) -> String {
    format!(
        "{}:{}",
        uname().nodename().to_string_lossy(),
        address.port()
    )
}

/// What tells two gateways apart that listen, of which only one can: the boot of the machine, its network namespace, and the
/// address. `None` where the system does not say.
pub(super) fn listener(address: SocketAddr) -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let network = std::fs::read_link("/proc/self/ns/net").ok()?;
    Some(format!("{} {} {address}", boot.trim(), network.display()))
}
