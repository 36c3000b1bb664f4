//! The life of a request, stage by stage:
//!
//! ```text
//! identify ─► route ─► authenticate ─► authorise ─► admit ─► forward ─► record
//! ```
//!
//! Each stage takes what the ones before it have proven and returns what it proves itself, or a refusal. No stage
//! waits for a database or takes a lock, and none reaches back.

pub mod drain;
mod health;
pub mod in_flight;
pub mod open_streams;
pub mod record;
pub mod unread;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix_http::body::{BodySize, BoxBody, EitherBody, MessageBody as _};
use actix_http::header::{self, HeaderMap, HeaderName, HeaderValue, HttpDate};
use actix_http::{
    ConnectionType, Method, Payload, Request, RequestHead, Response, StatusCode, Version,
};
use arc_swap::ArcSwap;

use crate::auth::cause::Cause;
use crate::auth::demand::{Demand, Denial};
use crate::auth::{Caller, CallerTag, api_key};
use crate::front::client_stream::{ClientControl, ClientFault};
use crate::http::client_address::ClientAddress;
use crate::http::health_path::HealthPath;
use crate::http::refusal::Refusal;
use crate::http::request_id::RequestIds;
use crate::http::shown_path::ShownPath;
use crate::http::target::{Target, is_host};
use crate::http::upgrade::Upgrade;
use crate::keys::{AddressRange, KeyTable, KnownKey, Prefix, UnixMillis, token};
use crate::panics::{caught, caught_in};
use crate::pipeline::drain::Drain;
use crate::pipeline::in_flight::RequestsInFlight;
use crate::pipeline::open_streams::OpenStreams;
use crate::pipeline::record::{Exchange, RecordedBody};
use crate::proxy::body::{BodyFault, RequestBody};
use crate::proxy::forward::{Answer, Failed, Failure, HostHeader, forward};
use crate::proxy::headers::{self, ForOrigin, REQUEST_ID, for_client, set_whole_identity};
use crate::proxy::location;
use crate::proxy::pool::OriginPool;
use crate::proxy::presented_key::PresentedKey;
use crate::proxy::proxy_headers::ProxyHeaders;
use crate::proxy::secret_finder::SecretFinder;
use crate::proxy::upgrade::{self, Client};
use crate::proxy::vary;
use crate::routes::{NoRoute, Route, Routes, is_same};
use crate::store::FeedStatus;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::tally::Tally;

/// What holds for every request that begins while it is in force. A request loads it once and keeps it.
#[derive(Debug)]
pub struct Policy {
    /// The routes.
    pub routes: Routes,
    /// The protection space named in challenges.
    pub realm: String,
    /// The path by which load balancers ask whether requests are taken; `None` is no such path.
    pub health_path: Option<HealthPath>,
    /// What our own keys begin with.
    pub prefix: Prefix,
    /// How old the table of keys may get while the store is away; `None` is any age.
    pub max_staleness: Option<Duration>,
    /// The proof for the origin; marked as sensitive.
    pub secret: HeaderValue,
    /// Finds it in what an origin answers.
    pub secret_finder: SecretFinder,
    /// What clients speak to the listener: `http` or `https`.
    pub scheme: HeaderValue,
    /// Proxies whose forwarding headers are believed.
    pub trusted_proxies: Vec<AddressRange>,
    /// Which of the headers by which proxies speak reach the origin.
    pub proxy_headers: ProxyHeaders,
    /// Most bytes of a request body.
    pub max_body_bytes: u64,
    /// How long a WebSocket may be silent in both directions.
    pub tunnel_idle_timeout: Duration,
}

/// What a worker thread serves requests with.
pub struct Worker {
    /// The policy in force.
    pub policy: Arc<ArcSwap<Policy>>,
    /// Every key, in memory.
    pub keys: Arc<KeyTable>,
    /// How current they are.
    pub feed: Arc<FeedStatus>,
    /// The requests in flight over all workers.
    pub in_flight: Arc<RequestsInFlight>,
    /// Connections to origins.
    pub origins: OriginPool,
    /// Where requests are recorded.
    pub access_log: AccessLog,
    /// Where they are counted.
    pub tally: Tally,
    /// Requests that go on, to be ended with their keys.
    pub streams: Rc<OpenStreams>,
    /// Ids for requests that come without one.
    pub request_ids: RequestIds,
    /// Whether connections are to end with their next answer.
    pub drain: Drain,
}

