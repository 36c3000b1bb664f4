//! Answers clients that ask before they send a body.

use std::rc::Rc;

use actix_http::body::BodySize;
use actix_http::{Payload, Request, Response};

use crate::front::client_stream::ClientControl;
use crate::limits::Purpose;
use crate::panics::catch_panic_sync;
use crate::pipeline::arrival::body_size;
use crate::pipeline::record::Exchange;
use crate::pipeline::record::body::RecordedBody;
use crate::pipeline::worker::Worker;
use crate::pipeline::{decide, health};

/// Decides whether a client that sent `Expect: 100-continue` (RFC 9110, section 10.1.1) may send
/// its body.
///
/// # Errors
/// The response of a refused request; its body must not be sent.
pub(super) fn expect(
    worker: &Worker,
    request: Request,
    client: &Rc<ClientControl>,
) -> Result<Request, Box<Response<RecordedBody>>> {
    let policy = worker.policy.load_full();
    let mut exchange = Exchange::begin(worker, &policy, &request, Some(client));
    let size = body_size(request.head(), &Payload::None);
    let admitted = catch_panic_sync(|| {
        if health::is_health_check(&policy, &request) {
            health::check(worker, &policy, &exchange, &request, size).map(drop)
        } else {
            // The same request is decided again with its body, and counts then.
            let purpose = Purpose::Look;
            decide(worker, &policy, &mut exchange, &request, size, purpose).map(drop)
        }
    });
    match admitted.unwrap_or_else(|panicked| Err(exchange.panicked(&panicked))) {
        Ok(()) => {
            exchange.discard();
            Ok(request)
        }
        Err(refused) => Err(Box::new(exchange.refuse(
            refused,
            &policy.realm,
            BodySize::Stream,
        ))),
    }
}
