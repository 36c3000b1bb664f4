//! The life of a request, stage by stage:
//!
//! ```text
//! identify ─► route ─► authenticate ─► authorise ─► own rules ─► admit ─► limit ─► forward ─► record
//! ```
//!
//! Each stage takes what earlier stages have proven and returns its own proof or a refusal. No
//! stage waits for a database, takes a lock that I/O can hold or calls an earlier one.

mod arrival;
mod brake;
pub mod forward_auth;
mod handler;
mod heads;
mod health;
pub mod in_flight;
mod limiting;
mod observing;
pub mod open_streams;
mod own_rules;
mod policy;
mod preflight;
mod quotas;
pub mod record;
mod refused;
mod resource_metadata;
mod self_path;
pub mod unread;
mod worker;

use std::rc::Rc;
use std::sync::Arc;

use actix_http::body::{BodySize, BoxBody, EitherBody, MessageBody as _};
use actix_http::header::{self, HeaderMap, HeaderName};
use actix_http::{ConnectionType, Method, Payload, Request, RequestHead, Response, Version};

use crate::auth::credential::Verifiers;
use crate::auth::demand::{Attempt, Denial};
use crate::auth::key_sources::{Credentials, KeySources};
use crate::auth::{Caller, CallerTag, Proven};
use crate::front::client_stream::ClientControl;
use crate::http::client_address::ClientAddress;
use crate::http::refusal::Refusal;
use crate::http::shown_path::ShownPath;
use crate::http::target::{Target, is_host};
use crate::http::upgrade::Upgrade;
use crate::keys::token;
use crate::limits::Purpose;
use crate::panics::{catch_panic, catch_panic_sync};
use crate::pipeline::arrival::body_size;
use crate::pipeline::heads::{for_caller, for_origin, holds_key};
use crate::pipeline::limiting::{give_back, hold, limit, limit_with_leases};
pub(crate) use crate::pipeline::quotas::tell as tell_of_quotas;
use crate::pipeline::record::Exchange;
use crate::pipeline::record::body::RecordedBody;
use crate::pipeline::refused::Refused;
pub use crate::pipeline::worker::{Origins, Policy, Worker};
use crate::proxy::body::OriginBody;
use crate::proxy::body::RequestBody;
use crate::proxy::body_buffer::{Buffering, buffered};
use crate::proxy::failure::Failed;
use crate::proxy::forward::forward;
use crate::proxy::headers::forwarded_hosts;
use crate::proxy::plain_answer::PlainRules;
use crate::proxy::presented_key::PresentedKey;
use crate::proxy::retry::{ForwardedResponse, HostHeader};
use crate::proxy::upgrade::{self, Client};
use crate::routes::{NoRoute, Route, is_same};

/// Serves one request: runs the stages and records the outcome. A panic is answered as a refusal
/// and costs only this request and its connection.
pub async fn serve(
    worker: Rc<Worker>,
    mut request: Request,
    client: Rc<ClientControl>,
) -> Response<RecordedBody> {
    let policy = worker.policy.load_full();
    let mut exchange = Exchange::begin(&worker, &policy, &request, Some(&client));
    let mut payload = request.take_payload();
    if let Upgrade::To(_) = Upgrade::requested(request.head()) {
        // Bytes after an offer are no body, even if the offer is ignored (RFC 9110, section 7.8).
        payload = Payload::None;
    }
    let size = body_size(request.head(), &payload);
    let version = request.head().version;
    let served = if health::is_health_check(&policy, &request) {
        // Load balancers send these every few seconds: counted, but logged only when refused.
        health::check(&worker, &policy, &exchange, &request, size).inspect(|_| exchange.skip_log())
    } else if let Some(answer) = answer_here(&worker, &policy, &mut exchange, &request, size) {
        answer
    } else {
        let ran = run(
            &worker,
            &policy,
            &mut exchange,
            request,
            client,
            payload,
            size,
        );
        let answer = catch_panic(ran).await;
        let answer = answer.unwrap_or_else(|panicked| Err(exchange.panicked(&panicked)));
        answer.map(|answer| {
            exchange.end_origin_wait(answer.wait);
            answer.response.map_body(|_, body| EitherBody::left(body))
        })
    };
    let mut response = match served {
        Ok(response) => exchange.record(response),
        Err(refused) => exchange.refuse(refused, &policy.realm, size),
    };
    worker.drain.announce(&mut response);
    adapt_to(version, response)
}