/// Serves one request: runs it through the stages, and records how it ended. A panic on the way is refused like anything else
/// that goes wrong: it costs this request and its connection.
pub async fn serve(worker: Rc<Worker>, mut request: Request) -> Response<RecordedBody> {
    let policy = worker.policy.load_full();
    let mut exchange = begin(&worker, &policy, &request);
    let payload = request.take_payload();
    let size = body_size(request.head(), &payload);
    let version = request.head().version;
    if health::is_asked(&policy, &request) {
        let mut response = match health::check(&worker, &policy, &mut exchange, &request, size) {
            Ok(response) => {
                // Every few seconds from every load balancer: counted, and no line but where it is refused.
                exchange.is_not_logged();
                exchange.record(response)
            }
            Err(refusal) => exchange.refuse(&refusal, &policy.realm, size),
        };
        worker.drain.announce(&mut response);
        return fit(version, response);
    }
    let ran = caught(run(
        &worker,
        &policy,
        &mut exchange,
        &mut request,
        payload,
        size,
    ))
    .await;
    let mut response = match ran.unwrap_or_else(|panicked| Err(exchange.panicked(&panicked))) {
        Ok(answer) => {
            exchange.answered(answer.wait);
            exchange.record(answer.response.map_body(|_, body| EitherBody::left(body)))
        }
        Err(refusal) => exchange.refuse(&refusal, &policy.realm, size),
    };
    worker.drain.announce(&mut response);
    fit(version, response)
}

/// The response in a form that a client of `version` understands. HTTP/1.0 has no chunks, so a body of unknown length ends with
/// the connection (RFC 9112, sections 6.1 and 6.3).
fn fit(version: Version, mut response: Response<RecordedBody>) -> Response<RecordedBody> {
    if version < Version::HTTP_11 && response.body().size() == BodySize::Stream {
        response.head_mut().no_chunking(true);
        response
            .head_mut()
            .set_connection_type(ConnectionType::Close);
    }
    response
}

/// Decides whether a client that asked first (`Expect: 100-continue`, RFC 9110, section 10.1.1) may send its body.
///
/// # Errors
/// The response to a request that would be refused; its body is not wanted.
pub fn expect(worker: &Worker, request: Request) -> Result<Request, Response<BoxBody>> {
    let policy = worker.policy.load_full();
    let mut exchange = begin(worker, &policy, &request);
    let size = body_size(request.head(), &Payload::None);
    let admitted = caught_in(|| {
        if health::is_asked(&policy, &request) {
            health::check(worker, &policy, &mut exchange, &request, size).map(drop)
        } else {
            admitted(worker, &policy, &mut exchange, &request, size).map(drop)
        }
    });
    match admitted.unwrap_or_else(|panicked| Err(exchange.panicked(&panicked))) {
        Ok(()) => {
            exchange.goes_on();
            Ok(request)
        }
        Err(refusal) => Err(exchange
            .refuse(&refusal, &policy.realm, BodySize::Stream)
            .map_into_boxed_body()),
    }
}

/// Decides about a request that another proxy forwards, or not, as this says: the stages up to `forward`, with what the
/// origin would be told of the caller in the answer: every identity header, the empty ones too. It is recorded like any other.
pub fn judge(worker: &Worker, request: &Request) -> Response<RecordedBody> {
    let policy = worker.policy.load_full();
    let mut exchange = begin(worker, &policy, request);
    let size = body_size(request.head(), &Payload::None);
    let admitted = caught_in(|| admitted(worker, &policy, &mut exchange, request, size));
    match admitted.unwrap_or_else(|panicked| Err(exchange.panicked(&panicked))) {
        Ok(Admitted {
            target: _,
            route,
            caller,
        }) => {
            let mut response =
                Response::with_body(StatusCode::OK, EitherBody::right(BoxBody::new(())));
            let headers = response.headers_mut();
            set_whole_identity(&caller, route.forward_metadata, headers);
            headers.insert(REQUEST_ID.clone(), exchange.request_id().header_value());
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            if let Caller::Key(key) = &caller {
                tell_end(headers, key);
            }
            exchange.record(response)
        }
        Err(refusal) => exchange.refuse(&refusal, &policy.realm, BodySize::None),
    }
}

