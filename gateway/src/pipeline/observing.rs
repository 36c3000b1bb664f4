//! Routes that only observe: a request without a good credential passes as anonymous, and what would
//! have become of it is remembered.

use std::borrow::Cow;

use crate::auth::Caller;
use crate::auth::demand::Denial;
use crate::auth::key_sources::Credentials;
use crate::keys::{KnownKey, token};
use crate::pipeline::record::Exchange;
use crate::pipeline::refused::Refused;
use crate::pipeline::worker::Policy;
use crate::routes::Route;

/// A request that would have been refused on a route that does not observe.
#[derive(Debug)]
pub struct Observed {
    /// Why its credential was denied.
    pub denial: Denial,
    /// Code that the refusal would have had.
    pub code: &'static str,
    /// Its cause, for the operator.
    pub cause: Cow<'static, str>,
    /// The key, where it is known. It proves nothing here.
    pub key: Option<KnownKey>,
    /// Whether the credential is one of ours, which no origin may see. Others may be the origin's.
    pub is_ours: bool,
}

/// Lets a request with a denied credential pass, and remembers why it would have been refused.
pub(super) fn pass(
    policy: &Policy,
    exchange: &mut Exchange,
    route: &Route,
    credentials: &Credentials<'_>,
    denial: Denial,
) -> Caller {
    let refused = Refused::denied(denial, &route.demand, credentials, &policy.prefix);
    let key = exchange.take_key();
    let is_shaped = |found: &[u8]| token::is_key_shaped(found, &policy.prefix);
    let found = credentials.find();
    exchange.set_observed(Observed {
        denial,
        code: refused.refusal.code(),
        cause: refused.cause.unwrap_or_default(),
        is_ours: key.is_some() || found.is_ok_and(|found| is_shaped(&found.token)),
        key,
    });
    Caller::Anonymous
}
