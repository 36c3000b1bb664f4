//! Sends requests to origins over pooled, guarded connections: the bare connector of awc with our stream beneath it.
//!
//! One per worker thread. It neither retries nor rewrites: it says what came back, or what went wrong, with an
//! [`OriginFault`](super::origin_stream::OriginFault) inside the error.

use std::{fmt, net::SocketAddr, rc::Rc, time::Duration};

use actix_http::{
    ConnectionType, Payload, RequestHeadType, ResponseHead,
    body::{BoxBody, MessageBody},
    header::{DATE, EXPECT},
};
use actix_service::Service as _;
use awc::error::{ConnectError, SendRequestError};
use futures_core::future::LocalBoxFuture;
use http::{
    Uri,
    uri::{Authority, Scheme},
};

pub use self::tunnel::{TunnelAnswer, TunnelIo};
use self::unrun::Unrun;
use crate::proxy::{
    connect::{OriginConnect, Plain, Transport},
    names::{NameCache, Resolve, SystemResolver},
    origin_stream::{OriginControl, OriginFault, OriginLimits, OriginRegistry},
};
use crate::tls::origin::OriginTls;

mod tunnel;
mod unrun;
mod upload;

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

/// What is spoken to an origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OriginScheme {
    /// HTTP over TCP.
    #[default]
    Http,
    /// HTTP over TLS.
    Https,
}

impl fmt::Display for OriginScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// One place requests can be sent to. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OriginTarget {
    uri: Uri,
    scheme: OriginScheme,
    authority: Authority,
    address: Option<SocketAddr>,
    limits: Option<OriginLimits>,
}

impl OriginTarget {
    /// An origin by host and port, over HTTP. Connections are shared by all targets of equal scheme and authority.
    pub fn new(authority: Authority) -> Self {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(authority.clone());
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
        // All three parts are there, which is all that can be wrong.
        let uri = Uri::from_parts(parts).unwrap_or_default();
        Self {
            uri,
            scheme: OriginScheme::default(),
            authority,
            address: None,
            limits: None,
        }
    }

    /// Speaks `scheme`, whose port is meant when the authority names none.
    #[must_use]
    pub fn over(mut self, scheme: OriginScheme) -> Self {
        self.scheme = scheme;
        self
    }

    /// What is spoken.
    pub fn scheme(&self) -> OriginScheme {
        self.scheme
    }

    /// Connects to this address in place of looking the host up.
    #[must_use]
    pub fn at(mut self, address: SocketAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Holds each exchange to these limits in place of the pool's.
    #[must_use]
    pub fn limited_by(mut self, limits: OriginLimits) -> Self {
        self.limits = Some(limits);
        self
    }

    fn connect(&self) -> awc::Connect {
        awc::Connect {
            uri: self.uri.clone(),
            addr: self.address,
        }
    }

    /// Host and port.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }
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

/// The connections of one scheme. The pool of awc tells connections apart by authority alone, so each scheme has its own.
#[derive(Clone)]
struct Lane {
    send: Rc<SendFn>,
    tunnel: Rc<TunnelFn>,
    registry: Rc<OriginRegistry>,
}

impl OriginPool {
    /// An empty pool. Needs the runtime of the worker it is to serve.
    pub fn new(settings: PoolSettings) -> Self {
        Self::with_resolver(settings, Rc::new(SystemResolver))
    }

    /// As [`OriginPool::new`], with a resolver of names of its own.
    pub fn with_resolver(settings: PoolSettings, resolver: Rc<dyn Resolve>) -> Self {
        let names = Rc::new(NameCache::new(resolver, settings.dns_refresh));
        let tls = settings
            .tls
            .clone()
            .map(|tls| Lane::new(&settings, tls, &names));
        Self {
            plain: Lane::new(&settings, Plain, &names),
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
                head: self.prepare(head),
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
        *head = head.take().map(without_expect);
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

    fn prepare(&self, head: RequestHeadType) -> RequestHeadType {
        let mut head = without_expect(head);
        if let (RequestHeadType::Owned(head), false) = (&mut head, self.reuse) {
            head.set_connection_type(ConnectionType::Close);
        }
        head
    }
}

impl Lane {
    fn new<T: Transport>(settings: &PoolSettings, transport: T, names: &Rc<NameCache>) -> Self {
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
        let connector = || {
            let connector = awc::Connector::new()
                .connector(connect.clone())
                // Counts requests in flight, bodies included, over all origins: a few slow streams would stop all other traffic.
                .limit(0)
                .timeout(backstop)
                .conn_keep_alive(settings.keep_alive)
                .conn_lifetime(settings.lifetime);
            Rc::new(connector.finish())
        };
        // Connections of tunnels never come back, so this second pool stays empty: a request that cannot be repeated gets a
        // fresh connection.
        let (requests, tunnels) = (connector(), connector());

        let (shared, unrun) = (Rc::clone(&registry), Rc::new(Unrun::default()));
        let send: Rc<SendFn> = Rc::new(move |target, outgoing| {
            let (requests, registry, unrun) =
                (Rc::clone(&requests), Rc::clone(&shared), Rc::clone(&unrun));
            let (connect, limits) = (target.connect(), target.limits);
            Box::pin(async move {
                let connection = requests.call(connect).await?;
                // Nothing is awaited between: what was handed out last is this connection.
                let control = registry.take_handed_out();
                let Some(Outgoing { head, body }) = outgoing.take() else {
                    return Err(nothing_to_send());
                };
                instruct(control.as_deref(), &head, limits);
                let (head, announced, upload) = upload::part(head, body);
                match (upload, control) {
                    (Some(upload), Some(control)) => control.carry(upload),
                    (Some(_), None) => return Err(nobody_to_carry()),
                    (None, _) => {}
                }
                unrun
                    .first_poll_of(connection.send_request(head, announced))
                    .await
            })
        });
        let shared = Rc::clone(&registry);
        let tunnel: Rc<TunnelFn> = Rc::new(move |target, outgoing| {
            let (tunnels, registry) = (Rc::clone(&tunnels), Rc::clone(&shared));
            let (connect, limits) = (target.connect(), target.limits);
            Box::pin(async move {
                let connection = tunnels.call(connect).await?;
                let control = registry.take_handed_out();
                let Some(head) = outgoing.take() else {
                    return Err(nothing_to_send());
                };
                instruct(control.as_deref(), &head, limits);
                let (head, framed) = connection.open_tunnel(head).await?;
                Ok(TunnelAnswer::new(head, framed))
            })
        });
        Self {
            send,
            tunnel,
            registry,
        }
    }
}

fn nothing_to_send() -> SendRequestError {
    SendRequestError::Send(std::io::Error::other("the request was sent already"))
}

/// Every connection says so when it is given out, so this is not reached.
fn nobody_to_carry() -> SendRequestError {
    SendRequestError::Send(std::io::Error::other(
        "the connection did not make itself known",
    ))
}

/// Tells a connection what holds for the exchange to come.
fn instruct(control: Option<&OriginControl>, head: &RequestHeadType, limits: Option<OriginLimits>) {
    let Some(control) = control else { return };
    if let Some(limits) = limits {
        control.set_limits(limits);
    }
    if !head.as_ref().headers.contains_key(DATE)
        && !head
            .extra_headers()
            .is_some_and(|extra| extra.contains_key(DATE))
    {
        control.leave_date_out();
    }
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
