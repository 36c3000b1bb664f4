//! Who is calling: from the request's credential to a [`Caller`], or a denial that says why.

pub mod api_key;
pub mod cause;

use thiserror::Error;

use crate::keys::{KeyId, KnownKey, MalformedKey};

/// Who is calling, proven.
#[derive(Debug, Clone)]
pub enum Caller {
    /// The holder of a key that is valid now.
    Key(KnownKey),
    /// Nobody in particular, on a route that takes requests without a key.
    Anonymous,
}

/// Why a credential was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Denial {
    /// There is none, or one of another scheme.
    #[error("no API key")]
    Missing,
    /// There is more than one.
    #[error("more than one credential")]
    Twice,
    /// It cannot be a key; it was not looked up.
    #[error("malformed key: {0}")]
    Malformed(MalformedKey),
    /// No key is like it.
    #[error("unknown key")]
    Unknown,
    /// The key has expired.
    #[error("key {0} has expired")]
    Expired(KeyId),
    /// The key was revoked.
    #[error("key {0} is revoked")]
    Revoked(KeyId),
    /// The key is switched off.
    #[error("key {0} is disabled")]
    Disabled(KeyId),
}

impl Denial {
    /// The key whose holder is denied, where the credential is a key that is known.
    #[must_use]
    pub fn key(&self) -> Option<KeyId> {
        match self {
            Self::Expired(key) | Self::Revoked(key) | Self::Disabled(key) => Some(*key),
            Self::Missing | Self::Twice | Self::Malformed(_) | Self::Unknown => None,
        }
    }
}
