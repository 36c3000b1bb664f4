//! Sends requests to origins over guarded connections: the bare connector of awc opens them, with
//! our stream beneath, and its codec reads the answers. They are kept here, for awc's own pool
//! closes what is idle only when the next request comes.
//!
//! One per worker thread. It neither retries nor rewrites: it says what came back, or what went
//! wrong, with an [`OriginFault`](super::origin_stream::OriginFault) inside the error.

use std::{cell::RefCell, fmt, rc::Rc, time::Duration};

use actix_http::{
    Payload, RequestHead, ResponseHead,
    body::{BoxBody, MessageBody},
    header::HeaderValue,
};
use actix_service::Service;
use awc::error::{ConnectError, SendRequestError};
use bytes::Bytes;
use futures_core::future::LocalBoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

pub use self::target::{OriginScheme, OriginTarget};
pub use self::tunnel::{TunnelAnswer, TunnelIo};
use self::{
    link::{Asked, Link},
    links::Links,
};
use crate::proxy::{
    connect::{OriginConnect, Plain, Transport},
    names::{NameCache, Resolve, SystemResolver},
    origin_head::OriginHead,
    origin_stream::{OriginControl, OriginFault, OriginLimits, OriginRegistry, Upload},
    plain_answer::{PlainFn, PlainHead},
};
use crate::tls::origin::OriginTls;

mod link;
mod links;
mod target;
mod tunnel;

/// How connections to origins are opened, used and kept.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolSettings {
    /// From the look-up of the name to the open connection. Zero: no limit.
    pub connect_timeout: Duration,
    /// Limits of each exchange.
    pub limits: OriginLimits,
    /// How long an idle connection is kept. Should be less than the origin keeps it.
    pub keep_alive: Duration,
    /// How long a connection is used at most.
    pub lifetime: Duration,
    /// After how long a name is looked up again.
    pub dns_refresh: Duration,
    /// Whether connections are used for more than one request.
    pub reuse: bool,
    /// How origins at `https` are spoken to; without it there are none.
    pub tls: Option<OriginTls>,
}

/// What an origin answered.
pub enum OriginAnswer {
    /// A whole answer that was taken as plain, with its body.
    Plain(PlainHead, Bytes),
    /// Any other one, its body to be read as it comes.
    Parsed(ResponseHead, Payload),
}

type SendResult = Result<(ResponseHead, Payload), SendRequestError>;
type AnswerResult = Result<OriginAnswer, SendRequestError>;
type TunnelResult = Result<TunnelAnswer, SendRequestError>;
type SendFn = dyn for<'a> Fn(
    &'a OriginTarget,
    &'a OriginHead,
    &'a mut Option<BoxBody>,
    &'a PlainFn<'a>,
) -> LocalBoxFuture<'a, AnswerResult>;
type TunnelFn = dyn for<'a> Fn(
    &'a OriginTarget,
    &'a mut Option<OriginHead>,
) -> LocalBoxFuture<'a, TunnelResult>;

/// The connections of one worker thread to all origins. Clones share them.
#[derive(Clone)]
pub struct OriginPool {
    plain: Lane,
    tls: Option<Lane>,
    reuse: bool,
}

/// The connections of one scheme.
#[derive(Clone)]
struct Lane {
    send: Rc<SendFn>,
    tunnel: Rc<TunnelFn>,
    give_up: Rc<GiveUpFn>,
    registry: Rc<OriginRegistry>,
}

/// Closes the idle connections to a slot.
type GiveUpFn = dyn Fn(usize);

/// By which all idle connections of a worker can be closed, one entry a lane.
type Rooms = Rc<RefCell<Vec<Box<dyn Fn()>>>>;

impl OriginPool {
    /// An empty pool. Needs the runtime of the worker it is to serve.
    pub fn new(settings: PoolSettings) -> Self {
        Self::with_resolver(settings, Rc::new(SystemResolver))
    }

    /// As [`OriginPool::new`], with a resolver of names of its own.
    pub fn with_resolver(settings: PoolSettings, resolver: Rc<dyn Resolve>) -> Self {
        let names = Rc::new(NameCache::new(resolver, settings.dns_refresh));
        let rooms = Rooms::default();
        let tls = settings
            .tls
            .clone()
            .map(|tls| Lane::new(&settings, tls, &names, &rooms));
        Self {
            plain: Lane::new(&settings, Plain, &names, &rooms),
            tls,
            reuse: settings.reuse,
        }
    }