/// Gives the request an id and its client an address.
fn begin(worker: &Worker, policy: &Policy, request: &Request) -> Box<Exchange> {
    let headers = request.head().headers();
    let request_id = worker.request_ids.identify(headers, &policy.prefix);
    let address = ClientAddress::identify(request.peer_addr(), headers, &policy.trusted_proxies);
    let path = ShownPath::of(request.uri(), &policy.prefix, &worker.keys);
    // What a client made up in place of an id or of a method may be a key.
    let is_key = headers.contains_key(&REQUEST_ID)
        && worker.keys.has_foreign_in(request_id.as_str().as_bytes());
    let request_id = if is_key {
        worker.request_ids.make()
    } else {
        request_id
    };
    let method = if is_method(request.method()) {
        request.method().clone()
    } else {
        Method::from_bytes(b"UNKNOWN").unwrap_or_default()
    };
    let mut exchange = Exchange::begin(
        worker.access_log.clone(),
        worker.tally.clone(),
        request_id,
        address,
        method,
        path,
    );
    if let Some(client) = client_control(request) {
        exchange.came_by(client);
    }
    exchange
}

/// Whether a method can be one by its form: those that are registered are words in capital letters, the longest of 17.
fn is_method(method: &Method) -> bool {
    let method = method.as_str();
    method.len() <= 17
        && method
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'-')
}

async fn run(
    worker: &Worker,
    policy: &Policy,
    exchange: &mut Exchange,
    request: &mut Request,
    payload: Payload,
    size: BodySize,
) -> Result<Answer, Refusal> {
    let Admitted {
        target,
        route,
        caller,
    } = admitted(worker, policy, exchange, request, size)?;
    let upgrade = match Upgrade::requested(request.head()) {
        // A protocol of that name is spoken by nobody.
        Upgrade::To(protocol) if holds_key(worker, policy, request.head(), &protocol) => None,
        Upgrade::To(protocol) => client_control(request).map(|control| (protocol, control)),
        Upgrade::No | Upgrade::Malformed => None,
    };
    let head = for_origin(worker, policy, exchange, request, &target, route, &caller);
    let host = if route.preserve_host {
        HostHeader::Kept
    } else {
        HostHeader::OfTarget
    };
    exchange.waits();
    let tag = CallerTag::of(&caller, exchange.address().client);
    let answer = if let Some((protocol, control)) = upgrade {
        let progress = exchange.reads(Rc::default());
        let client = Client {
            caller: tag,
            control,
            protocol,
            progress,
            idle_timeout: policy.tunnel_idle_timeout,
        };
        exchange
            .while_admitted(upgrade::open(
                &worker.origins,
                &route.upstream,
                host,
                head,
                client,
            ))
            .await
    } else {
        let body = RequestBody::new(payload, size, policy.max_body_bytes);
        exchange.reads(body.progress());
        exchange
            .while_admitted(forward(
                &worker.origins,
                &route.upstream,
                host,
                tag,
                head,
                body,
            ))
            .await
    };
    let answer = answer.map_err(|withdrawn| Refusal::of_denial(withdrawn, &route.demand))?;
    let answer = answer.map_err(|failure| refuse(exchange, route, request, &failure))?;
    exchange.attempted(route, &answer.failed);
    Ok(for_caller(answer, policy, exchange, route, &caller))
}

/// A request that may go to the origin.
struct Admitted<'a> {
    target: Target,
    route: &'a Arc<Route>,
    caller: Caller,
}

/// The stages that decide, from first to last.
fn admitted<'a>(
    worker: &Worker,
    policy: &'a Policy,
    exchange: &mut Exchange,
    request: &Request,
    size: BodySize,
) -> Result<Admitted<'a>, Refusal> {
    // Before any work is done for it: where there is too much already, refusing has to be cheap.
    exchange.counts(worker.in_flight.enter().ok_or(Refusal::Overloaded)?);
    if *exchange.path() == ShownPath::HasKey {
        return Err(Refusal::KeyInUrl);
    }
    let target = Target::identify(request.head())?;
    if has_key_in_host(worker, policy, request.head()) {
        return Err(Refusal::KeyInUrl);
    }
    let route = route(policy, request, &target, exchange.address())?;
    exchange.routed(route);
    let since = worker.streams.looks();
    if !is_current(worker, policy) {
        return Err(Refusal::NotReady);
    }
    let headers = request.head().headers();
    let caller = caller(worker, policy, &route.demand, headers, exchange).map_err(|denial| {
        exchange.because(Cause::of(denial, headers, &policy.prefix).as_str());
        Refusal::of_denial(denial, &route.demand)
    })?;
    exchange.called_by(&caller, &worker.streams, since);
    admit(policy, size)?;
    // Last: who is refused for something else is in nobody's way.
    if !exchange.charge(&caller) {
        return Err(match caller {
            Caller::Key(_) => Refusal::TooManyOfKey,
            // The others without a key are no one that the client is.
            Caller::Anonymous => Refusal::Overloaded,
        });
    }
    Ok(Admitted {
        target,
        route,
        caller,
    })
}

