//! The one rule: whether a key lets its holder in. Requests that begin and those that go on are held to it, and so is every
//! question about a key that the admin listener answers.

use thiserror::Error;

use crate::keys::{
    BucketName, CallerAddress, KeyStatus, KnownKey, MalformedKey, Scope, UnixMillis,
};

/// What callers have to satisfy.
#[derive(Debug, Clone)]
pub struct Demand {
    /// What happens to a request without a key.
    pub on_missing_key: MissingKey,
    /// Buckets whose keys are taken; none means every one.
    pub buckets: Vec<BucketName>,
    /// Scopes that a key must have, all of them.
    pub scopes: Vec<Scope>,
}

/// What becomes of a request that has no key. A key that is there is always checked, and refused when it is not valid: a bad
/// key is never treated as none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingKey {
    /// It is refused.
    Reject,
    /// It passes without an identity, marked as anonymous.
    Anonymous,
}

/// Why a caller is not let in. Displayed as what ends a request that was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Denial {
    /// There is no credential, or one of another scheme.
    #[error("there is no key")]
    Missing,
    /// There is more than one.
    #[error("there is more than one credential")]
    Twice,
    /// It cannot be a key; it was not looked up.
    #[error("{0}")]
    Malformed(MalformedKey),
    /// No key is like it.
    #[error("the key is gone")]
    Unknown,
    /// The key has expired.
    #[error("the key is expired")]
    Expired,
    /// The key was revoked.
    #[error("the key is revoked")]
    Revoked,
    /// The key is switched off.
    #[error("the key is disabled")]
    Disabled,
    /// The key may not be used from where the client is.
    #[error("the key may not be used from this address any more")]
    Address,
    /// Keys of its bucket are not taken.
    #[error("the route takes no keys of this bucket")]
    Bucket,
    /// The key lacks a scope.
    #[error("the key has lost a scope of the route")]
    Scope,
}

impl Denial {
    /// Every reason that speaks against one key, in the order in which they are looked for.
    pub const OF_A_KEY: [Self; 7] = [
        Self::Unknown,
        Self::Expired,
        Self::Revoked,
        Self::Disabled,
        Self::Address,
        Self::Bucket,
        Self::Scope,
    ];
}

impl Demand {
    /// A valid key, whichever it is.
    pub const ANY_KEY: Self = Self {
        on_missing_key: MissingKey::Reject,
        buckets: Vec::new(),
        scopes: Vec::new(),
    };

    /// Whether `key` lets its holder in at `now` from `address`; `None` is any address.
    ///
    /// # Errors
    /// Why not: the first of [`Denial::OF_A_KEY`] that holds.
    pub fn admits(
        &self,
        key: &KnownKey,
        now: UnixMillis,
        address: Option<CallerAddress>,
    ) -> Result<(), Denial> {
        match key.status(now) {
            KeyStatus::Active => {}
            KeyStatus::Expired => return Err(Denial::Expired),
            KeyStatus::Revoked => return Err(Denial::Revoked),
            KeyStatus::Disabled => return Err(Denial::Disabled),
        }
        if !address.is_none_or(|address| key.allows_address(address)) {
            Err(Denial::Address)
        } else if !self.buckets.is_empty() && !self.buckets.contains(key.consumer().bucket) {
            Err(Denial::Bucket)
        } else if self.scopes.iter().any(|scope| !key.allows(scope.as_str())) {
            Err(Denial::Scope)
        } else {
            Ok(())
        }
    }

    /// Whether a request without a key is let in.
    ///
    /// # Errors
    /// It is not: none is taken, or scopes are demanded that nothing could have.
    pub fn admits_anonymous(&self) -> Result<(), Denial> {
        match self.on_missing_key {
            MissingKey::Anonymous if self.scopes.is_empty() => Ok(()),
            MissingKey::Anonymous | MissingKey::Reject => Err(Denial::Missing),
        }
    }

    /// Whether it lets in somebody whom `other` refuses.
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
