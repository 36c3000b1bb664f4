//! The brake on bad keys in the life of a request: what counts as a failure, and what is refused.

use actix_http::header::HeaderMap;

use crate::auth::api_key::may_be_key;
use crate::auth::demand::Denial;
use crate::auth::key_sources::Credentials;
use crate::http::client_address::FORWARDED_FOR;
use crate::http::refusal::Refusal;
use crate::keys::CallerAddress;
use crate::limits::brake::{Block, BrakeRules, Braked, Failure};
use crate::pipeline::record::Exchange;
use crate::pipeline::refused::Refused;
use crate::pipeline::worker::{Policy, Worker};
use crate::wire::clock::now;

/// Label of requests whose key was not looked up.
const UNCHECKED: &str = "unchecked";

/// Refuses every request of a blocked address, before its key is looked up. Returns whether it
/// would have been.
pub(super) fn check(
    worker: &Worker,
    policy: &Policy,
    exchange: &mut Exchange,
    headers: &HeaderMap,
) -> Result<bool, Refused> {
    let Some(rules) = policy
        .brake
        .as_ref()
        .filter(|rules| rules.block == Block::All)
    else {
        return Ok(false);
    };
    let address = exchange.address();
    if let CallerAddress::Known(peer) = address.peer
        && !address.through_trusted_proxy
        && headers.contains_key(&FORWARDED_FOR)
    {
        worker.brake.saw_untrusted_proxy(peer);
    }
    let checked = worker.brake.check(rules, address.client, now().into_std());
    match checked {
        Ok(()) => Ok(false),
        Err(braked) if is_enforced(worker, rules, exchange, UNCHECKED) => {
            Err(Refused::because(too_many(braked), "the address is braked"))
        }
        Err(_) => Ok(true),
    }
}

/// Whether the signature of a token that was not verified before may be computed.
pub(super) fn may_verify(worker: &Worker, policy: &Policy, address: CallerAddress) -> bool {
    let rules = policy.brake.as_ref();
    rules.is_none_or(|rules| worker.brake.may_verify(rules, address, now().into_std()))
}

/// Counts a denied credential, if it is a failure that counts. Returns `refused`, or the refusal of
/// one failure too many, which is the same whatever the key is.
pub(super) fn count(
    worker: &Worker,
    policy: &Policy,
    exchange: &mut Exchange,
    credentials: &Credentials<'_>,
    denial: Denial,
    refused: Refused,
) -> Refused {
    let Some(rules) = &policy.brake else {
        return refused;
    };
    let key = exchange.key().map(|key| *key.id());
    let failure = match (denial, &key) {
        // Of a user name and a password, the malformed one is told, and the other may be a key.
        (Denial::Unknown | Denial::Malformed(_), _)
            if may_be_key(credentials, &worker.keys, &policy.prefix) =>
        {
            Failure::UnknownKey
        }
        (Denial::Expired | Denial::Revoked | Denial::Disabled, Some(key)) => Failure::EndedKey(key),
        (Denial::Token(fault), _) if fault.is_forged() => Failure::ForgedToken,
        (Denial::NotChecked, _) => {
            is_enforced(worker, rules, exchange, Refusal::TokenInvalid.code());
            return refused;
        }
        _ => return refused,
    };
    let (address, now) = (exchange.address().client, now().into_std());
    match worker.brake.fail(rules, address, failure, now) {
        Err(braked) if is_enforced(worker, rules, exchange, refused.refusal.code()) => Refused {
            refusal: too_many(braked),
            cause: refused.cause,
        },
        Ok(()) | Err(_) => refused,
    }
}

/// Counts a braked request under the `code` that it would have had. Returns whether it is refused;
/// then it has no line in the access log.
fn is_enforced(
    worker: &Worker,
    rules: &BrakeRules,
    exchange: &mut Exchange,
    code: &'static str,
) -> bool {
    if let Some(metrics) = worker.tally.metrics() {
        let counts = metrics.counts();
        let family = if rules.enforce {
            &counts.braked
        } else {
            &counts.would_brake
        };
        family.count(code);
    }
    if rules.enforce {
        exchange.skip_log();
    }
    rules.enforce
}

fn too_many(Braked { wait }: Braked) -> Refusal {
    // Rounded up, so that a client that comes then is not refused again.
    let begun = u64::from(wait.subsec_nanos() > 0);
    Refusal::TooManyFailures(wait.as_secs() + begun)
}