/// Answers a preflight, a key that asks about itself, or a question about the issuers of a route;
/// `None` for other requests.
fn answer_here(
    worker: &Worker,
    policy: &Policy,
    exchange: &mut Exchange,
    request: &Request,
    size: BodySize,
) -> Option<Result<Response<EitherBody<OriginBody, BoxBody>>, Refused>> {
    let answer = catch_panic_sync(|| {
        preflight::answer(worker, policy, exchange, request, size)
            .or_else(|| self_path::answer(worker, policy, exchange, request, size))
            .or_else(|| resource_metadata::answer(worker, policy, exchange, request, size))
    });
    answer.unwrap_or_else(|panicked| Some(Err(exchange.panicked(&panicked))))
}

/// Adapts the response to the client's HTTP version. HTTP/1.0 has no chunked coding, so closing the
/// connection ends a body of unknown length (RFC 9112, sections 6.1 and 6.3).
fn adapt_to(version: Version, mut response: Response<RecordedBody>) -> Response<RecordedBody> {
    if version < Version::HTTP_11 && response.body().size() == BodySize::Stream {
        response.head_mut().no_chunking(true);
        response
            .head_mut()
            .set_connection_type(ConnectionType::Close);
    }
    response
}

/// Decides whether a client that sent `Expect: 100-continue` (RFC 9110, section 10.1.1) may send
/// its body.
///
/// # Errors
/// The response of a refused request; its body must not be sent.
pub fn expect(
    worker: &Worker,
    request: Request,
    client: &Rc<ClientControl>,
) -> Result<Request, Box<Response<RecordedBody>>> {
    let policy = worker.policy.load_full();
    let mut exchange = Exchange::begin(worker, &policy, &request, Some(client));
    let size = body_size(request.head(), &Payload::None);
    let admitted = catch_panic_sync(|| {
        if health::is_health_check(&policy, &request) {
            health::check(worker, &policy, &exchange, &request, size).map(drop)
        } else {
            // The same request is decided again with its body, and counts then.
            let purpose = Purpose::Look;
            decide(worker, &policy, &mut exchange, &request, size, purpose).map(drop)
        }
    });
    match admitted.unwrap_or_else(|panicked| Err(exchange.panicked(&panicked))) {
        Ok(()) => {
            exchange.discard();
            Ok(request)
        }
        Err(refused) => Err(Box::new(exchange.refuse(
            refused,
            &policy.realm,
            BodySize::Stream,
        ))),
    }
}

