//! The stages `identify` and `route`.

use std::sync::Arc;

use actix_http::header::{self, HeaderMap, HeaderName};
use actix_http::{Method, Request, RequestHead};

use crate::http::client_address::ClientAddress;
use crate::http::refusal::Refusal;
use crate::http::shown_path::ShownPath;
use crate::http::target::{Target, is_host};
use crate::keys::token;
use crate::pipeline::record::Exchange;
use crate::pipeline::worker::{Policy, Worker};
use crate::proxy::headers::forwarded_hosts;
use crate::routes::{NoRoute, Route, is_same};

/// Identifies a request, and routes it with `method`. Refuses a key in the URL, except in the query
/// parameter that the route takes keys from; the returned target is without it.
pub(super) fn locate<'a>(
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
