//! Metadata of protected resources (RFC 9728): tells clients which issuers give tokens for a route.
//! Answered without a credential and without the origin, only for paths of routes that take tokens.

use actix_http::body::{BodySize, BoxBody, EitherBody};
use actix_http::header::{self, HeaderMap, HeaderValue};
use actix_http::{Method, Request, Response};
use serde::Serialize;

use crate::http::client_address::ClientAddress;
use crate::http::refusal::Refusal;
use crate::http::shown_path::ShownPath;
use crate::http::target::{KNOWN_METHODS, Target};
use crate::pipeline::record::Exchange;
use crate::pipeline::refused::Refused;
use crate::pipeline::worker::{Policy, Worker};
use crate::proxy::body::OriginBody;
use crate::proxy::headers::{REQUEST_ID, forwarded_base};
use crate::routes::Route;

/// Path below which the metadata is, with the path of the resource behind it (section 3.1).
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The metadata (section 2).
#[derive(Serialize)]
struct Metadata<'r> {
    resource: &'r str,
    authorization_servers: Vec<&'r str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes_supported: Vec<&'r str>,
    bearer_methods_supported: [&'static str; 1],
}

/// Answers a request for metadata; `None` for other requests, and where no route takes tokens.
pub(super) fn answer(
    worker: &Worker,
    policy: &Policy,
    exchange: &mut Exchange,
    request: &Request,
    size: BodySize,
) -> Option<Result<Response<EitherBody<OriginBody, BoxBody>>, Refused>> {
    let resource = request.uri().path().strip_prefix(WELL_KNOWN)?;
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD)
        && matches!(size, BodySize::None | BodySize::Sized(0));
    let is_path = resource.is_empty() || resource.starts_with('/');
    if !policy.routes.take_tokens() || !is_read || !is_path || *exchange.path() == ShownPath::HasKey
    {
        return None;
    }
    let target = Target::identify(request.head()).ok()?;
    let path = if resource.is_empty() { "/" } else { resource };
    let mut found = KNOWN_METHODS
        .iter()
        .filter_map(|method| policy.routes.find(method, target.host(), path).ok());
    let route = found.find(|route| route.auth.take_tokens())?;
    let url = base(
        policy,
        exchange.address(),
        request.head().headers(),
        &target,
    )?;
    exchange.set_route(route, target.host.as_ref());
    exchange.answer_page(route.cors.as_ref(), request.head().headers());
    let url = format!("{url}{resource}");
    Some(respond(worker, policy, exchange, route, &url).map_err(Refused::from))
}

fn respond(
    worker: &Worker,
    policy: &Policy,
    exchange: &mut Exchange,
    route: &Route,
    resource: &str,
) -> Result<Response<EitherBody<OriginBody, BoxBody>>, Refusal> {
    exchange.hold_permit(worker.in_flight.enter().ok_or(Refusal::Overloaded)?);
    let taken = policy.issuers.iter();
    let taken = taken.filter(|issuer| route.auth.take_tokens_of(issuer.name()));
    let metadata = Metadata {
        resource,
        // Others are the names of secrets that no server is behind.
        authorization_servers: taken
            .map(|issuer| &*issuer.rules().issuer)
            .filter(|issuer| issuer.starts_with("https://") || issuer.starts_with("http://"))
            .collect(),
        scopes_supported: route
            .demand
            .scopes
            .iter()
            .map(|scope| scope.as_str())
            .collect(),
        bearer_methods_supported: ["header"],
    };
    // Serializing strings cannot fail.
    let body = serde_json::to_string(&metadata).unwrap_or_default();
    let mut response = Response::ok().set_body(EitherBody::right(BoxBody::new(body)));
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID.clone(), exchange.request_id().header_value());
    for (name, value) in [
        (header::CONTENT_TYPE, "application/json"),
        // It depends on the host, and on settings that change.
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// URL of the metadata of the resource that a request asked for, for a challenge (section 5.1).
/// `None` where the route takes no tokens, or the URL does not fit a challenge.
pub(super) fn url(
    policy: &Policy,
    address: ClientAddress,
    headers: &HeaderMap,
    target: &Target,
    route: &Route,
) -> Option<Box<str>> {
    if !route.auth.take_tokens() {
        return None;
    }
    let path = match target.path() {
        "/" => "",
        path => path,
    };
    let url = format!(
        "{}{WELL_KNOWN}{path}",
        base(policy, address, headers, target)?
    );
    let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    url.bytes().all(fits).then(|| url.into())
}

/// Scheme and authority that clients know the gateway by: the setting, or those of the request. A
/// client that sends a host of its own choice misleads nobody else, since nothing is cached.
fn base(
    policy: &Policy,
    address: ClientAddress,
    headers: &HeaderMap,
    target: &Target,
) -> Option<String> {
    if let Some(url) = &policy.public_url {
        return Some(url.to_string());
    }
    let (scheme, host) = forwarded_base(headers, address);
    let scheme = scheme.or_else(|| policy.scheme.to_str().ok())?;
    let host = host.or_else(|| target.host.as_ref()?.to_str().ok())?;
    Some(format!("{scheme}://{host}"))
}
