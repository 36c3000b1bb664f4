//! Opens connections to origins for awc: resolves the name, connects within one limit, guards the
//! stream.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::{Duration, Instant},
};

use actix_rt::net::ActixStream;
use actix_service::Service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use futures_core::future::LocalBoxFuture;
use http::Uri;
use rustix::io::Errno;
use tokio::net::TcpStream;

use crate::proxy::names::NameCache;
use crate::proxy::origin_stream::{
    OriginControl, OriginFault, OriginLimits, OriginRegistry, OriginStream,
};
use crate::tls::origin::{HandshakeFault, OriginTls};
use crate::tls::socket::TlsSocket;

/// How long a name that is known may take to be looked up again where connecting has no limit.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is spoken beneath HTTP. awc is told `http` either way: it would put a TLS of its own around
/// the guarded stream.
pub trait Transport: Clone + 'static {
    /// A connection that is ready for HTTP.
    type Io: ActixStream + 'static;
    /// The port of addresses that name none.
    const DEFAULT_PORT: u16;

    /// Makes a connection ready for HTTP.
    fn begin(
        &self,
        io: TcpStream,
        host: &str,
        port: u16,
    ) -> impl Future<Output = Result<Self::Io, OriginFault>>;
}

/// Nothing: HTTP goes over TCP.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl Transport for Plain {
    type Io = TcpStream;
    const DEFAULT_PORT: u16 = 80;

    async fn begin(&self, io: TcpStream, _: &str, _: u16) -> Result<TcpStream, OriginFault> {
        Ok(io)
    }
}

impl Transport for OriginTls {
    type Io = TlsSocket;
    const DEFAULT_PORT: u16 = 443;

    async fn begin(&self, io: TcpStream, host: &str, port: u16) -> Result<TlsSocket, OriginFault> {
        Ok(self.handshake(io, host, port).await?)
    }
}

impl From<HandshakeFault> for OriginFault {
    fn from(fault: HandshakeFault) -> Self {
        match fault {
            HandshakeFault::Untrusted { authority, cause } => Self::Untrusted { authority, cause },
            HandshakeFault::Failed { authority, cause } => Self::TlsFailed { authority, cause },
        }
    }
}

/// The connector service beneath the pool of awc. Its errors are `ConnectError::Io` with an
/// [`OriginFault`] inside.
#[derive(Clone, Debug)]
pub struct OriginConnect<T> {
    /// What is spoken beneath HTTP.
    pub transport: T,
    /// From the start of the look-up to the open connection, over all addresses and with the
    /// handshake. Zero: no limit.
    pub timeout: Duration,
    /// Limits of the streams it opens.
    pub limits: OriginLimits,
    /// Whether a connection may serve a second request.
    pub reuse: bool,
    /// The names that were looked up.
    pub names: Rc<NameCache>,
    /// Where the connections are registered.
    pub registry: Rc<OriginRegistry>,
}

impl<T: Transport> Service<ConnectInfo<Uri>> for OriginConnect<T> {
    type Response = Connection<Uri, OriginStream<T::Io>>;
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    actix_service::always_ready!();

    fn call(&self, info: ConnectInfo<Uri>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            // awc panics at `ConnectError::InvalidInput`, and every other variant would lose the
            // cause.
            let io = this
                .open(&info)
                .await
                .map_err(|fault| ConnectError::Io(fault.into()))?;
            Ok(Connection::new(info.request().clone(), io))
        })
    }
}

impl<T: Transport> OriginConnect<T> {
    async fn open(&self, info: &ConnectInfo<Uri>) -> Result<OriginStream<T::Io>, OriginFault> {
        let connecting = self.connect(info);
        let (io, remote) = if self.timeout.is_zero() {
            connecting.await?
        } else {
            tokio::time::timeout(self.timeout, connecting)
                .await
                .map_err(|_| OriginFault::ConnectTimeout {
                    host: info.hostname().to_owned(),
                    limit: self.timeout,
                })??
        };
        let control = match info.request().authority() {
            Some(authority) => OriginControl::pooled(remote, &self.registry, authority),
            None => OriginControl::new(Some(remote)),
        };
        if !self.reuse {
            control.retire();
        }
        let stream = OriginStream::new(io, self.limits, control);
        OriginControl::hand_out(&stream.control());
        Ok(stream)
    }

    async fn connect(&self, info: &ConnectInfo<Uri>) -> Result<(T::Io, SocketAddr), OriginFault> {
        let port = info.request().port_u16().unwrap_or(T::DEFAULT_PORT);
        let (io, remote) = self.connect_tcp(info, port).await?;
        // Requests leave in one piece and are small: waiting for more to send only adds delay.
        io.set_nodelay(true)
            .map_err(|source| OriginFault::Unreachable {
                address: remote,
                source,
            })?;
        Ok((
            self.transport.begin(io, info.hostname(), port).await?,
            remote,
        ))
    }

    /// Tries every address in turn. Each has its share of the time, so that one that swallows
    /// packets leaves some for the rest.
    async fn connect_tcp(
        &self,
        info: &ConnectInfo<Uri>,
        port: u16,
    ) -> Result<(TcpStream, SocketAddr), OriginFault> {
        let begun = Instant::now();
        let addresses = self.resolve(info, port).await?;
        let mut last = None;
        for (index, address) in addresses.iter().copied().enumerate() {
            let connecting = TcpStream::connect(address);
            let left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
            let connected = if self.timeout.is_zero() || left == 1 {
                connecting.await
            } else {
                let share = self.timeout.saturating_sub(begun.elapsed()) / left;
                tokio::time::timeout(share, connecting)
                    .await
                    .unwrap_or_else(|slow| Err(slow.into()))
            };
            match connected {
                Ok(io) => return Ok((io, address)),
                Err(source) if is_own_shortage(&source) => {
                    return Err(OriginFault::OutOfSockets { address, source });
                }
                Err(source) => last = Some(OriginFault::Unreachable { address, source }),
            }
        }
        Err(last.unwrap_or_else(|| unresolved(info, &"no address")))
    }

    /// The addresses that were given, or those of the name.
    async fn resolve(
        &self,
        info: &ConnectInfo<Uri>,
        port: u16,
    ) -> Result<Vec<SocketAddr>, OriginFault> {
        let given: Vec<_> = info.addrs().collect();
        if !given.is_empty() {
            return Ok(given);
        }
        // A URI has an IPv6 address in brackets, the resolver wants it without.
        let host = info
            .hostname()
            .trim_start_matches('[')
            .trim_end_matches(']');
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let patience = if self.timeout.is_zero() {
            PATIENCE
        } else {
            self.timeout / 2
        };
        let resolved = self
            .names
            .resolve(host, port, patience)
            .await
            .map_err(|error| unresolved(info, &error))?;
        if let (true, Some(authority)) = (resolved.moved, info.request().authority()) {
            // Connections to where the name no longer leads serve what they began, and nothing
            // more.
            self.registry.retire_all(authority);
        }
        Ok(resolved.addresses)
    }
}

/// Whether a connection was not opened because this system has nothing left for it, whoever is at
/// the other end.
pub(crate) fn is_own_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| {
        shortages
            .iter()
            .any(|shortage| shortage.raw_os_error() == code)
    })
}

fn unresolved(info: &ConnectInfo<Uri>, cause: &dyn std::fmt::Display) -> OriginFault {
    OriginFault::Unresolved {
        host: info.hostname().to_owned(),
        cause: cause.to_string(),
    }
}
