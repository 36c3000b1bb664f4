//! Facts taken from the request head before any stage runs: client address, request id, and a
//! loggable method and path.

use std::rc::Rc;
use std::time::Instant;

use actix_http::body::BodySize;
use actix_http::header::{self, HeaderMap, HeaderName};
use actix_http::{Method, Payload, Request, RequestHead};

use crate::front::client_stream::ClientControl;
use crate::http::client_address::ClientAddress;
use crate::http::request_id::RequestId;
use crate::http::shown_path::ShownPath;
use crate::keys::UnixMillis;
use crate::pipeline::worker::{Policy, Worker};
use crate::proxy::headers::REQUEST_ID;
use crate::wire::clock::now;

/// A request whose head has arrived.
pub(super) struct Arrival {
    /// Arrival time by the wall clock.
    pub(super) at: UnixMillis,
    /// Start of the latency measurement (monotonic).
    pub(super) begun: Instant,
    pub(super) request_id: RequestId,
    /// Client and peer address.
    pub(super) address: ClientAddress,
    /// Method as logs may show it.
    pub(super) method: Method,
    /// Path as logs and refusals may show it.
    pub(super) path: ShownPath,
    /// Guarded stream of the connection.
    pub(super) client: Option<Rc<ClientControl>>,
}

impl Arrival {
    /// Assigns a request id and determines the client address.
    #[must_use]
    pub(super) fn of(
        request: &Request,
        worker: &Worker,
        policy: &Policy,
        client: Option<&Rc<ClientControl>>,
    ) -> Self {
        let headers = request.head().headers();
        let request_id = worker.request_ids.identify(headers, &policy.prefix);
        // A client may send a foreign key as its request id or method.
        let is_key = headers.contains_key(&REQUEST_ID)
            && worker.keys.has_foreign_in(request_id.as_str().as_bytes());
        let arrival = Self {
            at: UnixMillis::now(),
            begun: now().into_std(),
            request_id: if is_key {
                worker.request_ids.make()
            } else {
                request_id
            },
            address: ClientAddress::identify(request.peer_addr(), headers, &policy.trusted_proxies),
            method: if is_method(request.method()) {
                request.method().clone()
            } else {
                unknown()
            },
            path: ShownPath::of(request.uri(), &policy.prefix, &worker.keys),
            client: client.cloned(),
        };
        if let Some(client) = &arrival.client {
            client.begin_request(&arrival.request_id);
        }
        arrival
    }

    /// Facts about a client whose request is malformed.
    #[must_use]
    pub(super) fn malformed(client: &ClientControl, worker: &Worker) -> Self {
        Self {
            at: UnixMillis::now(),
            begun: now().into_std(),
            request_id: worker.request_ids.make(),
            address: ClientAddress::identify(client.peer(), &HeaderMap::new(), &[]),
            method: unknown(),
            path: ShownPath::Plain(String::new()),
            client: None,
        }
    }
}

/// Placeholder for a method that is not shown.
fn unknown() -> Method {
    Method::from_bytes(b"UNKNOWN").unwrap_or_default()
}

/// Whether the text has the form of a registered method: capital letters, 17 at most.
fn is_method(method: &Method) -> bool {
    let method = method.as_str();
    method.len() <= 17
        && method
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'-')
}

/// Announced length of the body; the parser has already refused contradictory framing.
pub(super) fn body_size(head: &RequestHead, payload: &Payload) -> BodySize {
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
