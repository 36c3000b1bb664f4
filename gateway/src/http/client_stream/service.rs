//! The step between the listener and actix-http: each accepted socket becomes a guarded stream.

use std::{io, net::SocketAddr, rc::Rc, time::Duration};

use actix_http::{Protocol, error::DispatchError};
use actix_rt::net::TcpStream;
use actix_service::{ServiceFactory, fn_service};
use tokio_rustls::TlsAcceptor;

use super::{ClientControl, ClientFault, ClientLimits, ClientStream, Refused, control::Listeners};
use crate::{
    http::proxy_protocol::{self, NotAnnounced, ProxyHeaderFault},
    keys::AddressRange,
    tls::socket::TlsSocket,
};

/// What every accepted socket is guarded with.
#[derive(Clone)]
pub struct ClientGuard {
    limits: Rc<ClientLimits>,
    listeners: Listeners,
    announcers: Option<Rc<[AddressRange]>>,
}

impl ClientGuard {
    /// Guards with these limits.
    pub fn new(limits: ClientLimits) -> Self {
        Self {
            limits: Rc::new(limits),
            listeners: Listeners::default(),
            announcers: None,
        }
    }

    /// Takes connections only from these load balancers, which announce each with a PROXY protocol header; none: takes all,
    /// and no header.
    #[must_use]
    pub fn announced_by(mut self, load_balancers: Option<Vec<AddressRange>>) -> Self {
        self.announcers = load_balancers.map(Rc::from);
        self
    }

    /// Calls `observer` with the first fault of each connection: the only way to learn of what never becomes a request.
    #[must_use]
    pub fn observed_by(mut self, observer: impl Fn(&ClientControl, ClientFault) + 'static) -> Self {
        self.listeners.observer = Some(Rc::new(observer));
        self
    }

    /// Answers as `refuser` says where no handler can: before there is a request, and where the handler of one is still silent
    /// when its client is let go. What it gives is the whole response, with `connection: close`.
    #[must_use]
    pub fn refusing_by(
        mut self,
        refuser: impl Fn(&Refused<'_>) -> Option<Vec<u8>> + 'static,
    ) -> Self {
        self.listeners.refuser = Some(Rc::new(refuser));
        self
    }

    /// Guards one accepted socket.
    pub fn guard(&self, io: TcpStream) -> io::Result<ClientStream<TcpStream>> {
        let peer = prepare(&io)?;
        Ok(self.wrap(io, peer))
    }

    /// Guards a stream that is not the accepted socket itself, such as TLS over it. Deadlines count from now.
    pub fn wrap<S>(&self, io: S, peer: Option<SocketAddr>) -> ClientStream<S> {
        ClientStream::new(
            io,
            Rc::clone(&self.limits),
            ClientControl::new(peer, self.listeners.clone()),
        )
    }

    /// Makes an accepted socket ready, and says whose connection it is.
    async fn take_in(&self, mut io: TcpStream) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        let peer = prepare(&io)?;
        let Some(announcers) = &self.announcers else {
            return Ok((io, peer));
        };
        let timeout = self.limits.head_timeout;
        // In a box: most connections have no header, and all have room for this.
        let taken = Box::pin(proxy_protocol::take_header(
            &mut io, peer, announcers, timeout,
        ));
        match taken.await {
            Ok(source) => Ok((io, source)),
            Err(NotAnnounced::Gone(error)) => Err(error),
            Err(NotAnnounced::Fault(fault)) => Err(self.turn_away(peer, fault)),
        }
    }

    /// Refuses a header where TLS is to begin: the handshake would fail and not say why.
    async fn refuse_header(&self, io: &TcpStream, peer: Option<SocketAddr>) -> io::Result<()> {
        if self.announcers.is_none() && proxy_protocol::begins_with_header(io).await? {
            return Err(self.turn_away(peer, ProxyHeaderFault::Unexpected));
        }
        Ok(())
    }

    fn turn_away(&self, peer: Option<SocketAddr>, fault: ProxyHeaderFault) -> io::Error {
        ClientControl::new(peer, self.listeners.clone())
            .note_fault(ClientFault::ProxyHeader(fault));
        io::Error::other(fault)
    }

    /// As [`ClientGuard::accept`], after a TLS handshake that has this long. A client that does not manage it is closed without
    /// a word: there is nothing that it would understand.
    pub fn accept_tls(
        &self,
        acceptor: TlsAcceptor,
        timeout: Duration,
    ) -> impl ServiceFactory<
        TcpStream,
        Config = (),
        Response = (ClientStream<TlsSocket>, Protocol, Option<SocketAddr>),
        Error = DispatchError,
        InitError = (),
    > + use<> {
        let guard = self.clone();
        fn_service(move |io: TcpStream| {
            let (guard, acceptor) = (guard.clone(), acceptor.clone());
            async move {
                let (io, peer) = guard.take_in(io).await?;
                let handshake = async {
                    guard.refuse_header(&io, peer).await?;
                    acceptor.accept(io).await
                };
                let accepted = match tokio::time::timeout(timeout, handshake).await {
                    Ok(accepted) => accepted,
                    Err(_) => Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the handshake took too long",
                    )),
                };
                // At a level that is off by default: anyone can cause it, as often as they like.
                let io = accepted
                    .inspect_err(|error| log::debug!("client {peer:?}: no TLS: {error}"))?;
                Ok((guard.wrap(TlsSocket::new(io), peer), Protocol::Http1, peer))
            }
        })
    }

    /// The accept step, to be put before an `actix_http::HttpService`:
    ///
    /// ```no_run
    /// # use std::{convert::Infallible, time::Duration};
    /// # use actix_http::{HttpService, KeepAlive, Request, Response};
    /// # use actix_rt::net::TcpStream;
    /// # use actix_service::{ServiceFactoryExt as _, fn_service};
    /// # use postern_gateway::http::client_stream::{ClientGuard, ClientLimits, ClientStream};
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    /// # let _ =
    /// actix_server::Server::build().listen("public", listener, || {
    ///     let http = HttpService::build()
    ///         .client_request_timeout(Duration::ZERO)
    ///         .keep_alive(KeepAlive::Os)
    ///         .h1_allow_half_closed(false)
    ///         .client_disconnect_timeout(Duration::from_secs(2))
    ///         .on_connect_ext(|io: &ClientStream<TcpStream>, data| {
    ///             data.insert(io.control());
    ///         })
    ///         .finish(fn_service(|_: Request| async { Ok::<_, Infallible>(Response::ok()) }));
    ///     ClientGuard::new(ClientLimits::default()).accept().and_then(http)
    /// });
    /// ```
    ///
    /// The deadlines of heads and of idle connections are the guard's, hence the first two settings: those of actix-http hold for
    /// the first request alone, or cost an allocation for every one.
    pub fn accept(
        &self,
    ) -> impl ServiceFactory<
        TcpStream,
        Config = (),
        Response = (ClientStream<TcpStream>, Protocol, Option<SocketAddr>),
        Error = DispatchError,
        InitError = (),
    > + use<> {
        let guard = self.clone();
        fn_service(move |io: TcpStream| {
            let guard = guard.clone();
            async move {
                let (io, peer) = guard.take_in(io).await?;
                Ok((guard.wrap(io, peer), Protocol::Http1, peer))
            }
        })
    }
}

/// Makes a socket ready, and says who is at its other end.
fn prepare(io: &TcpStream) -> io::Result<Option<SocketAddr>> {
    // Responses leave in as few pieces as can be; waiting for more to send only adds delay.
    io.set_nodelay(true)?;
    Ok(io.peer_addr().ok())
}