async fn run(
    worker: &Worker,
    policy: &Policy,
    exchange: &mut Exchange,
    request: Request,
    client: Rc<ClientControl>,
    payload: Payload,
    size: BodySize,
) -> Result<ForwardedResponse, Refused> {
    let Admitted {
        target,
        route,
        caller,
        is_pending,
    } = decide(worker, policy, exchange, &request, size, Purpose::Take)?;
    if is_pending {
        // Boxed: waits are rare, and every request future would reserve the space.
        Box::pin(wait_for_units(worker, policy, route, &caller, exchange)).await?;
    }
    let upgrade = match Upgrade::requested(request.head()) {
        // Offers that the route does not name are ignored.
        Upgrade::To(protocol) if !route.upgrades.iter().any(|one| one.is(&protocol)) => None,
        // No protocol has a name that contains a key.
        Upgrade::To(protocol)
            if holds_key(
                worker,
                policy,
                &removed_credentials(exchange, &request, route),
                &caller,
                &protocol,
            ) =>
        {
            None
        }
        Upgrade::To(protocol) => Some(protocol),
        Upgrade::No | Upgrade::Malformed => None,
    };
    let offers_plain = route
        .key_sources
        .offer_plain_subprotocol(request.head().headers());
    let head = for_origin(
        worker,
        policy,
        exchange,
        &request,
        &target,
        route,
        &caller,
        upgrade.as_ref(),
    );
    // A client of HTTP/1.0 gets another framing, one of HTTP/2 other lines, and a page other
    // headers.
    let is_plain =
        request.version() == Version::HTTP_11 && route.cors.is_none() && !route.edits_answers();
    let plain = is_plain.then_some(PlainRules {
        secret: &policy.secret_finder,
        vary: route.key_sources.headers(),
        rewrites_location: route.rewrite_location,
    });
    // Freed before the response arrives, so that the next request can reuse the allocation.
    drop(request);
    let host = if route.preserve_host {
        HostHeader::Kept
    } else {
        HostHeader::OfTarget
    };
    exchange.begin_origin_wait();
    let origins = worker.origins.with(&policy.pool);
    let tag = CallerTag::of(&caller, exchange.address().client);
    let answer = if let Some(protocol) = upgrade {
        let progress = Rc::default();
        exchange.track_body(Rc::clone(&progress));
        let client = Client {
            caller: tag,
            control: client,
            protocol,
            progress,
            idle_timeout: policy.tunnel_idle_timeout,
        };
        // Boxed: upgrades are rare, and every request future would reserve the space.
        let opening = Box::pin(upgrade::open(&origins, &route.upstream, host, head, client));
        exchange.while_admitted(opening).await
    } else {
        let buffering = buffering(policy, route, size);
        let most = buffering.as_ref().map_or_else(
            || route.max_body_bytes(policy.max_body_bytes),
            |buffering| buffering.body,
        );
        let body = RequestBody::new(payload, size, most);
        exchange.track_body(body.progress());
        let body = match buffering {
            None => Ok(Ok(body)),
            Some(buffering) => {
                // Boxed: few routes buffer, and every request future would reserve the space.
                let reading = Box::pin(async move { buffered(body, &buffering).await });
                let read = exchange.while_admitted(reading).await;
                exchange.begin_origin_wait();
                read.map(|read| read.map(RequestBody::buffered))
            }
        };
        match body {
            Ok(Ok(body)) => {
                let upstream = &route.upstream;
                exchange
                    .while_admitted(forward(&origins, upstream, host, tag, head, body, plain))
                    .await
            }
            Ok(Err(failure)) => Ok(Err(Failed {
                failure,
                attempts: Vec::new(),
            })),
            Err(withdrawal) => Err(withdrawal),
        }
    };
    let answer = answer.map_err(|withdrawal| Refused::withdrawn(withdrawal, route))?;
    let answer = answer.map_err(|failed| {
        exchange.fail_origin_wait(&failed.failure);
        if failed.is_no_work_of_the_origin() {
            give_back(policy, route, &caller, exchange);
        }
        exchange.log_failure(route, &failed);
        Refused::not_forwarded(&failed.failure, exchange.client_fault())
    })?;
    exchange.log_attempts(route, &answer.failed);
    if route.edits_answers() {
        // It stays a stream, whatever type the route gives it.
        exchange.note_stream(answer.response.head());
    }
    let mut answer = for_caller(answer, worker, policy, exchange, route, &caller);
    if offers_plain {
        upgrade::agree_to_plain_subprotocol(&mut answer.response);
    }
    Ok(answer)
}

/// How the route buffers a body of this announced size; `None` if it streams.
fn buffering(policy: &Policy, route: &Route, size: BodySize) -> Option<Buffering> {
    let body = route.shape.as_ref()?.buffered_bytes?;
    (size == BodySize::Stream).then(|| Buffering {
        room: Arc::clone(&policy.buffers),
        most: policy.max_buffered_bytes,
        body,
    })
}