    /// Sends one request and gives the final response, its body to be read as it comes.
    ///
    /// Path, query and, if the head has none of its own, `Host` are taken from the URI of the head;
    /// what is said of it at [`OriginHead::of`] holds. A body of known length is sent with that
    /// length, one of unknown length in chunks. The head of the response is given as soon as it is
    /// there; what is missing of the request by then is sent while the payload is read, and no
    /// further than to the end of the response.
    ///
    /// Dropping the future or the payload closes the connection.
    pub async fn send<B>(&self, target: &OriginTarget, head: RequestHead, body: B) -> SendResult
    where
        B: MessageBody + 'static,
    {
        let (mut head, mut body) = (written(&head, target), Some(body.boxed()));
        let sent = self.try_send(target, &mut head, &mut body, &|_| None);
        match sent.await? {
            OriginAnswer::Parsed(head, payload) => Ok((head, payload)),
            // None is taken as such.
            OriginAnswer::Plain(..) => Err(nothing_to_send()),
        }
    }

    /// As [`OriginPool::send`], with or without a body, and with a short way for whole answers that
    /// `plain` takes. Whatever fails before there is a connection leaves `body` where it is,
    /// untouched, to be sent elsewhere.
    pub async fn try_send(
        &self,
        target: &OriginTarget,
        head: &mut OriginHead,
        body: &mut Option<BoxBody>,
        plain: &PlainFn<'_>,
    ) -> AnswerResult {
        if !self.reuse {
            head.close_after();
        }
        (self.lane(target)?.send)(target, head, body, plain).await
    }

    /// As [`OriginPool::send`], on a connection that has served no request: for the repetition of
    /// one that failed with
    /// [`DiedBeforeResponse`](super::origin_stream::OriginFault::DiedBeforeResponse). Where one
    /// idle connection was dead the others most likely are, so all of this origin's are given up.
    pub async fn send_fresh<B>(
        &self,
        target: &OriginTarget,
        head: RequestHead,
        body: B,
    ) -> SendResult
    where
        B: MessageBody + 'static,
    {
        self.give_up_idle(target);
        self.send(target, head, body).await
    }

    /// Gives up every idle connection to `target`: the next request to it opens a new one.
    pub fn give_up_idle(&self, target: &OriginTarget) {
        if let Ok(lane) = self.lane(target) {
            lane.registry.retire_all(&target.authority);
            (lane.give_up)(target.slot);
        }
    }

    /// Sends a request that asks to leave HTTP, on its connection. `head` needs
    /// `ConnectionType::Upgrade`. Nothing but the head is sent before the origin has answered.
    pub async fn open_tunnel(&self, target: &OriginTarget, head: RequestHead) -> TunnelResult {
        self.try_tunnel(target, &mut Some(written(&head, target)))
            .await
    }

    /// As [`OriginPool::open_tunnel`]; whatever fails before there is a connection leaves `head`
    /// where it is.
    pub async fn try_tunnel(
        &self,
        target: &OriginTarget,
        head: &mut Option<OriginHead>,
    ) -> TunnelResult {
        (self.lane(target)?.tunnel)(target, head).await
    }

    fn lane(&self, target: &OriginTarget) -> Result<&Lane, SendRequestError> {
        match target.scheme {
            OriginScheme::Http => Ok(&self.plain),
            OriginScheme::Https => self.tls.as_ref().ok_or_else(|| {
                let (authority, cause) = (
                    target.authority.to_string(),
                    "TLS to origins is not configured".to_owned(),
                );
                SendRequestError::Connect(ConnectError::Io(
                    OriginFault::TlsFailed { authority, cause }.into(),
                ))
            }),
        }
    }
}

