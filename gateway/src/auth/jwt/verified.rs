//! [`VerifiedToken`]: a token that proved its caller.

use std::fmt;
use std::sync::Arc;

use actix_http::header::{HeaderName, HeaderValue};

use crate::auth::jwt::claims::Identity;
use crate::auth::jwt::issuer::Issuer;
use crate::auth::jwt::key::Key;
use crate::keys::{KeyDigest, Scopes, UnixMillis};

/// A token whose signature and claims were right. Its `Debug` shows none of them.
pub struct VerifiedToken {
    pub(super) issuer: Arc<Issuer>,
    pub(super) key: Arc<Key>,
    pub(super) digest: KeyDigest,
    pub(super) identity: Identity,
}

impl VerifiedToken {
    /// Issuer that signed it.
    #[must_use]
    pub fn issuer(&self) -> &Arc<Issuer> {
        &self.issuer
    }

    /// SHA-256 of the whole token.
    #[must_use]
    pub fn digest(&self) -> &KeyDigest {
        &self.digest
    }

    /// `sub`: 1 to 256 bytes, any characters.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.identity.subject.as_deref()
    }

    /// Scopes that the token grants.
    #[must_use]
    pub fn scopes(&self) -> &Scopes {
        &self.identity.scopes
    }

    /// Value of `consumer_claim`, 1 to 256 bytes: the `custom_id` of the consumer. `None` if the
    /// claim is not configured, absent, or neither a text nor a whole number.
    #[must_use]
    pub fn consumer(&self) -> Option<&str> {
        self.identity.consumer.as_deref()
    }

    /// Moment from which the token is not valid any more: `exp` and the tolerance for clocks.
    #[must_use]
    pub fn ends_at(&self) -> UnixMillis {
        self.identity.ends_at
    }

    /// Headers for the origin, of `forward_claims`, percent-encoded.
    #[must_use]
    pub fn forwarded(&self) -> &[(HeaderName, HeaderValue)] {
        &self.identity.forwarded
    }
}

impl fmt::Debug for VerifiedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "VerifiedToken({}, {:?})",
            self.issuer.name(),
            self.digest
        )
    }
}
