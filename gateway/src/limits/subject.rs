//! Whom a limit counts: from the facts of a request to a keyed hash.

use std::fmt;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

use crate::keys::{CallerAddress, KnownKey};
use crate::limits::table::{Room, SubjectHash};

/// What tells the subjects of a limit apart; several of them do together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// The key; the keys of a roll are one.
    Key,
    /// The consumer.
    Consumer,
    /// The client's address: an IPv4 address, or a prefix of IPv6. An unknown one is an address
    /// like any other.
    Address,
    /// Requests without a key, all together.
    Anonymous,
    /// The route.
    Route,
    /// All requests together.
    Gateway,
}

/// The text is not a subject of limits.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not a subject of limits: {accepted}", accepted = By::ACCEPTED)]
pub struct NotASubject(String);

/// Facts of a request that limits look at.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'r> {
    /// The key; `None` for an anonymous request.
    pub key: Option<&'r KnownKey>,
    /// The client's address.
    pub address: CallerAddress,
    /// Name of the route.
    pub route: &'r str,
}

impl By {
    /// Accepted texts, for error messages.
    pub const ACCEPTED: &'static str = "\"key\", \"consumer\", \"address\", \"anonymous\", \"route\", \"gateway\", or a list of these, which count together";

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Consumer => "consumer",
            Self::Address => "address",
            Self::Anonymous => "anonymous",
            Self::Route => "route",
            Self::Gateway => "gateway",
        }
    }

    /// Whether a route may choose among limits by this.
    #[must_use]
    pub fn is_chosen_by_routes(self) -> bool {
        matches!(self, Self::Key | Self::Consumer | Self::Route)
    }
}

impl FromStr for By {
    type Err = NotASubject;

    fn from_str(text: &str) -> Result<Self, NotASubject> {
        let all = [
            Self::Key,
            Self::Consumer,
            Self::Address,
            Self::Anonymous,
            Self::Route,
            Self::Gateway,
        ];
        let found = all.into_iter().find(|by| by.as_str() == text);
        found.ok_or_else(|| NotASubject(text.to_owned()))
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Hashes subjects with a seed that is random for each process.
#[derive(Clone, Debug, Default)]
pub(super) struct Subjects {
    seed: RandomState,
}

impl Subjects {
    /// The subject of a limit by `parts`; `None` if the limit does not apply to the request.
    pub(super) fn of(
        &self,
        parts: &[By],
        facts: &Facts<'_>,
        ipv6_prefix: u8,
    ) -> Option<SubjectHash> {
        let mut hash = self.seed.build_hasher();
        for part in parts {
            match (part, facts.key) {
                (By::Key, Some(key)) => key.id().hash(&mut hash),
                (By::Consumer, Some(key)) => key.consumer().id.hash(&mut hash),
                (By::Address, _) => hash.write_u128(address_bits(facts.address, ipv6_prefix)),
                (By::Anonymous, None) => {}
                (By::Route, _) => facts.route.hash(&mut hash),
                (By::Gateway, _) => {}
                (By::Key | By::Consumer, None) | (By::Anonymous, Some(_)) => return None,
            }
        }
        Some(SubjectHash(hash.finish()))
    }
}

/// Whether clients can make the subjects of a limit by `parts` up.
pub(super) fn room_for(parts: &[By]) -> Room {
    if parts.contains(&By::Address) {
        Room::Capped
    } else {
        Room::ForAll
    }
}

/// One number for all addresses of one subject: an IPv4 address however it is written, or the
/// first bits of an IPv6 address.
fn address_bits(address: CallerAddress, ipv6_prefix: u8) -> u128 {
    /// `64:ff9b::/96` (RFC 6052): the last 32 bits are an IPv4 address.
    const NAT64: u128 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0).to_bits() >> 32;
    // IPv4 addresses are told from IPv6 ones as in their mapped form, ::ffff:0:0/96.
    let four = |bits: u32| 0xffff_0000_0000 | u128::from(bits);
    match address {
        CallerAddress::Unknown => 0,
        CallerAddress::Known(address) => match address.to_canonical() {
            IpAddr::V4(address) => four(address.to_bits()),
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                if bits >> 32 == NAT64 {
                    return four((bits & u128::from(u32::MAX)) as u32);
                }
                let host_bits = 128 - u32::from(ipv6_prefix.clamp(1, 128));
                bits >> host_bits << host_bits
            }
        },
    }
}
