//! Refusals of denied credentials, for new and for long-lived requests.

use crate::auth::demand::{Demand, Denial};
use crate::auth::jwt::TokenFault;
use crate::auth::key_source::KeySource;
use crate::auth::key_sources::KeySources;
use crate::auth::methods::Methods;
use crate::http::refusal::{Refusal, Restriction};

impl Refusal {
    /// Maps `denial` by `demand` to its refusal; `methods` are the kinds of credentials that are
    /// taken, and `sources` the places that they may come from.
    #[must_use]
    pub fn of_denial(
        denial: Denial,
        demand: &Demand,
        methods: &Methods,
        sources: &KeySources,
    ) -> Self {
        match denial {
            Denial::Missing => Self::missing(methods, sources),
            Denial::Twice => Self::CredentialTwice,
            Denial::Malformed(_) | Denial::Unknown => Self::KeyInvalid,
            Denial::Expired => Self::KeyExpired,
            Denial::Revoked => Self::KeyRevoked,
            Denial::Disabled => Self::KeyDisabled,
            Denial::Address => Self::KeyRestricted(Restriction::Address),
            Denial::Method | Denial::Route | Denial::Bucket => {
                Self::KeyRestricted(Restriction::Use)
            }
            Denial::Scope => {
                let scopes = demand.scopes.iter();
                Self::InsufficientScope(scopes.map(|scope| scope.as_str().to_owned()).collect())
            }
            Denial::NotAccepted => Self::CredentialNotAccepted,
            Denial::Token(fault) => Self::of_fault_of_token(fault),
            Denial::NotChecked => Self::TooManyFailures(1),
            Denial::ConsumerUnknown | Denial::ConsumerUnclear => Self::ConsumerUnknown,
        }
    }

    fn missing(methods: &Methods, sources: &KeySources) -> Self {
        if !methods.take_keys() {
            return Self::TokenMissing;
        }
        if !methods.take_tokens() {
            return Self::KeyMissing(sources.clone());
        }
        let of_keys = |source: &&KeySource| {
            methods.take_keys_in_bearer() || !matches!(source, KeySource::Bearer)
        };
        let ways = sources.as_slice().iter().filter(of_keys);
        let ways: Vec<String> = ways.map(KeySource::instruction).collect();
        Self::CredentialMissing(ways.join(", or "))
    }

    fn of_fault_of_token(fault: TokenFault) -> Self {
        if fault.keys_unavailable() {
            Self::KeysUnavailable
        } else if fault.is_expired() {
            Self::TokenExpired
        } else {
            // One answer for all of them, so that a forger learns nothing.
            Self::TokenInvalid
        }
    }
}