/// Waits for units of an exact limit, then runs the stages that follow it.
async fn wait_for_units(
    worker: &Worker,
    policy: &Policy,
    route: &Route,
    caller: &Caller,
    exchange: &mut Exchange,
) -> Result<(), Refused> {
    limit_with_leases(policy, route, caller, exchange).await?;
    quotas::reserve(worker, policy, route, caller, exchange, Purpose::Take)
        .inspect_err(|_| give_back(policy, route, caller, exchange))
}

/// A request that passed every check.
struct Admitted<'a> {
    target: Target,
    route: &'a Arc<Route>,
    caller: Caller,
    /// Whether it has yet to wait for units of an exact limit.
    is_pending: bool,
}

/// Runs the deciding stages in order, `identify` to `limit`.
fn decide<'a>(
    worker: &Worker,
    policy: &'a Policy,
    exchange: &mut Exchange,
    request: &Request,
    size: BodySize,
    purpose: Purpose,
) -> Result<Admitted<'a>, Refused> {
    let Entered {
        target,
        route,
        caller,
    } = enter(worker, policy, exchange, request, size, purpose)?;
    let is_pending = limit(policy, route, &caller, exchange, purpose)?;
    if !is_pending {
        quotas::reserve(worker, policy, route, &caller, exchange, purpose)
            .inspect_err(|_| give_back(policy, route, &caller, exchange))?;
    }
    Ok(Admitted {
        target,
        route,
        caller,
        is_pending,
    })
}

/// A request that passed every check but those of limits and quotas.
struct Entered<'a> {
    target: Target,
    route: &'a Arc<Route>,
    caller: Caller,
}

/// Runs the deciding stages in order, `identify` to `admit`.
fn enter<'a>(
    worker: &Worker,
    policy: &'a Policy,
    exchange: &mut Exchange,
    request: &Request,
    size: BodySize,
    purpose: Purpose,
) -> Result<Entered<'a>, Refused> {
    // First of all: under overload a refusal must be cheap.
    exchange.answer_page(policy.cors.as_ref(), request.head().headers());
    exchange.hold_permit(worker.in_flight.enter().ok_or(Refusal::Overloaded)?);
    let (mut target, route) = locate(worker, policy, exchange, request, request.method())?;
    exchange.set_route(route, target.host.as_ref());
    exchange.answer_page(route.cors.as_ref(), request.head().headers());
    if !worker.is_current(policy) {
        return Err(Refusal::NotReady.into());
    }
    // Where nobody is refused, there is nothing to brake.
    let observes = route.auth.observe();
    let is_counted = observes || brake::check(worker, policy, exchange, request.head().headers())?;
    let (since, credentials) = (worker.streams.generation(), credentials(request, route));
    let address = exchange.address().client;
    let verifiers = Verifiers {
        methods: &route.auth,
        buckets: &route.demand.buckets,
        keys: &worker.keys,
        prefix: &policy.prefix,
        issuers: &policy.issuers,
        now: exchange.at(),
        may_verify: &|| brake::may_verify(worker, policy, address),
    };
    let presented = verifiers.authenticate(&credentials);
    let caller = authorise(presented, route, exchange).or_else(|denial| {
        if observes {
            return Ok(observing::pass(
                policy,
                exchange,
                route,
                &credentials,
                denial,
            ));
        }
        let (address, headers) = (exchange.address(), request.head().headers());
        let metadata = resource_metadata::url(policy, address, headers, &target, route);
        exchange.set_resource_metadata(metadata);
        let refused = Refused::denied(denial, route, &credentials, &policy.prefix);
        if is_counted {
            return Err(refused);
        }
        let counted = brake::count(worker, policy, exchange, &credentials, denial, refused);
        Err(counted)
    })?;
    if observes && purpose == Purpose::Take {
        observing::count(worker, exchange, route, request.head().headers());
    }
    if exchange.passes_credential() {
        keep_query(worker, policy, request, route, &mut target);
    }
    if exchange.has_proven() {
        exchange.set_key_place(credentials.place());
    }
    if let Caller::Token(_) = &caller
        && has_token_in_url(worker, policy, request, &credentials, &caller)
    {
        exchange.show_path(ShownPath::HasKey);
        return Err(Refusal::KeyInUrl.into());
    }
    exchange.watch(&worker.streams, since);
    own_rules::check(worker, policy, exchange, request, &target, route, &caller)?;
    let max_body_bytes = route.max_body_bytes(policy.max_body_bytes);
    admit(max_body_bytes, exchange, &caller, size)?;
    hold(worker, policy, route, &caller, exchange)?;
    Ok(Entered {
        target,
        route,
        caller,
    })
}

