//! The answer to load balancers that ask the public listener whether it takes requests: without a key, a route or an origin.

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

/// What is answered while the gateway takes requests.
const WELL: &str = "{\"status\":\"ok\"}\n";

/// Whether the request is a health check, by its path alone: nothing that asks for this path is routed.
pub(super) fn is_asked(policy: &Policy, request: &Request) -> bool {
    let path = policy.health_path.as_ref();
    path.is_some_and(|path| path.as_str() == request.uri().path())
}

/// Says that requests are taken.
///
/// # Errors
/// They are not, or the request is none that could have been routed.
pub(super) fn check(
    worker: &Worker,
    policy: &Policy,
    exchange: &Exchange,
    request: &Request,
    size: BodySize,
) -> Result<Response<EitherBody<OriginBody, BoxBody>>, Refused> {
    // Held to what every request is held to, so that nothing can be learned or smuggled by way of this path.
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
    let mut response = Response::ok().set_body(EitherBody::right(BoxBody::new(WELL)));
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