/// Whether a key stands in `Host`: it is part of the URL too, and origins are told it. Looked at as it was sent, for keys of
/// other systems may differ by case alone.
fn has_key_in_host(worker: &Worker, policy: &Policy, head: &RequestHead) -> bool {
    static HOST: HeaderName = header::HOST;
    head.headers.get(&HOST).is_some_and(|host| {
        token::contains_own_form(host.as_bytes(), &policy.prefix)
            || worker.keys.has_foreign_in_header(host.as_bytes())
    })
}

/// Which route, and so which policy and which upstream, the request falls under.
fn route<'a>(
    policy: &'a Policy,
    request: &Request,
    target: &Target,
    address: ClientAddress,
) -> Result<&'a Arc<Route>, Refusal> {
    let find = |host| policy.routes.find(request.method(), host, target.path());
    let found = find(target.host());
    // What a trusted proxy says is passed on, so an origin may read this host in place of `Host`.
    if found.is_ok() && policy.routes.depend_on_host() && address.through_trusted_proxy {
        let agree = headers::forwarded_hosts(request.head().headers()).all(|host| {
            host.is_some_and(|host| {
                // What is no host, origins could read as any.
                (host.is_empty() || is_host(host.as_bytes())) && is_same(&find(host), &found)
            })
        });
        if !agree {
            return Err(Refusal::BadRequest(
                "X-Forwarded-Host is no host, or one of another route than Host",
            ));
        }
    }
    match found {
        Ok(route) if route.allow_ambiguous_path => return Ok(route),
        Ok(_) | Err(_) => target.check_path()?,
    }
    found.map_err(|none| match none {
        NoRoute::NotFound => Refusal::NoRoute,
        NoRoute::MethodNotAllowed(methods) => Refusal::MethodNotAllowed(methods),
        NoRoute::Ambiguous => {
            Refusal::AmbiguousPath("servers that read it otherwise find it under another route")
        }
    })
}

/// Whether the keys are loaded, and no older than they may be.
fn is_current(worker: &Worker, policy: &Policy) -> bool {
    let is_stale = policy
        .max_staleness
        .is_some_and(|most| worker.feed.is_older_than(most));
    worker.keys.is_loaded() && !is_stale
}

/// Who is calling, and whether they are let in. A key that is there has to be valid, also where none is needed.
fn caller(
    worker: &Worker,
    policy: &Policy,
    demand: &Demand,
    headers: &HeaderMap,
    exchange: &mut Exchange,
) -> Result<Caller, Denial> {
    match api_key::authenticate(headers, &worker.keys, &policy.prefix) {
        Ok(key) => {
            let (now, address) = (UnixMillis::from(exchange.at()), exchange.address().client);
            exchange.presented(&key);
            demand.admits(&key, now, Some(address))?;
            Ok(Caller::Key(key))
        }
        Err(Denial::Missing) => demand.admits_anonymous().map(|()| Caller::Anonymous),
        Err(denial) => Err(denial),
    }
}

/// Whether there is room for the request.
fn admit(policy: &Policy, size: BodySize) -> Result<(), Refusal> {
    match size {
        BodySize::Sized(bytes) if bytes > policy.max_body_bytes => {
            Err(Refusal::BodyTooLarge(policy.max_body_bytes))
        }
        _ => Ok(()),
    }
}

/// The request as the origin gets it. Takes the client's headers: they are moved, not copied.
fn for_origin(
    worker: &Worker,
    policy: &Policy,
    exchange: &Exchange,
    request: &mut Request,
    target: &Target,
    route: &Route,
    caller: &Caller,
) -> RequestHead {
    let mut head = RequestHead::default();
    head.method = request.method().clone();
    head.uri = target.to_uri();
    ForOrigin {
        secret: &policy.secret,
        caller,
        forward_metadata: route.forward_metadata,
        host: target
            .host
            .as_ref()
            .filter(|_| route.preserve_host)
            .unwrap_or(route.upstream.targets()[0].url().host()),
        client_host: target.host.as_ref(),
        scheme: &policy.scheme,
        address: exchange.address(),
        proxy_headers: &policy.proxy_headers,
        prefix: &policy.prefix,
        keys: &worker.keys,
        request_id: exchange.request_id(),
    }
    .fill(request.headers_mut(), &mut head.headers);
    head
}

