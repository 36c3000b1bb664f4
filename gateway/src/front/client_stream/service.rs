//! The step between the listener and the dispatcher: each accepted socket becomes a guarded stream.

use std::{
    future::poll_fn, io, net::SocketAddr, pin::pin, rc::Rc, sync::Arc, task::Poll, time::Duration,
};

use actix_rt::net::TcpStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::{
    ASIDE_BYTES, ClientControl, ClientFault, ClientLimits, ClientStream, Refused,
    control::Listeners,
    crowd::{Crowd, Place},
    fault,
    request::TLS_HANDSHAKE,
};
use crate::{
    front::http2,
    front::proxy_protocol::{self, NotAnnounced},
    keys::AddressRange,
    tls::socket::TlsSocket,
};

/// A connection whose first request is awaited.
pub(crate) struct Taken<S> {
    /// Its place among the connections.
    pub(crate) place: Place,
    pub(crate) io: S,
    /// Whoever is at its other end.
    pub(crate) peer: Option<SocketAddr>,
    /// From when the time of its first head counts.
    pub(crate) since: Instant,
}

/// What every accepted socket is guarded with.
#[derive(Clone)]
pub struct ClientGuard {
    limits: Rc<dyn Fn() -> ClientLimits>,
    listeners: Listeners,
    announcers: Option<Rc<dyn Fn() -> Arc<[AddressRange]>>>,
    crowd: Rc<Crowd>,
}

impl ClientGuard {
    /// Guards with these limits.
    pub fn new(limits: ClientLimits) -> Self {
        Self {
            limits: Rc::new(move || limits),
            listeners: Listeners::default(),
            announcers: None,
            crowd: Crowd::of_at_most(usize::MAX),
        }
    }

    /// Asks for the limits of each connection when it is taken in, so that those of new ones can
    /// change.
    #[must_use]
    pub fn limited_by(mut self, limits: impl Fn() -> ClientLimits + 'static) -> Self {
        self.limits = Rc::new(limits);
        self
    }

    /// Takes connections only from the load balancers that `load_balancers` gives for each, which
    /// announce it with a PROXY protocol header. Without this, takes all, and no header.
    #[must_use]
    pub fn announced_by(
        mut self,
        load_balancers: impl Fn() -> Arc<[AddressRange]> + 'static,
    ) -> Self {
        self.announcers = Some(Rc::new(load_balancers));
        self
    }

    /// Takes at most so many connections at once, and closes the longest idle one in favour of the
    /// next. Counts those that are guarded by clones of this guard too.
    #[must_use]
    pub fn with_room_for(mut self, connections: usize) -> Self {
        self.crowd = Crowd::of_at_most(connections);
        self
    }

    /// Closes every connection that is idle, and from now on every other once it is.
    pub fn close_idle(&self) {
        self.crowd.close();
    }

    /// Calls `observer` with the first fault of each connection: the only way to learn of what
    /// never becomes a request.
    #[must_use]
    pub fn observed_by(mut self, observer: impl Fn(&ClientControl, ClientFault) + 'static) -> Self {
        self.listeners.observer = Some(Rc::new(observer));
        self
    }

    /// Answers as `refuser` says where no handler can: before there is a request, and where the
    /// handler of one is still silent when its client is let go. What it gives is the whole
    /// response, with `connection: close`.
    #[must_use]
    pub fn refusing_by(
        mut self,
        refuser: impl Fn(&Refused<'_>) -> Option<Vec<u8>> + 'static,
    ) -> Self {
        self.listeners.refuser = Some(Rc::new(refuser));
        self
    }

    /// Guards a stream that was not accepted. Deadlines count from now.
    #[cfg(test)]
    pub(in crate::front) fn wrap<S>(&self, io: S, peer: Option<SocketAddr>) -> ClientStream<S> {
        self.wrap_taken(Taken {
            place: self.crowd.enter(),
            io,
            peer,
            since: Instant::now(),
        })
    }

    /// Guards a stream that was taken in.
    pub(crate) fn wrap_taken<S>(&self, taken: Taken<S>) -> ClientStream<S> {
        let control = self.control(taken.peer);
        ClientStream::new(taken, Rc::new(self.limits()), control)
    }

    /// Runs what comes before the first request, unless the connection has to make room meanwhile.
    async fn unless_sent_away<T>(
        &self,
        place: &Place,
        first: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let mut first = pin!(first);
        poll_fn(|cx| match first.as_mut().poll(cx) {
            Poll::Pending => place.poll_sent_away(cx).map(|()| {
                Err(match place.is_closed() {
                    true => io::ErrorKind::ConnectionAborted.into(),
                    false => self.turn_away(None, ClientFault::MadeRoom),
                })
            }),
            done => done,
        })
        .await
    }

    /// Makes an accepted socket ready, and says whose connection it is.
    async fn take_in(&self, mut io: TcpStream) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        let peer = prepare(&io)?;
        let Some(announcers) = &self.announcers else {
            return Ok((io, peer));
        };
        let (timeout, announcers) = (self.limits().head_timeout, announcers());
        // In a box: most connections have no header, and all have room for this.
        let taken = Box::pin(proxy_protocol::take_header(
            &mut io,
            peer,
            &announcers,
            timeout,
        ));
        match taken.await {
            Ok(source) => Ok((io, source)),
            Err(NotAnnounced::Gone(error)) => Err(error),
            Err(NotAnnounced::Fault(fault)) => {
                Err(self.turn_away(peer, ClientFault::ProxyHeader(fault)))
            }
        }
    }

