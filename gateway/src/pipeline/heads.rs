//! Message heads in transit: the request head for the origin, the response head for the caller.

use std::time::SystemTime;

use actix_http::Request;
use actix_http::header::{self, HeaderMap, HeaderName, HeaderValue, HttpDate};

use crate::auth::Caller;
use crate::auth::key_sources::Credentials;
use crate::http::target::Target;
use crate::pipeline::authorising::removed_credentials;
use crate::pipeline::record::Exchange;
use crate::pipeline::worker::{Policy, Worker};
use crate::proxy::body::OriginBody;
use crate::proxy::headers::{ForOrigin, REQUEST_ID, for_client};
use crate::proxy::origin_head::OriginHead;
use crate::proxy::presented_key::PresentedKey;
use crate::proxy::retry::ForwardedResponse;
use crate::proxy::upstream::Proof;
use crate::proxy::{location, upgrade, vary};
use crate::routes::Route;

/// Writes the request head for the origin. `upgrade` is the protocol that the client may ask for.
#[expect(
    clippy::too_many_arguments,
    reason = "all that decides on a head, from as many places"
)]
pub(super) fn for_origin(
    worker: &Worker,
    policy: &Policy,
    exchange: &Exchange,
    request: &Request,
    target: &Target,
    route: &Route,
    caller: &Caller,
    upgrade: Option<&HeaderValue>,
) -> OriginHead {
    let head = decides_on_head(worker, policy, exchange, request, target, route, caller);
    let head = head.write(
        request.method(),
        &route.mapping().to_origin(target.path_and_query.as_str()),
        request.head().headers(),
        exchange.own_headers(),
        upgrade,
    );
    let shape = route.shape.as_ref();
    head.limited_by(shape.and_then(|shape| shape.limits(policy.pool.limits)))
}

/// What decides on the head for the origin.
pub(super) fn decides_on_head<'r>(
    worker: &'r Worker,
    policy: &'r Policy,
    exchange: &'r Exchange,
    request: &'r Request,
    target: &'r Target,
    route: &'r Route,
    caller: &'r Caller,
) -> ForOrigin<'r> {
    ForOrigin {
        secret: match route.proof() {
            Proof::Shared => Some(policy.secret.as_bytes()),
            Proof::Own(secret) => Some(secret.expose()),
            Proof::Withheld => None,
        },
        caller,
        forward_metadata: route.forward_metadata,
        host: target
            .host
            .as_ref()
            .filter(|_| route.preserve_host)
            .unwrap_or(route.upstream.targets()[0].url().host()),
        client_host: target.host.as_ref(),
        stripped: route.mapping().stripped,
        edits: route.shape.as_ref().map(|shape| &shape.request_headers),
        scheme: &policy.scheme,
        address: exchange.address(),
        proxy_headers: &policy.proxy_headers,
        own_headers: &policy.own_rules.kept_back,
        credentials: removed_credentials(exchange, request, route),
        claims: policy.issuers.forwarded_names(),
        prefix: &policy.prefix,
        keys: &worker.keys,
        request_id: exchange.request_id(),
    }
}

/// Whether the `Upgrade` protocol contains a key.
pub(super) fn holds_key(
    worker: &Worker,
    policy: &Policy,
    credentials: &Credentials<'_>,
    caller: &Caller,
    protocol: &HeaderValue,
) -> bool {
    let presented = credentials.of(caller);
    PresentedKey::new(&policy.prefix, &worker.keys, presented.as_deref())
        .is_in(&header::UPGRADE, protocol)
}

/// Builds the response for the caller.
pub(super) fn for_caller(
    mut answer: ForwardedResponse,
    worker: &Worker,
    policy: &Policy,
    exchange: &Exchange,
    route: &Route,
    caller: &Caller,
) -> ForwardedResponse {
    if answer.response.body().is_plain() {
        let id = exchange.request_id().as_bytes();
        announce_end(answer.response.headers_mut(), caller);
        let with_ours = |_: &mut _, body: OriginBody| {
            let mut body = body.with_line(REQUEST_ID.as_str(), id);
            exchange
                .told()
                .each_line(|name, value| body.add_line(name.as_str(), value.as_bytes()));
            body
        };
        answer.response = answer.response.map_body(with_ours);
        return answer;
    }
    let headers = answer.response.headers_mut();
    let protocol = headers.get(header::UPGRADE).cloned();
    if for_client(headers, &policy.secret_finder, exchange.request_id())
        && let Some(metrics) = worker.tally.metrics()
    {
        metrics.counts().secret_leaked.add(1);
    }
    if route.rewrite_location {
        let hosts = route.upstream.targets().iter();
        let hosts = hosts.map(|target| target.url().host());
        location::rewrite(headers, hosts, route.mapping());
    }
    if let Some(shape) = &route.shape {
        shape.response_headers.apply(headers);
    }
    announce_end(headers, caller);
    exchange.told().add_to(headers);
    // Also on a response to a request without a key: with a key, even a wrong one, it would differ.
    vary::add(headers, route.key_sources.headers());
    if let Some(protocol) = protocol {
        upgrade::mark_switched(&mut answer.response, protocol);
    }
    answer
}

/// Announces the end of a rolled key: `Deprecation` (RFC 9745) and `Sunset` (RFC 8594).
pub(super) fn announce_end(headers: &mut HeaderMap, caller: &Caller) {
    let Caller::Key(key) = caller else { return };
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
