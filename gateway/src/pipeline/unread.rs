//! Answers and logs connections that the client guard rejected before a request existed.

use std::time::Duration;

use actix_http::header::HeaderMap;

use crate::front::client_stream::Refused;
use crate::http::client_address::ClientAddress;
use crate::http::refusal::Refusal;
use crate::keys::UnixMillis;
use crate::pipeline::worker::Worker;
use crate::telemetry::access_log::{Ending, Entry};

/// Returns the response to a client that reached no handler; `None` where none can be sent.
pub fn refuse(worker: &Worker, refused: &Refused<'_>) -> Option<Vec<u8>> {
    let refusal = Refusal::of_fault(refused.fault)?;
    let policy = worker.policy.load();
    let realm = &policy.realm;
    // A request that was passed on has an id and a log line of its own.
    if let Some(request_id) = refused
        .client
        .request_id()
        .filter(|_| refused.within_request)
    {
        return Some(refusal.to_bytes(realm, &request_id));
    }
    let none = HeaderMap::new();
    let request_id = worker.request_ids.make();
    let bytes = refusal.to_bytes(realm, &request_id);
    let entry = Entry {
        at: UnixMillis::now(),
        request_id: request_id.as_str(),
        client: ClientAddress::identify(refused.client.peer(), &none, &[]).client,
        method: "",
        path: "",
        status: refused.fault.status()?,
        code: Some(refusal.code()),
        cause: Some(&refused.fault.to_string()),
        route: None,
        consumer: None,
        issuer: None,
        key: None,
        limit: None,
        would_refuse: None,
        shadow_limit: None,
        bytes_in: 0,
        bytes_out: body_length(&bytes),
        duration: Duration::ZERO,
        origin_wait: None,
        ending: Ending::Complete,
    };
    if let Some(metrics) = worker.tally.metrics() {
        metrics.unread(&entry);
    }
    worker.access_log(&policy).record(&entry);
    Some(bytes)
}

fn body_length(response: &[u8]) -> u64 {
    memchr::memmem::find(response, b"\r\n\r\n").map_or(0, |end| (response.len() - end - 4) as u64)
}