/// Where the credential of `request` may stand on `route`.
fn credentials<'r>(request: &'r Request, route: &'r Route) -> Credentials<'r> {
    Credentials {
        sources: &route.key_sources,
        headers: request.head().headers(),
        query: request.uri().query(),
    }
}

/// Where a credential may stand that is kept from the origin. On a route that observes, one that is
/// none of ours may be the origin's, and stays.
fn removed_credentials<'r>(
    exchange: &Exchange,
    request: &'r Request,
    route: &'r Route,
) -> Credentials<'r> {
    let credentials = credentials(request, route);
    if !exchange.passes_credential() {
        return credentials;
    }
    Credentials {
        sources: KeySources::none(),
        ..credentials
    }
}

/// Puts the query back as the client sent it, unless a key of ours is in it.
fn keep_query(
    worker: &Worker,
    policy: &Policy,
    request: &Request,
    route: &Route,
    target: &mut Target,
) {
    if !route.key_sources.read_query() {
        return;
    }
    let shown = ShownPath::of(request.uri(), &policy.prefix, &worker.keys);
    if let Some(sent) = request.uri().path_and_query()
        && shown != ShownPath::HasKey
        && sent.path() == target.path()
    {
        target.path_and_query = sent.clone();
    }
}

/// Identifies a request, and routes it with `method`. Refuses a key in the URL, except in the query
/// parameter that the route takes keys from; the returned target is without it.
fn locate<'a>(
    worker: &Worker,
    policy: &'a Policy,
    exchange: &mut Exchange,
    request: &Request,
    method: &Method,
) -> Result<(Target, &'a Arc<Route>), Refusal> {
    let has_key = *exchange.path() == ShownPath::HasKey;
    if has_key && !policy.routes.read_queries() {
        return Err(Refusal::KeyInUrl);
    }
    let located = identify(worker, policy, request.head()).and_then(|mut target| {
        let headers = request.head().headers();
        let route = route(policy, method, headers, &target, exchange.address())?;
        if route.key_sources.read_query() {
            let stripped = route.key_sources.strip_target(&target.path_and_query);
            target.path_and_query =
                stripped.map_err(|_| Refusal::BadRequest("the target is not a path"))?;
        }
        Ok((target, route))
    });
    if has_key {
        // Whatever else is wrong with the request, its sender has to hear of this.
        let (target, _) = located.as_ref().map_err(|_| Refusal::KeyInUrl)?;
        let shown = ShownPath::of(&target.to_uri(), &policy.prefix, &worker.keys);
        if shown == ShownPath::HasKey {
            return Err(Refusal::KeyInUrl);
        }
        exchange.show_path(shown);
    }
    located
}

/// Parses the request target and refuses a key in the host.
fn identify(worker: &Worker, policy: &Policy, head: &RequestHead) -> Result<Target, Refusal> {
    let target = Target::identify(head)?;
    if has_key_in_host(worker, policy, head) {
        return Err(Refusal::KeyInUrl);
    }
    Ok(target)
}

/// Whether `Host` contains a key; `Host` is part of the URL and reaches the origin. Compares the
/// raw bytes: foreign keys may differ by case alone.
fn has_key_in_host(worker: &Worker, policy: &Policy, head: &RequestHead) -> bool {
    static HOST: HeaderName = header::HOST;
    head.headers.get(&HOST).is_some_and(|host| {
        token::contains_key(host.as_bytes(), &policy.prefix)
            || worker.keys.has_foreign_in_header(host.as_bytes())
    })
}

