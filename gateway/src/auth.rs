//! Authentication and authorisation: from the request's credential to a [`Caller`] or a denial with
//! its reason.

pub mod admin_token;
pub mod api_key;
pub mod cause;
pub mod credential;
pub mod demand;
pub mod jwt;
pub mod key_source;
pub mod key_sources;
pub mod methods;
pub mod token_holder;

use std::net::IpAddr;

use crate::auth::token_holder::TokenHolder;
use crate::keys::{CallerAddress, ConsumerId, KnownKey};

/// Holder of a credential that is known, admitted or not.
#[derive(Debug, Clone)]
pub enum Proven {
    /// Holder of a key, in whatever state it is.
    Key(KnownKey),
    /// Holder of a token that is valid now.
    Token(TokenHolder),
}

impl Proven {
    /// The consumer; `None` for a token without one.
    #[must_use]
    pub fn consumer(&self) -> Option<&ConsumerId> {
        match self {
            Self::Key(key) => Some(key.consumer().id),
            Self::Token(holder) => Some(holder.consumer()?.known().id),
        }
    }
}

/// Proven identity of the caller.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Holder of a key that is valid now.
    Key(KnownKey),
    /// Holder of a token that is valid now.
    Token(TokenHolder),
    /// Nobody in particular, on a route that takes requests without a credential.
    Anonymous,
}

impl Caller {
    /// Bits that tell the holders of credentials apart; `None` for an anonymous caller.
    #[must_use]
    pub fn bits(&self) -> Option<u64> {
        match self {
            Self::Key(key) => Some(key.digest().leading_bits()),
            Self::Token(holder) => Some(holder.bits()),
            Self::Anonymous => None,
        }
    }
}

/// One-word tag that tells callers apart: keys by digest, tokens by subject, anonymous callers by
/// address. Two callers may share a tag; one key from one address has one tag only. Reveals nothing
/// of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallerTag(u64);

impl CallerTag {
    /// Tag of `caller` at `address`.
    #[must_use]
    pub fn of(caller: &Caller, address: CallerAddress) -> Self {
        let bits = match (caller.bits(), address) {
            (Some(bits), _) => bits,
            (None, CallerAddress::Known(IpAddr::V4(address))) => u64::from(address.to_bits()),
            // One site has a whole /64 (RFC 6177), and so 2^64 addresses.
            (None, CallerAddress::Known(IpAddr::V6(address))) => {
                u64::try_from(address.to_bits() >> 64).unwrap_or_default()
            }
            (None, CallerAddress::Unknown) => 0,
        };
        Self(bits | 1 << 63)
    }

    /// The tag as a word that is never 0.
    pub(crate) fn word(self) -> u64 {
        self.0
    }
}