impl Lane {
    fn new<T: Transport>(
        settings: &PoolSettings,
        transport: T,
        names: &Rc<NameCache>,
        rooms: &Rooms,
    ) -> Self {
        let registry = Rc::new(OriginRegistry::default());
        let connect = OriginConnect {
            transport,
            timeout: settings.connect_timeout,
            limits: settings.limits,
            reuse: settings.reuse,
            names: Rc::clone(names),
            registry: Rc::clone(&registry),
        };
        // The limit on connecting is ours, and says more when it is passed; that of awc is to stay
        // out of its way.
        let never = Duration::from_secs(60 * 60 * 24);
        let backstop = if settings.connect_timeout.is_zero() {
            never
        } else {
            settings.connect_timeout + Duration::from_secs(5)
        };
        // No connection is ever given back to its pool, so each call opens one.
        let connector = awc::Connector::new()
            .connector(connect)
            // Counts connections that are open, over all origins: a few slow streams would stop all
            // other traffic.
            .limit(0)
            .timeout(backstop)
            .finish();
        let connector = Rc::new(Opening {
            connector,
            registry: Rc::clone(&registry),
            rooms: Rc::clone(rooms),
        });
        let links = Links::new(settings.keep_alive, settings.lifetime);
        let kept = Rc::clone(&links);
        rooms
            .borrow_mut()
            .push(Box::new(move || kept.give_up_all()));
        let (opening, kept) = (Rc::clone(&connector), Rc::clone(&links));
        let send: Rc<SendFn> = Rc::new(move |target, head, body, plain| {
            let (opening, links) = (Rc::clone(&opening), Rc::clone(&kept));
            Box::pin(async move {
                let link = match links.take(target.slot) {
                    Some(link) => link,
                    // In a box: most requests go over a connection that is there.
                    None => Box::pin(opening.open(target)).await?,
                };
                let limits = head.limits().or(target.limits);
                instruct(link.control(), body.take(), limits);
                Ok(match link.ask(head, links.config(), plain).await? {
                    Asked::Plain(link, head, body) => {
                        links.put(target.slot, link);
                        OriginAnswer::Plain(head, body)
                    }
                    Asked::Parsed(head, answering) => {
                        OriginAnswer::Parsed(head, answering.into_payload(&links, target.slot))
                    }
                })
            })
        });
        let (opening, kept) = (connector, Rc::clone(&links));
        let tunnel: Rc<TunnelFn> = Rc::new(move |target, head| {
            let (opening, links) = (Rc::clone(&opening), Rc::clone(&kept));
            Box::pin(async move {
                let link = opening.open(target).await?;
                let head = head.take().ok_or_else(nothing_to_send)?;
                instruct(link.control(), None, head.limits().or(target.limits));
                match link.ask(&head, links.config(), &|_| None).await? {
                    Asked::Parsed(answer, answering) => Ok(answering.into_tunnel(answer)),
                    // None is taken as such.
                    Asked::Plain(..) => Err(nothing_to_send()),
                }
            })
        });
        Self {
            send,
            tunnel,
            give_up: Rc::new(move |slot| links.give_up(slot)),
            registry,
        }
    }
}

/// Opens connections.
struct Opening<C> {
    connector: C,
    registry: Rc<OriginRegistry>,
    rooms: Rooms,
}

impl<C, Connection> Opening<C>
where
    C: Service<awc::Connect, Response = Connection, Error = ConnectError>,
    Connection: AsyncRead + AsyncWrite + Unpin + 'static,
{
    /// A new connection. Where the system has nothing left for one, idle ones are given up first.
    async fn open(&self, target: &OriginTarget) -> Result<Link<Connection>, SendRequestError> {
        let mut opened = self.connector.call(target.connect()).await;
        let is_short = |error: &ConnectError| {
            matches!(
                OriginFault::find(error),
                Some(OriginFault::OutOfSockets { .. })
            )
        };
        if opened.as_ref().is_err_and(is_short) {
            for give_up_all in self.rooms.borrow().iter() {
                give_up_all();
            }
            opened = self.connector.call(target.connect()).await;
        }
        let connection = opened?;
        // Nothing is awaited between: what was handed out last is this connection.
        let control = self.registry.take_handed_out();
        Ok(Link::new(connection, control.ok_or_else(unknown)?))
    }
}

fn nothing_to_send() -> SendRequestError {
    SendRequestError::Send(std::io::Error::other("the request was sent already"))
}

/// Every connection says so when it is given out, so this is not reached.
fn unknown() -> SendRequestError {
    SendRequestError::Send(std::io::Error::other(
        "the connection did not make itself known",
    ))
}

/// Tells a connection what holds for the exchange to come.
fn instruct(control: &OriginControl, body: Option<BoxBody>, limits: Option<OriginLimits>) {
    if let Some(limits) = limits {
        control.set_limits(limits);
    }
    if let Some(upload) = body.and_then(Upload::new) {
        control.carry(upload);
    }
}

/// The head as it is sent to `target`, with a `Host`: its own, that of its URI or that of the
/// target.
fn written(head: &RequestHead, target: &OriginTarget) -> OriginHead {
    let authority = head.uri.authority().unwrap_or(&target.authority);
    // An authority has no character that a header value may not have.
    let host = HeaderValue::from_str(authority.as_str());
    OriginHead::of(head, &host.unwrap_or(HeaderValue::from_static("")))
}

impl fmt::Debug for OriginPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginPool")
            .field("reuse", &self.reuse)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
