//! What a listener does with an accepted socket: PROXY protocol header, TLS handshake,
//! then HTTP/1.1 or HTTP/2.

use std::{io, rc::Rc, time::Duration};

use actix_http::{KeepAlive, ServiceConfig};
use actix_rt::net::TcpStream;
use actix_service::{ServiceFactory, fn_service};
use tokio_rustls::TlsAcceptor;

use crate::front::{
    client_stream::{ClientGuard, ClientSocket, Taken},
    dispatcher::{Dispatcher, Handler},
    http2,
};

/// Which versions of HTTP a listener speaks.
#[derive(Clone, Copy, Debug)]
pub struct Versions {
    /// Whether a client without TLS may begin with the preface of HTTP/2.
    pub prior_knowledge: bool,
    /// Most requests at once on one connection of HTTP/2.
    pub max_streams: u32,
}

impl Versions {
    /// HTTP/1.1 alone. With TLS, the certificates must offer nothing else.
    pub const HTTP_1_1: Self = Self {
        prior_knowledge: false,
        max_streams: 0,
    };
}

/// The requests of one worker, and how they are served.
struct Listener<H> {
    guard: ClientGuard,
    handler: Rc<H>,
    versions: Versions,
    /// For the codec of HTTP/1.1, whose deadlines are not ours: the text of `Date`, and that
    /// connections are kept.
    config: ServiceConfig,
}

impl<H: Handler + 'static> Listener<H> {
    fn new(guard: ClientGuard, handler: Rc<H>, versions: Versions) -> Rc<Self> {
        let config = ServiceConfig::new(KeepAlive::Os, Duration::ZERO, Duration::ZERO, false, None);
        Rc::new(Self {
            guard,
            handler,
            versions,
            config,
        })
    }

    async fn serve<S: ClientSocket>(&self, taken: Taken<S>, is_http2: bool) -> io::Result<()> {
        let handler = Rc::clone(&self.handler);
        if is_http2 {
            // In a box: most connections are of HTTP/1.1, and all have room for this.
            let streams = self.versions.max_streams;
            return Box::pin(http2::serve(taken, &self.guard, streams, handler)).await;
        }
        let peer = taken.peer;
        let client = self.guard.wrap_taken(taken);
        Dispatcher::new(client, peer, handler, self.config.clone()).await;
        Ok(())
    }
}

/// Serves accepted sockets without TLS.
pub fn plain<H: Handler + 'static>(
    guard: ClientGuard,
    handler: Rc<H>,
    versions: Versions,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = io::Error, InitError = ()> {
    let listener = Listener::new(guard, handler, versions);
    fn_service(move |io: TcpStream| {
        let listener = Rc::clone(&listener);
        async move {
            let knows_http2 = listener.versions.prior_knowledge;
            let (taken, is_http2) = listener.guard.take_plain(io, knows_http2).await?;
            listener.serve(taken, is_http2).await
        }
    })
}

/// Serves accepted sockets after a TLS handshake that has `timeout`.
pub fn tls<H: Handler + 'static>(
    guard: ClientGuard,
    acceptor: TlsAcceptor,
    timeout: Duration,
    handler: Rc<H>,
    versions: Versions,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = io::Error, InitError = ()> {
    let listener = Listener::new(guard, handler, versions);
    fn_service(move |io: TcpStream| {
        let (listener, acceptor) = (Rc::clone(&listener), acceptor.clone());
        async move {
            let taken = listener.guard.take_tls(io, &acceptor, timeout).await?;
            let is_http2 = taken.io.protocol() == Some(http2::ALPN);
            listener.serve(taken, is_http2).await
        }
    })
}
