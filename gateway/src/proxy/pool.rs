//! Sends requests to origins over guarded connections: the bare connector of awc opens them, with our stream beneath, and they
//! are kept here, for awc's own pool closes what is idle only when the next request comes.
//!
//! One per worker thread. It neither retries nor rewrites: it says what came back, or what went wrong, with an
//! [`OriginFault`](super::origin_stream::OriginFault) inside the error.

use std::{cell::RefCell, fmt, rc::Rc, time::Duration};

use actix_http::{
    ConnectionType, Payload, RequestHeadType, ResponseHead,
    body::{BoxBody, MessageBody},
    header::{DATE, EXPECT, HOST, HeaderName, HeaderValue},
};
use actix_service::Service;
use awc::error::{ConnectError, SendRequestError};
use futures_core::future::LocalBoxFuture;

pub use self::target::{OriginScheme, OriginTarget};
pub use self::tunnel::{TunnelAnswer, TunnelIo};
use self::{link::Link, links::Links, unrun::Unrun};
use crate::proxy::{
    connect::{OriginConnect, Plain, Transport},
    names::{NameCache, Resolve, SystemResolver},
    origin_stream::{OriginControl, OriginFault, OriginLimits, OriginRegistry, Upload},
};
use crate::tls::origin::OriginTls;

mod link;
mod links;
mod target;
mod tunnel;
mod unrun;

/// How connections to origins are opened, used and kept.
#[derive(Clone, Debug)]
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

type SendResult = Result<(ResponseHead, Payload), SendRequestError>;
type TunnelResult = Result<TunnelAnswer, SendRequestError>;
type SendFn =
    dyn for<'a> Fn(&'a OriginTarget, &'a mut Option<Outgoing>) -> LocalBoxFuture<'a, SendResult>;
type TunnelFn = dyn for<'a> Fn(
    &'a OriginTarget,
    &'a mut Option<RequestHeadType>,
) -> LocalBoxFuture<'a, TunnelResult>;