/// Whether a key stands in what a client says of leaving HTTP.
fn holds_key(worker: &Worker, policy: &Policy, head: &RequestHead, protocol: &HeaderValue) -> bool {
    let authorization = head.headers.get(header::AUTHORIZATION);
    PresentedKey::new(&policy.prefix, &worker.keys, authorization).is_in(&header::UPGRADE, protocol)
}

/// The answer as the caller gets it.
fn for_caller(
    mut answer: Answer,
    policy: &Policy,
    exchange: &Exchange,
    route: &Route,
    caller: &Caller,
) -> Answer {
    let headers = answer.response.headers_mut();
    let protocol = headers.get(header::UPGRADE).cloned();
    if for_client(headers, &policy.secret_finder, exchange.request_id()) {
        exchange.leaked_secret();
    }
    if route.rewrite_location {
        for target in route.upstream.targets() {
            location::rewrite(headers, target.url().host());
        }
    }
    if let Caller::Key(key) = caller {
        tell_end(headers, key);
    }
    // Also without a key: with one, which may be wrong, the answer would have been another.
    vary::add(headers, &api_key::KEY_HEADERS);
    if let Some(protocol) = protocol {
        upgrade::mark_switched(&mut answer.response, protocol);
    }
    answer
}

/// Tells the holder of a key that is to be replaced since when (RFC 9745) and until when it is good (RFC 8594).
fn tell_end(headers: &mut HeaderMap, key: &KnownKey) {
    let Some(since) = key.deprecated_at() else {
        return;
    };
    if let Ok(since) = HeaderValue::try_from(format!("@{}", since.0.div_euclid(1000))) {
        headers.insert(HeaderName::from_static("deprecation"), since);
    }
    if let Some(end) = key.expires_at().and_then(|end| {
        HeaderValue::try_from(HttpDate::from(SystemTime::from(end)).to_string()).ok()
    }) {
        headers.insert(HeaderName::from_static("sunset"), end);
    }
}

/// What the client is told of a failure; the operator is told its cause.
fn refuse(exchange: &mut Exchange, route: &Route, request: &Request, failed: &Failed) -> Refusal {
    exchange.failed(route, failed);
    if let (Failure::ClientBody(_), Some(fault)) = (&failed.failure, client_fault(request)) {
        exchange.because(fault.to_string());
    }
    match &failed.failure {
        Failure::ClientBody(BodyFault::TooLarge(limit)) => Refusal::BodyTooLarge(*limit),
        Failure::ClientBody(BodyFault::Broken) => match client_fault(request) {
            Some(ClientFault::BodyStalled | ClientFault::BodyTooSlow) => Refusal::BodyTimeout,
            _ => Refusal::BodyBroken,
        },
        Failure::Unreachable(_) => Refusal::OriginUnreachable,
        Failure::TimedOut(_) => Refusal::OriginTimeout,
        Failure::BadAnswer(_) => Refusal::OriginBadAnswer,
        Failure::RejectedGateway(_) => Refusal::OriginRejectedGateway,
        Failure::Overloaded | Failure::OutOfSockets(_) => Refusal::Overloaded,
    }
}

/// What the guarded stream found wrong with the client's bytes.
fn client_fault(request: &Request) -> Option<ClientFault> {
    client_control(request).and_then(|control| control.fault())
}

/// The guarded stream beneath the request.
fn client_control(request: &Request) -> Option<Rc<ClientControl>> {
    request.conn_data::<Rc<ClientControl>>().cloned()
}

/// The length that the client announced; the parser has refused whatever contradicts itself.
fn body_size(head: &RequestHead, payload: &Payload) -> BodySize {
    static CONTENT_LENGTH: HeaderName = header::CONTENT_LENGTH;
    let length = head
        .headers
        .get(&CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.trim().parse().ok());
    match (length, payload) {
        (Some(length), _) => BodySize::Sized(length),
        (None, Payload::None) => BodySize::None,
        (None, _) => BodySize::Stream,
    }
}