/// Selects the route, and with it policy and upstream.
fn route<'a>(
    policy: &'a Policy,
    method: &Method,
    headers: &HeaderMap,
    target: &Target,
    address: ClientAddress,
) -> Result<&'a Arc<Route>, Refusal> {
    let find = |host| policy.routes.find(method, host, target.path());
    let found = find(target.host());
    // Forwarding headers of a trusted proxy are passed on: an origin may prefer this host to
    // `Host`.
    if found.is_ok() && policy.routes.depend_on_host() && address.through_trusted_proxy {
        let agree = forwarded_hosts(headers).all(|host| {
            host.is_some_and(|host| {
                // Origins may read an invalid host as any host.
                (host.is_empty() || is_host(host.as_bytes())) && is_same(&find(host), &found)
            })
        });
        if !agree {
            return Err(Refusal::BadRequest(
                "X-Forwarded-Host is not a host, or leads to another route than Host",
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
            Refusal::AmbiguousPath("another reading of it leads to another route")
        }
    })
}

/// Decides whether the presented credential admits its holder. One that is present must be valid,
/// even on routes that need none.
fn authorise(
    presented: Result<Proven, Denial>,
    route: &Route,
    exchange: &mut Exchange,
) -> Result<Caller, Denial> {
    let (demand, address) = (&route.demand, exchange.address().client);
    if let Ok(proven) = &presented {
        exchange.set_proven(proven);
    }
    match presented {
        Ok(Proven::Key(key)) => {
            let now = exchange.at();
            let attempt = Attempt {
                address: Some(address),
                method: Some(exchange.method().as_str()),
                route: Some(&route.name),
            };
            demand.admits(&key, now, &attempt)?;
            Ok(Caller::Key(key))
        }
        Ok(Proven::Token(holder)) => {
            demand.admits_token(&holder, Some(address))?;
            Ok(Caller::Token(holder))
        }
        Err(Denial::Missing) => demand.admits_anonymous().map(|()| Caller::Anonymous),
        Err(denial) => Err(denial),
    }
}

/// Whether the URL contains the token that the caller presented. Tokens of others may stand there:
/// some protocols send them so.
fn has_token_in_url(
    worker: &Worker,
    policy: &Policy,
    request: &Request,
    credentials: &Credentials<'_>,
    caller: &Caller,
) -> bool {
    let (url, token) = (request.uri().path_and_query(), credentials.of(caller));
    url.zip(token).is_some_and(|(url, token)| {
        url.as_str().len() >= token.len()
            && PresentedKey::new(&policy.prefix, &worker.keys, Some(&token))
                .is_in_value(url.as_str().as_bytes())
    })
}

/// Enforces the body limit and the share of the caller.
fn admit(
    max_body_bytes: u64,
    exchange: &mut Exchange,
    caller: &Caller,
    size: BodySize,
) -> Result<(), Refusal> {
    if let BodySize::Sized(bytes) = size
        && bytes > max_body_bytes
    {
        return Err(Refusal::BodyTooLarge(max_body_bytes));
    }
    // Last, so that a request refused for another reason takes no share.
    match caller {
        caller if exchange.charge(caller) => Ok(()),
        Caller::Key(_) | Caller::Token(_) => Err(Refusal::TooManyOfKey),
        // Anonymous requests share one limit; the client may not have caused the overload.
        Caller::Anonymous => Err(Refusal::Overloaded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, F: Future>(_: impl FnOnce(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// Each request in flight holds one future, moved to its box once.
    #[test]
    fn the_future_of_a_request_is_small() {
        let bytes = size_of_future(serve);
        println!("the future of a request: {bytes} bytes");
        assert!(bytes <= 2560, "{bytes} bytes");
    }
}