    /// Refuses a header where TLS is to begin: the handshake would fail and not say why.
    async fn refuse_header(&self, io: &TcpStream, peer: Option<SocketAddr>) -> io::Result<()> {
        if self.announcers.is_none() && proxy_protocol::begins_with_header(io).await? {
            return Err(self.turn_away(peer, ClientFault::UnexpectedProxyHeader));
        }
        Ok(())
    }

    fn turn_away(&self, peer: Option<SocketAddr>, fault: ClientFault) -> io::Error {
        self.control(peer).note_fault(fault);
        io::Error::other(fault)
    }

    /// What this guards new connections with.
    pub(crate) fn limits(&self) -> ClientLimits {
        (self.limits)()
    }

    /// One connection, or one stream of it, as its handlers see it.
    pub(crate) fn control(&self, peer: Option<SocketAddr>) -> ClientControl {
        ClientControl::new(peer, self.listeners.clone())
    }

    /// Takes in an accepted socket after a TLS handshake that has `timeout`.
    ///
    /// # Errors
    /// The client did not manage the handshake, or was told in plain HTTP that there has to be one.
    pub(crate) async fn take_tls(
        &self,
        io: TcpStream,
        acceptor: &TlsAcceptor,
        timeout: Duration,
    ) -> io::Result<Taken<TlsSocket>> {
        let place = self.crowd.enter();
        let shaking = async {
            let (io, peer) = self.take_in(io).await?;
            let control = self.control(peer);
            let shaking = async {
                self.refuse_header(&io, peer).await?;
                shake(io, acceptor, &control).await
            };
            let shaken = tokio::time::timeout(timeout, shaking).await;
            let io = shaken.unwrap_or_else(|_| {
                control.note_fault(ClientFault::TlsTimeout);
                Err(io::ErrorKind::TimedOut.into())
            })?;
            Ok((io, peer))
        };
        let (io, peer) = self.unless_sent_away(&place, shaking).await?;
        Ok(Taken {
            place,
            io,
            peer,
            since: Instant::now(),
        })
    }

    /// Takes in an accepted socket of a plain listener; `true` where its client begins with the
    /// preface of HTTP/2.
    ///
    /// # Errors
    /// The connection broke, or has to make room.
    pub(crate) async fn take_plain(
        &self,
        io: TcpStream,
        knows_http2: bool,
    ) -> io::Result<(Taken<TcpStream>, bool)> {
        let place = self.crowd.enter();
        let taking = async {
            let (io, peer) = self.take_in(io).await?;
            let since = Instant::now();
            let begins = match self.limits().head_timeout {
                _ if !knows_http2 => false,
                Duration::ZERO => http2::begins_with_preface(&io).await?,
                limit => {
                    let preface = http2::begins_with_preface(&io);
                    let begins = tokio::time::timeout_at(since + limit, preface).await;
                    begins.unwrap_or(Ok(false))?
                }
            };
            Ok((io, peer, since, begins))
        };
        let (io, peer, since, begins) = self.unless_sent_away(&place, taking).await?;
        let taken = Taken {
            place,
            io,
            peer,
            since,
        };
        Ok((taken, begins))
    }
}

/// Agrees on TLS with the client.
async fn shake(
    mut io: TcpStream,
    acceptor: &TlsAcceptor,
    control: &ClientControl,
) -> io::Result<TlsSocket> {
    let mut first = [0];
    match io.peek(&mut first).await? {
        // One that leaves at once, as some balancers do to see whether the port is open.
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ if first == [TLS_HANDSHAKE] => match acceptor.accept(io).await {
            Ok(io) => Ok(TlsSocket::new(io)),
            Err(error) => {
                log::debug!("no TLS: {error}");
                control.note_fault(ClientFault::TlsHandshake);
                Err(error)
            }
        },
        _ if first.iter().all(u8::is_ascii_alphabetic) => {
            control.note_fault(ClientFault::PlainOnTls);
            if let Some(response) = control.refusal(false) {
                answer_and_close(&mut io, &fault::dated(&response, false)).await?;
            }
            Err(io::ErrorKind::InvalidData.into())
        }
        _ => {
            control.note_fault(ClientFault::TlsHandshake);
            Err(io::ErrorKind::InvalidData.into())
        }
    }
}

/// Sends the whole answer to a client, and takes in what it goes on to send, so that closing does
/// not take the answer away.
async fn answer_and_close(io: &mut TcpStream, response: &[u8]) -> io::Result<()> {
    io.write_all(response).await?;
    io.shutdown().await?;
    let mut aside = [0; ASIDE_BYTES];
    // The handshake has a deadline, and so has this.
    while io.read(&mut aside).await? > 0 {}
    Ok(())
}

/// Makes a socket ready, and says who is at its other end.
fn prepare(io: &TcpStream) -> io::Result<Option<SocketAddr>> {
    // Responses leave in as few pieces as can be; waiting for more to send only adds delay.
    io.set_nodelay(true)?;
    Ok(io.peer_addr().ok())
}
