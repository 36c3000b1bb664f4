//! Preflights of browsers (WHATWG Fetch, section 3.3.2): answered without a key and without the
//! origin. They carry no credential, so they can pass no check.

use std::sync::Arc;

use actix_http::body::{BodySize, BoxBody, EitherBody};
use actix_http::header::{self, HeaderValue};
use actix_http::{Request, Response, StatusCode};

use crate::http::cors::{Cors, requested_method};
use crate::http::refusal::Refusal;
use crate::pipeline::locating::locate;
use crate::pipeline::record::Exchange;
use crate::pipeline::refused::Refused;
use crate::pipeline::worker::{Policy, Worker};
use crate::proxy::body::OriginBody;
use crate::proxy::headers::REQUEST_ID;

/// Answers a preflight by the route of the request that it announces, or by `[cors]` where there is
/// no route. `None` if the request is none, that route leaves CORS to its origin, or only `OPTIONS`
/// has a route.
pub(super) fn answer(
    worker: &Worker,
    policy: &Policy,
    exchange: &mut Exchange,
    request: &Request,
    size: BodySize,
) -> Option<Result<Response<EitherBody<OriginBody, BoxBody>>, Refused>> {
    let answers_pages = policy.routes.answer_pages() || policy.cors.is_some();
    if !answers_pages || !matches!(size, BodySize::None | BodySize::Sized(0)) {
        return None;
    }
    let method = requested_method(request.head())?;
    let cors = match locate(worker, policy, exchange, request, &method) {
        Ok((target, route)) => {
            let cors = route.cors.as_ref()?;
            exchange.set_route(route, target.host.as_ref());
            cors
        }
        Err(refusal) if is_for_page(&refusal) => {
            let of_options = locate(worker, policy, exchange, request, request.method());
            policy.cors.as_ref().filter(|_| of_options.is_err())?
        }
        Err(_) => return None,
    };
    exchange.answer_page(Some(cors), request.head().headers());
    Some(allow(worker, exchange, request, cors).map_err(Refused::from))
}

/// Whether the refusal of the announced request is for the page to read; it never would without an
/// answer to its preflight.
fn is_for_page(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::NoRoute
            | Refusal::MethodNotAllowed(_)
            | Refusal::AmbiguousPath(_)
            | Refusal::KeyInUrl
    )
}

fn allow(
    worker: &Worker,
    exchange: &mut Exchange,
    request: &Request,
    cors: &Arc<Cors>,
) -> Result<Response<EitherBody<OriginBody, BoxBody>>, Refusal> {
    exchange.hold_permit(worker.in_flight.enter().ok_or(Refusal::Overloaded)?);
    let allowed = cors.answer_preflight(request.head().headers());
    exchange.set_page(allowed.map_err(Refusal::CorsRefused)?);
    let mut response =
        Response::with_body(StatusCode::NO_CONTENT, EitherBody::right(BoxBody::new(())));
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID.clone(), exchange.request_id().header_value());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