/// A request that has not been sent.
pub struct Outgoing {
    /// Its head.
    pub head: RequestHeadType,
    /// Its body, which nobody has begun to read.
    pub body: BoxBody,
}

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
    /// Path, query and, if the head has none of its own, `Host` are taken from the URI of the head. `Expect` is taken off: an
    /// origin that answers without `100` would take the next request for the announced body. A body of known length is sent
    /// with that length, one of unknown length in chunks. The head of the response is given as soon as it is there; what is
    /// missing of the request by then is sent while the payload is read, and no further than to the end of the response.
    ///
    /// Dropping the future or the payload closes the connection.
    pub async fn send<B>(
        &self,
        target: &OriginTarget,
        head: impl Into<RequestHeadType>,
        body: B,
    ) -> SendResult
    where
        B: MessageBody + 'static,
    {
        self.try_send(
            target,
            &mut Some(Outgoing {
                head: head.into(),
                body: body.boxed(),
            }),
        )
        .await
    }

    /// As [`OriginPool::send`]. Whatever fails before there is a connection leaves `outgoing` where it is, untouched, to be
    /// sent elsewhere.
    pub async fn try_send(
        &self,
        target: &OriginTarget,
        outgoing: &mut Option<Outgoing>,
    ) -> SendResult {
        if let Some(Outgoing { head, body }) = outgoing.take() {
            *outgoing = Some(Outgoing {
                head: self.prepare(head, target),
                body,
            });
        }
        (self.lane(target)?.send)(target, outgoing).await
    }

    /// As [`OriginPool::send`], on a connection that has served no request: for the repetition of one that failed with
    /// [`DiedBeforeResponse`](super::origin_stream::OriginFault::DiedBeforeResponse). Where one idle connection was dead the others most likely are, so all of this
    /// origin's are given up.
    pub async fn send_fresh<B>(
        &self,
        target: &OriginTarget,
        head: impl Into<RequestHeadType>,
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

    /// Sends a request that asks to leave HTTP, on its connection. `head` needs `ConnectionType::Upgrade`. Nothing but the head is
    /// sent before the origin has answered.
    pub async fn open_tunnel(
        &self,
        target: &OriginTarget,
        head: impl Into<RequestHeadType>,
    ) -> TunnelResult {
        self.try_tunnel(target, &mut Some(head.into())).await
    }

    /// As [`OriginPool::open_tunnel`]; whatever fails before there is a connection leaves `head` where it is.
    pub async fn try_tunnel(
        &self,
        target: &OriginTarget,
        head: &mut Option<RequestHeadType>,
    ) -> TunnelResult {
        *head = head
            .take()
            .map(|head| with_host(without_expect(head), target));
        (self.lane(target)?.tunnel)(target, head).await
    }

    fn lane(&self, target: &OriginTarget) -> Result<&Lane, SendRequestError> {
        match target.scheme {
            OriginScheme::Http => Ok(&self.plain),
            OriginScheme::Https => self.tls.as_ref().ok_or_else(|| {
                let (authority, cause) = (
                    target.authority.to_string(),
                    "no TLS to origins is set up".to_owned(),
                );
                SendRequestError::Connect(ConnectError::Io(
                    OriginFault::TlsFailed { authority, cause }.into(),
                ))
            }),
        }
    }

    fn prepare(&self, head: RequestHeadType, target: &OriginTarget) -> RequestHeadType {
        let mut head = with_host(without_expect(head), target);
        if let (RequestHeadType::Owned(head), false) = (&mut head, self.reuse) {
            head.set_connection_type(ConnectionType::Close);
        }
        head
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
        // The limit on connecting is ours, and says more when it is passed; that of awc is to stay out of its way.
        let never = Duration::from_secs(60 * 60 * 24);
        let backstop = if settings.connect_timeout.is_zero() {
            never
        } else {
            settings.connect_timeout + Duration::from_secs(5)
        };
        // No connection is ever given back to its pool, so each call opens one.
        let connector = awc::Connector::new()
            .connector(connect)
            // Counts connections that are open, over all origins: a few slow streams would stop all other traffic.
            .limit(0)
            .timeout(backstop)
            .finish();
        let connector = Rc::new(Opening {
            connector,
            registry: Rc::clone(&registry),
            rooms: Rc::clone(rooms),
        });
        let links = Links::new(settings.keep_alive, settings.lifetime);
        let (kept, unrun) = (Rc::clone(&links), Rc::new(Unrun::default()));
        rooms
            .borrow_mut()
            .push(Box::new(move || kept.give_up_all()));
        let (opening, kept) = (Rc::clone(&connector), Rc::clone(&links));
        let send: Rc<SendFn> = Rc::new(move |target, outgoing| {
            let (opening, links, unrun) =
                (Rc::clone(&opening), Rc::clone(&kept), Rc::clone(&unrun));
            Box::pin(async move {
                let (head, link) = if let Some(mut link) = links.take(target.slot) {
                    let Outgoing { head, body } = outgoing.take().ok_or_else(nothing_to_send)?;
                    instruct(link.control(), &head, body, target.limits);
                    (link.ask(head).await?, link)
                } else {
                    let (connection, control) = opening.open(target).await?;
                    let Outgoing { head, body } = outgoing.take().ok_or_else(nothing_to_send)?;
                    instruct(&control, &head, body, target.limits);
                    let asking = unrun.first_poll_of(connection.open_tunnel(head));
                    // In a box: most requests go over a connection that is there.
                    let (head, framed) = Box::pin(asking).await?;
                    (head, Link::adopt(framed, control))
                };
                Ok((head, link.into_payload(&links, target.slot)))
            })
        });
        let opening = connector;
        let tunnel: Rc<TunnelFn> = Rc::new(move |target, outgoing| {
            let opening = Rc::clone(&opening);
            Box::pin(async move {
                let (connection, control) = opening.open(target).await?;
                let head = outgoing.take().ok_or_else(nothing_to_send)?;
                instruct(&control, &head, BoxBody::new(()), target.limits);
                let (head, framed) = connection.open_tunnel(head).await?;
                Ok(TunnelAnswer::new(head, framed))
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
{
    /// A new connection, and what its stream is told by. Where the system has nothing left for one, idle ones are given up first.
    async fn open(
        &self,
        target: &OriginTarget,
    ) -> Result<(Connection, Rc<OriginControl>), SendRequestError> {
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
        Ok((connection, control.ok_or_else(unknown)?))
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
fn instruct(
    control: &OriginControl,
    head: &RequestHeadType,
    body: BoxBody,
    limits: Option<OriginLimits>,
) {
    if let Some(limits) = limits {
        control.set_limits(limits);
    }
    if !has(head, &DATE) {
        control.leave_date_out();
    }
    if let Some(upload) = Upload::new(body) {
        control.carry(upload);
    }
}

fn has(head: &RequestHeadType, name: &HeaderName) -> bool {
    head.as_ref().headers.contains_key(name)
        || head
            .extra_headers()
            .is_some_and(|extra| extra.contains_key(name))
}

/// The head with a `Host`, that of its URI or of the target where it has none.
fn with_host(mut head: RequestHeadType, target: &OriginTarget) -> RequestHeadType {
    if !has(&head, &HOST) {
        let authority = head.as_ref().uri.authority().unwrap_or(&target.authority);
        if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
            match &mut head {
                RequestHeadType::Owned(head) => drop(head.headers.insert(HOST, host)),
                RequestHeadType::Rc(head, _) => drop(Rc::make_mut(head).headers.insert(HOST, host)),
            }
        }
    }
    head
}

fn without_expect(mut head: RequestHeadType) -> RequestHeadType {
    match &mut head {
        RequestHeadType::Owned(head) => {
            head.headers.remove(EXPECT);
        }
        RequestHeadType::Rc(shared, _) if shared.headers.contains_key(EXPECT) => {
            Rc::make_mut(shared).headers.remove(EXPECT);
        }
        RequestHeadType::Rc(..) => {}
    }
    head
}

impl fmt::Debug for OriginPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginPool")
            .field("reuse", &self.reuse)
            .finish_non_exhaustive()
    }
}
