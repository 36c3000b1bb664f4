//! Routes that only observe: a request without a good credential passes as anonymous, and what would
//! have become of it is remembered.

use std::sync::Arc;

use actix_http::header::{self, HeaderMap, HeaderValue};

use crate::auth::demand::Denial;
use crate::auth::key_sources::Credentials;
use crate::auth::{Caller, Proven};
use crate::keys::adoption::{AdoptionKey, ClientClass, Day, Network, Newcomer};
use crate::keys::token;
use crate::pipeline::record::Exchange;
use crate::pipeline::record::observed::Observed;
use crate::pipeline::refused::Refused;
use crate::pipeline::worker::{Policy, Worker};
use crate::routes::Route;

/// Lets a request with a denied credential pass, and remembers why it would have been refused.
pub(super) fn pass(
    policy: &Policy,
    exchange: &mut Exchange,
    route: &Route,
    credentials: &Credentials<'_>,
    denial: Denial,
) -> Caller {
    let refused = Refused::denied(denial, route, credentials, &policy.prefix);
    let proven = exchange.take_proven();
    let is_shaped = |found: &[u8]| token::is_key_shaped(found, &policy.prefix);
    let found = credentials.find();
    exchange.set_observed(Observed {
        denial,
        code: refused.refusal.code(),
        cause: refused.cause.unwrap_or_default(),
        is_ours: proven.is_some() || found.is_ok_and(|found| is_shaped(&found.token)),
        proven,
    });
    Caller::Anonymous
}

/// Counts a request on a route that observes, for the report.
pub(super) fn count(worker: &Worker, exchange: &Exchange, route: &Route, headers: &HeaderMap) {
    let at = exchange.at();
    let newcomer = exchange.observed().map(|observed| Newcomer {
        code: observed.code.into(),
        cause: observed.cause.as_ref().into(),
        consumer: observed.proven.as_ref().and_then(Proven::consumer).copied(),
        network: Network::of(exchange.address().client),
        client: ClientClass::of(headers.get(header::USER_AGENT).map(HeaderValue::as_bytes)),
    });
    let key = AdoptionKey {
        route: Arc::clone(&route.name),
        day: Day::of(at),
        newcomer,
    };
    worker.adoption.count(key, at);
}
