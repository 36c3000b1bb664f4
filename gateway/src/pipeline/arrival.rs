//! What is known of a request by its head alone, before any stage decides: who sent it, its id, and what may be shown of it.

use std::rc::Rc;
use std::time::{Instant, SystemTime};

use actix_http::body::BodySize;
use actix_http::header::{self, HeaderName};
use actix_http::{Method, Payload, Request, RequestHead};

use crate::front::client_stream::ClientControl;
use crate::http::client_address::ClientAddress;
use crate::http::request_id::RequestId;
use crate::http::shown_path::ShownPath;
use crate::pipeline::worker::{Policy, Worker};
use crate::proxy::headers::REQUEST_ID;

/// A request whose head has arrived.
pub(super) struct Arrival {
    /// When, by the clock.
    pub(super) at: SystemTime,
    /// When, to measure from.
    pub(super) begun: Instant,
    /// Its id.
    pub(super) request_id: RequestId,
    /// Who sent it.
    pub(super) address: ClientAddress,
    /// What may be shown of its method.
    pub(super) method: Method,
    /// What may be shown of its target.
    pub(super) path: ShownPath,
    /// The guarded stream beneath it.
    pub(super) client: Option<Rc<ClientControl>>,
}

impl Arrival {
    /// Gives the request an id and its client an address.
    #[must_use]
    pub(super) fn of(request: &Request, worker: &Worker, policy: &Policy) -> Self {
        let headers = request.head().headers();
        let request_id = worker.request_ids.identify(headers, &policy.prefix);
        // What a client made up in place of an id or of a method may be a key.
        let is_key = headers.contains_key(&REQUEST_ID)
            && worker.keys.has_foreign_in(request_id.as_str().as_bytes());
        let arrival = Self {
            at: SystemTime::now(),
            begun: Instant::now(),
            request_id: if is_key {
                worker.request_ids.make()
            } else {
                request_id
            },
            address: ClientAddress::identify(request.peer_addr(), headers, &policy.trusted_proxies),
            method: if is_method(request.method()) {
                request.method().clone()
            } else {
                Method::from_bytes(b"UNKNOWN").unwrap_or_default()
            },
            path: ShownPath::of(request.uri(), &policy.prefix, &worker.keys),
            client: request.conn_data::<Rc<ClientControl>>().cloned(),
        };
        if let Some(client) = &arrival.client {
            client.begin_request(&arrival.request_id);
        }
        arrival
    }
}

/// Whether a method can be one by its form: those that are registered are words in capital letters, the longest of 17.
fn is_method(method: &Method) -> bool {
    let method = method.as_str();
    method.len() <= 17
        && method
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'-')
}

/// The length that the client announced; the parser has refused whatever contradicts itself.
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
