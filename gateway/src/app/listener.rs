//! Common to both listeners: the socket, and the protocol below HTTP.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use actix_server::GracefulShutdownSignal;
use rustix::system::uname;
use socket2::{Domain, Protocol, Socket, Type};
use tokio_rustls::TlsAcceptor;

use crate::app::error::StartError;
use crate::front::certificates::{Certificates, ServerPair};
use crate::front::client_stream::ClientGuard;

/// Kernel backlog: connections that wait while every worker is busy.
const BACKLOG: i32 = 1024;

/// Protocol below HTTP.
#[derive(Clone)]
pub(super) enum Front {
    Plain,
    Tls(TlsAcceptor),
}

impl Front {
    /// TLS with these certificates, or plain TCP without any.
    pub(super) fn of(
        pairs: &[ServerPair],
        protocols: &[&[u8]],
    ) -> Result<(Self, Option<Arc<Certificates>>), StartError> {
        let Some(certificates) = Certificates::new(pairs) else {
            return Ok((Self::Plain, None));
        };
        let acceptor = TlsAcceptor::from(Arc::new(certificates.server_config(protocols)?));
        Ok((Self::Tls(acceptor), Some(certificates)))
    }

    /// URL scheme of the listener.
    pub(super) fn scheme(&self) -> &'static str {
        match self {
            Self::Plain => "http",
            Self::Tls(_) => "https",
        }
    }
}

/// Binds the address of the setting `setting`.
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

/// Closes the connections of a worker with its server: idle ones at once, others after their
/// request.
pub(super) fn close_with(guard: &ClientGuard, draining: &GracefulShutdownSignal) {
    let (guard, draining) = (guard.clone(), draining.clone());
    actix_rt::spawn(async move {
        draining.notified().await;
        guard.close_idle();
    });
}

/// Name of this gateway for other gateways and the command line: host and listener address.
pub(super) fn name(address: SocketAddr) -> String {
    format!(
        "{}:{}",
        uname().nodename().to_string_lossy(),
        address.port()
    )
}

/// Id that two gateways share only if they cannot listen at the same time: boot id, network
/// namespace and address. `None` if the system does not provide them.
pub(super) fn listener(address: SocketAddr) -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let network = std::fs::read_link("/proc/self/ns/net").ok()?;
    Some(format!("{} {} {address}", boot.trim(), network.display()))
}
