//! Refusals of denied credentials, for new and for long-lived requests.

use crate::auth::demand::{Demand, Denial};
use crate::auth::key_sources::KeySources;
use crate::http::refusal::{Refusal, Restriction};

impl Refusal {
    /// Maps `denial` by `demand` to its refusal; `sources` are the places that a key may come from.
    #[must_use]
    pub fn of_denial(denial: Denial, demand: &Demand, sources: &KeySources) -> Self {
        match denial {
            Denial::Missing => Self::KeyMissing(sources.clone()),
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
        }
    }
}
