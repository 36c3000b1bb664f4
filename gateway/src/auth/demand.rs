//! The one authorisation rule. Applies to new requests, to long-lived ones, and to every key check
//! of the admin listener.

use thiserror::Error;

use crate::keys::{
    BucketName, CallerAddress, KeyStatus, KnownKey, MalformedKey, Scope, UnixMillis,
};

/// Conditions that callers must meet.
#[derive(Debug, Clone)]
pub struct Demand {
    /// Handling of a request without a key.
    pub on_missing_key: MissingKey,
    /// Buckets whose keys are accepted; empty means all.
    pub buckets: Vec<BucketName>,
    /// Scopes that a key must have, all of them.
    pub scopes: Vec<Scope>,
}

/// What a key is presented for. `None` means anything: whoever asks does not know.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attempt<'a> {
    /// Address of the client.
    pub address: Option<CallerAddress>,
    /// Method of the request.
    pub method: Option<&'a str>,
    /// Name of the route.
    pub route: Option<&'a str>,
}

/// Handling of a request without a key. A key that is present is always checked: an invalid key
/// never counts as a missing one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingKey {
    /// Refuse the request.
    Reject,
    /// Pass the request without an identity, marked as anonymous.
    Anonymous,
}

/// Reason for denying a caller. Displays as the reason for ending an admitted request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Denial {
    /// No credential, or one of another scheme.
    #[error("there is no key")]
    Missing,
    /// More than one credential.
    #[error("there is more than one credential")]
    Twice,
    /// Malformed key; not looked up.
    #[error("{0}")]
    Malformed(MalformedKey),
    /// Well formed, but in no key table.
    #[error("the key no longer exists")]
    Unknown,
    /// The key has expired.
    #[error("the key is expired")]
    Expired,
    /// The key was revoked.
    #[error("the key is revoked")]
    Revoked,
    /// The key is disabled.
    #[error("the key is disabled")]
    Disabled,
    /// The key may not be used from the client's address.
    #[error("the key may no longer be used from this address")]
    Address,
    /// The key may not be used with the method.
    #[error("the key may no longer be used with this method")]
    Method,
    /// The key may not be used on the route.
    #[error("the key may no longer be used on this route")]
    Route,
    /// The route does not accept keys of this bucket.
    #[error("the route does not accept keys of this bucket")]
    Bucket,
    /// The key lacks a scope of the route.
    #[error("the key has lost a scope of the route")]
    Scope,
}

impl Denial {
    /// Denials that concern one known key, in the order of the checks.
    pub const OF_A_KEY: [Self; 9] = [
        Self::Unknown,
        Self::Expired,
        Self::Revoked,
        Self::Disabled,
        Self::Address,
        Self::Method,
        Self::Route,
        Self::Bucket,
        Self::Scope,
    ];
}

impl Demand {
    /// Accepts any valid key.
    pub const ANY_KEY: Self = Self {
        on_missing_key: MissingKey::Reject,
        buckets: Vec::new(),
        scopes: Vec::new(),
    };

    /// Checks whether `key` admits its holder at `now` to `attempt`.
    ///
    /// # Errors
    /// The first of [`Denial::OF_A_KEY`] that applies.
    pub fn admits(
        &self,
        key: &KnownKey,
        now: UnixMillis,
        attempt: &Attempt<'_>,
    ) -> Result<(), Denial> {
        match key.status(now) {
            KeyStatus::Active => {}
            KeyStatus::Expired => return Err(Denial::Expired),
            KeyStatus::Revoked => return Err(Denial::Revoked),
            KeyStatus::Disabled => return Err(Denial::Disabled),
        }
        let Attempt {
            address,
            method,
            route,
        } = attempt;
        if !address.is_none_or(|address| key.allows_address(address)) {
            Err(Denial::Address)
        } else if !method.is_none_or(|method| key.allows_method(method)) {
            Err(Denial::Method)
        } else if !route.is_none_or(|route| key.allows_route(route)) {
            Err(Denial::Route)
        } else if !self.buckets.is_empty() && !self.buckets.contains(key.consumer().bucket) {
            Err(Denial::Bucket)
        } else if self.scopes.iter().any(|scope| !key.allows(scope.as_str())) {
            Err(Denial::Scope)
        } else {
            Ok(())
        }
    }

    /// Checks whether a request without a key is admitted.
    ///
    /// # Errors
    /// [`Denial::Missing`], also when scopes are demanded, which only a key can have.
    pub fn admits_anonymous(&self) -> Result<(), Denial> {
        match self.on_missing_key {
            MissingKey::Anonymous if self.scopes.is_empty() => Ok(()),
            MissingKey::Anonymous | MissingKey::Reject => Err(Denial::Missing),
        }
    }

    /// Whether this demand admits a caller that `other` denies.
    #[must_use]
    pub fn is_looser_than(&self, other: &Self) -> bool {
        let takes_more_buckets = !other.buckets.is_empty()
            && (self.buckets.is_empty()
                || self
                    .buckets
                    .iter()
                    .any(|bucket| !other.buckets.contains(bucket)));
        let asks_for_less = other
            .scopes
            .iter()
            .any(|scope| !self.scopes.contains(scope));
        let lets_in_anyone = self.admits_anonymous().is_ok() && other.admits_anonymous().is_err();
        takes_more_buckets || asks_for_less || lets_in_anyone
    }
}
