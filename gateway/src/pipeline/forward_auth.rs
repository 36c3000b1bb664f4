//! Forward-auth: decides about a subrequest of another proxy and returns the identity headers.

use actix_http::body::{BodySize, BoxBody, EitherBody};
use actix_http::header::{self, HeaderValue};
use actix_http::{Payload, Request, Response, StatusCode};

use crate::limits::Purpose;
use crate::panics::catch_panic_sync;
use crate::pipeline::arrival::body_size;
use crate::pipeline::heads::announce_end;
use crate::pipeline::record::Exchange;
use crate::pipeline::record::body::RecordedBody;
use crate::pipeline::{Admitted, Worker, decide};
use crate::proxy::headers::{REQUEST_ID, set_whole_identity};

/// Answers a forward-auth subrequest: runs every stage before `forward` and returns all identity
/// headers, empty ones included. Records the request like any other.
pub fn authorize_external(worker: &Worker, request: &Request) -> Response<RecordedBody> {
    let policy = worker.policy.load_full();
    let mut exchange = Exchange::begin(worker, &policy, request, None);
    let size = body_size(request.head(), &Payload::None);
    let decide = || decide(worker, &policy, &mut exchange, request, size, Purpose::Take);
    let admitted = catch_panic_sync(decide);
    let Admitted { route, caller, .. } =
        match admitted.unwrap_or_else(|panicked| Err(exchange.panicked(&panicked))) {
            Ok(admitted) => admitted,
            Err(refused) => return exchange.refuse(refused, &policy.realm, BodySize::None),
        };
    let mut response = Response::with_body(StatusCode::OK, EitherBody::right(BoxBody::new(())));
    let headers = response.headers_mut();
    set_whole_identity(&caller, route.forward_metadata, headers);
    headers.insert(REQUEST_ID.clone(), exchange.request_id().header_value());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    announce_end(headers, &caller);
    exchange.record(response)
}
