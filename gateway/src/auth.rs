//! Who is calling, and whether that lets them in: from the request's credential to a [`Caller`], or a denial that says why.

pub mod admin_token;
pub mod api_key;
pub mod cause;
pub mod demand;

use std::net::IpAddr;

use crate::keys::{CallerAddress, KnownKey};

/// Who is calling, proven.
#[derive(Debug, Clone)]
pub enum Caller {
    /// The holder of a key that is valid now.
    Key(KnownKey),
    /// Nobody in particular, on a route that takes requests without a key.
    Anonymous,
}

/// Tells callers apart in one word: by their keys, and those without one by their addresses. Two may look the same; one never looks
/// like two, except that it has two keys or two addresses. Says nothing of a key to who has it not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallerTag(u64);

impl CallerTag {
    /// The tag of `caller`, who calls from `address`.
    #[must_use]
    pub fn of(caller: &Caller, address: CallerAddress) -> Self {
        let bits = match (caller, address) {
            (Caller::Key(key), _) => key.digest().leading_bits(),
            (Caller::Anonymous, CallerAddress::Known(IpAddr::V4(address))) => {
                u64::from(address.to_bits())
            }
            // One site has a whole /64 (RFC 6177), and so many addresses.
            (Caller::Anonymous, CallerAddress::Known(IpAddr::V6(address))) => {
                u64::try_from(address.to_bits() >> 64).unwrap_or_default()
            }
            (Caller::Anonymous, CallerAddress::Unknown) => 0,
        };
        Self(bits | 1 << 63)
    }

    /// As a word that is never 0.
    pub(crate) fn word(self) -> u64 {
        self.0
    }
}
