//! The one authorisation rule. Applies to new requests, to long-lived ones, and to every key check
//! of the admin listener.

use thiserror::Error;

use crate::auth::jwt::TokenFault;
use crate::auth::token_holder::{NoConsumer, TokenHolder};
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
    /// The key or the token lacks a scope of the route.
    #[error("the credential has lost a scope of the route")]
    Scope,
    /// A kind of credential that the route does not take, or a token of an issuer that it does not.
    #[error("the route no longer takes this kind of credential")]
    NotAccepted,
    /// The token is not valid, or the keys to tell are not there.
    #[error("{0}")]
    Token(TokenFault),
    /// The token is not checked: too many forged ones came from the address.
    #[error("too many forged tokens came from the address")]
    NotChecked,
    /// The token names a consumer that does not exist.
    #[error("the consumer of the token no longer exists")]
    ConsumerUnknown,
    /// The token names a consumer by an id that consumers of several buckets have.
    #[error("several consumers have the id in the token")]
    ConsumerUnclear,
}

impl Denial {
    /// The denial of a token with `fault`.
    #[must_use]
    pub fn of_token(fault: TokenFault) -> Self {
        if fault.not_accepted() {
            Self::NotAccepted
        } else {
            Self::Token(fault)
        }
    }

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
        } else {
            self.admits_holder(Some(key.consumer().bucket), |scope| key.allows(scope))
        }
    }

    /// Checks whether a token that is valid now admits its holder from `address`; `None` means any
    /// address. A token without a consumer is of no bucket.
    ///
    /// # Errors
    /// [`Denial::ConsumerUnknown`], [`Denial::ConsumerUnclear`], [`Denial::Address`],
    /// [`Denial::Bucket`] or [`Denial::Scope`]: the first that applies.
    pub fn admits_token(
        &self,
        holder: &TokenHolder,
        address: Option<CallerAddress>,
    ) -> Result<(), Denial> {
        holder.check_consumer().map_err(|none| match none {
            NoConsumer::Unknown => Denial::ConsumerUnknown,
            NoConsumer::Unclear => Denial::ConsumerUnclear,
        })?;
        let consumer = holder.consumer();
        let may_come = address
            .zip(consumer)
            .is_none_or(|(address, consumer)| consumer.allows_address(address));
        if !may_come {
            return Err(Denial::Address);
        }
        let bucket = consumer.map(|consumer| consumer.known().bucket);
        self.admits_holder(bucket, |scope| holder.has_scope(scope))
    }

    fn admits_holder(
        &self,
        bucket: Option<&BucketName>,
        has_scope: impl Fn(&str) -> bool,
    ) -> Result<(), Denial> {
        let is_of_bucket = || bucket.is_some_and(|bucket| self.buckets.contains(bucket));
        if !self.buckets.is_empty() && !is_of_bucket() {
            Err(Denial::Bucket)
        } else if self.scopes.iter().any(|scope| !has_scope(scope.as_str())) {
            Err(Denial::Scope)
        } else {
            Ok(())
        }
    }

    /// Checks whether a request without a credential is admitted.
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
