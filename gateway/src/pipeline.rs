//! The life of a request, stage by stage:
//!
//! ```text
//! identify ─► route ─► authenticate ─► authorise ─► own rules ─► admit ─► limit ─► forward ─► record
//! ```
//!
//! Each stage takes what earlier stages have proven and returns its own proof or a refusal. No
//! stage waits for a database, takes a lock that I/O can hold or calls an earlier one.

mod arrival;
mod authorising;
mod brake;
mod expecting;
pub mod forward_auth;
mod handler;
mod heads;
mod health;
pub mod in_flight;
mod limiting;
mod locating;
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
use actix_http::{ConnectionType, Payload, Request, Response, Version};

use crate::auth::credential::Verifiers;
use crate::auth::{Caller, CallerTag};
use crate::front::client_stream::ClientControl;
use crate::http::refusal::Refusal;
use crate::http::shown_path::ShownPath;
use crate::http::target::Target;
use crate::http::upgrade::Upgrade;
use crate::limits::Purpose;
use crate::panics::{catch_panic, catch_panic_sync};
use crate::pipeline::arrival::body_size;
use crate::pipeline::authorising::{
    authorise, credentials, has_token_in_url, keep_query, removed_credentials,
};
use crate::pipeline::heads::{for_caller, for_origin, holds_key};
use crate::pipeline::limiting::{give_back, hold, limit, limit_with_leases};
use crate::pipeline::locating::locate;
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
use crate::proxy::plain_answer::PlainRules;
use crate::proxy::retry::{ForwardedResponse, HostHeader};
use crate::proxy::upgrade::{self, Client};
use crate::routes::Route;

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
