//! Clients that the guarded stream lets go: what they sent is no request that could run through the stages, and yet they are
//! answered like every other, and leave a line.

use std::time::{Duration, SystemTime};

use actix_http::header::HeaderMap;

use crate::http::client_address::ClientAddress;
use crate::http::client_stream::{ClientFault, Refused};
use crate::http::proxy_protocol::ProxyHeaderFault;
use crate::http::refusal::Refusal;
use crate::pipeline::Worker;
use crate::telemetry::access_log::{Ending, Entry};

/// The answer to a client that no handler can answer; none where none can be given.
pub fn refuse(worker: &Worker, refused: &Refused<'_>) -> Option<Vec<u8>> {
    let refusal = refusal(refused.fault)?;
    let none = HeaderMap::new();
    let request_id = worker.request_ids.make();
    let bytes = refusal.to_bytes(&worker.policy.load().realm, &request_id);
    // A request that was passed on has a line of its own.
    if !refused.within_request {
        worker.access_log.record(&Entry {
            at: SystemTime::now(),
            request_id: request_id.as_str(),
            client: ClientAddress::identify(refused.client.peer(), &none, &[]).client,
            method: "",
            path: "",
            status: refused.fault.status()?,
            code: Some(refusal.code()),
            cause: Some(&refused.fault.to_string()),
            route: None,
            consumer: None,
            key: None,
            bytes_in: 0,
            bytes_out: body_length(&bytes),
            duration: Duration::ZERO,
            origin_wait: None,
            ending: Ending::Complete,
        });
    }
    Some(bytes)
}

fn refusal(fault: ClientFault) -> Option<Refusal> {
    Some(match fault {
        ClientFault::HeadTimeout => Refusal::HeadTimeout,
        ClientFault::HeadTooLarge | ClientFault::TooManyFields => Refusal::HeadTooLarge,
        ClientFault::NoRequestLine => Refusal::BadRequest("there is no request line"),
        ClientFault::BareLineFeed => {
            Refusal::BadRequest("a line of the head ends with a bare line feed")
        }
        ClientFault::Fragment => Refusal::BadRequest("the request target has a fragment"),
        ClientFault::BadChunk(_) => Refusal::BodyBroken,
        ClientFault::BodyStalled | ClientFault::BodyTooSlow => Refusal::BodyTimeout,
        ClientFault::ProxyHeader(ProxyHeaderFault::Unexpected) => {
            Refusal::BadRequest("the connection begins with a PROXY protocol header")
        }
        ClientFault::WriteStalled | ClientFault::StrayResponse | ClientFault::ProxyHeader(_) => {
            return None;
        }
    })
}

fn body_length(response: &[u8]) -> u64 {
    memchr::memmem::find(response, b"\r\n\r\n").map_or(0, |end| (response.len() - end - 4) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::client_stream::ChunkFault;

    #[test]
    fn every_fault_that_has_a_status_has_a_refusal_with_it() {
        let id = crate::http::request_id::RequestIds::new().make();
        for fault in [
            ClientFault::HeadTimeout,
            ClientFault::HeadTooLarge,
            ClientFault::TooManyFields,
            ClientFault::NoRequestLine,
            ClientFault::BareLineFeed,
            ClientFault::Fragment,
            ClientFault::BadChunk(ChunkFault::Size),
            ClientFault::BodyStalled,
            ClientFault::BodyTooSlow,
            ClientFault::WriteStalled,
            ClientFault::StrayResponse,
            ClientFault::ProxyHeader(ProxyHeaderFault::Unexpected),
            ClientFault::ProxyHeader(ProxyHeaderFault::Missing),
        ] {
            let status = refusal(fault).map(|refusal| {
                let bytes = String::from_utf8(refusal.to_bytes("r", &id)).unwrap();
                bytes["HTTP/1.1 ".len()..][..3].parse::<u16>().unwrap()
            });
            assert_eq!(status, fault.status(), "{fault:?}");
        }
    }
}
