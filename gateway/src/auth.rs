//! Authentication and authorisation: from the request's credential to a [`Caller`] or a denial with
//! its reason.

pub mod admin_token;
pub mod api_key;
pub mod cause;
pub mod demand;
pub mod jwt;
pub mod key_source;
pub mod key_sources;
pub mod methods;

use std::net::IpAddr;

use crate::keys::{CallerAddress, KnownKey};

/// Proven identity of the caller.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Holder of a key that is valid now.
    Key(KnownKey),
    /// Nobody in particular, on a route that takes requests without a key.
    Anonymous,
}

/// One-word tag that tells callers apart: keys by digest, anonymous callers by address. Two callers
/// may share a tag; one key from one address has one tag only. Reveals nothing of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallerTag(u64);

impl CallerTag {
    /// Tag of `caller` at `address`.
    #[must_use]
    pub fn of(caller: &Caller, address: CallerAddress) -> Self {
        let bits = match (caller, address) {
            (Caller::Key(key), _) => key.digest().leading_bits(),
            (Caller::Anonymous, CallerAddress::Known(IpAddr::V4(address))) => {
                u64::from(address.to_bits())
            }
            // One site has a whole /64 (RFC 6177), and so 2^64 addresses.
            (Caller::Anonymous, CallerAddress::Known(IpAddr::V6(address))) => {
                u64::try_from(address.to_bits() >> 64).unwrap_or_default()
            }
            (Caller::Anonymous, CallerAddress::Unknown) => 0,
        };
        Self(bits | 1 << 63)
    }

    /// The tag as a word that is never 0.
    pub(crate) fn word(self) -> u64 {
        self.0
    }
}
