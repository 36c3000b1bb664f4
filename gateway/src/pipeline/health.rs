//! Health check of the public listener for load balancers; needs no key, route or origin.

use actix_http::body::{BodySize, BoxBody, EitherBody};
use actix_http::header::{self, HeaderValue};
use actix_http::{Method, Request, Response};

use crate::http::refusal::Refusal;
use crate::http::shown_path::ShownPath;
use crate::http::target::Target;
use crate::pipeline::record::Exchange;
use crate::pipeline::refused::Refused;
use crate::pipeline::worker::{Policy, Worker};
use crate::proxy::body::OriginBody;

/// Body of a successful health check.
const HEALTHY_BODY: &str = "{\"status\":\"ok\"}\n";

/// Whether the path is the health path; such a request is never routed.
pub(super) fn is_health_check(policy: &Policy, request: &Request) -> bool {
    let path = policy.health_path.as_ref();
    path.is_some_and(|path| path.as_str() == request.uri().path())
}

/// Answers a health check: 200 while the gateway takes requests.
///
/// # Errors
/// [`Refusal::NotReady`], or the refusal that any malformed request gets.
pub(super) fn check(
    worker: &Worker,
    policy: &Policy,
    exchange: &Exchange,
    request: &Request,
    size: BodySize,
) -> Result<Response<EitherBody<OriginBody, BoxBody>>, Refused> {
    // Same checks as for every request, so that this path reveals and smuggles nothing.
    if *exchange.path() == ShownPath::HasKey {
        return Err(Refusal::KeyInUrl.into());
    }
    Target::identify(request.head())?;
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Refusal::MethodNotAllowed(vec![Method::GET, Method::HEAD]).into());
    }
    if !matches!(size, BodySize::None | BodySize::Sized(0)) {
        return Err(Refusal::BadRequest("a health check has no body").into());
    }
    if worker.drain.is_begun() {
        let cause = "the gateway is about to stop";
        return Err(Refused::because(Refusal::NotReady, cause));
    }
    if !worker.is_current(policy) {
        return Err(Refusal::NotReady.into());
    }
    let mut response = Response::ok().set_body(EitherBody::right(BoxBody::new(HEALTHY_BODY)));
    for (name, value) in [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}
