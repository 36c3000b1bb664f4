//! Whom a limit counts: from the facts of a request to a keyed hash.

use std::fmt;
#[expect(
    deprecated,
    reason = "the standard library has no other hash with a key that is given"
)]
use std::hash::SipHasher;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use ring::hmac;
use thiserror::Error;

use crate::keys::{CallerAddress, Tag};
use crate::limits::holder::Holder;
use crate::limits::network::embedded;
use crate::limits::table::{Room, SubjectHash};

/// What tells the subjects of a limit apart; several of them do together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// The key; those that a chain of rolls replaced are one with it. For a token its subject, with
    /// its issuer.
    Key,
    /// The consumer; tokens without one are not limited.
    Consumer,
    /// The plan of the consumer; consumers without one are not limited.
    Plan,
    /// The value of this tag of the consumer; consumers without it are not limited.
    Tag(Arc<str>),
    /// The client's address: an IPv4 address, or a prefix of IPv6. An unknown one is an address
    /// like any other.
    Address,
    /// Requests without a credential, all together.
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
    /// Holder of the credential; `None` for an anonymous request.
    pub holder: Option<Holder<'r>>,
    /// The client's address.
    pub address: CallerAddress,
    /// Name of the route.
    pub route: &'r str,
}

impl By {
    /// Accepted texts, for error messages.
    pub const ACCEPTED: &'static str = "\"key\", \"consumer\", \"plan\", \"tag:NAME\", \"address\", \"anonymous\", \"route\", \"gateway\", or a list of these, which count together";

    /// Those that are a word of their own.
    const WORDS: [(&'static str, Self); 7] = [
        ("key", Self::Key),
        ("consumer", Self::Consumer),
        ("plan", Self::Plan),
        ("address", Self::Address),
        ("anonymous", Self::Anonymous),
        ("route", Self::Route),
        ("gateway", Self::Gateway),
    ];

    /// Whether a route may choose among limits by this.
    #[must_use]
    pub fn is_chosen_by_routes(&self) -> bool {
        matches!(
            self,
            Self::Key | Self::Consumer | Self::Plan | Self::Tag(_) | Self::Route
        )
    }

    /// Whether only requests with a credential have it.
    #[must_use]
    pub fn needs_key(&self) -> bool {
        matches!(self, Self::Key | Self::Consumer | Self::Plan | Self::Tag(_))
    }
}

impl FromStr for By {
    type Err = NotASubject;

    fn from_str(text: &str) -> Result<Self, NotASubject> {
        if let Some(name) = text.strip_prefix("tag:")
            && Tag::new(name, "").is_ok()
        {
            return Ok(Self::Tag(name.into()));
        }
        let found = Self::WORDS.into_iter().find(|(word, _)| *word == text);
        found
            .map(|(_, by)| by)
            .ok_or_else(|| NotASubject(text.to_owned()))
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Tag(name) = self {
            return write!(f, "tag:{name}");
        }
        let word = Self::WORDS.into_iter().find(|(_, by)| by == self);
        f.write_str(word.map_or("", |(word, _)| word))
    }
}

/// Hashes subjects with a key that clients do not know.
#[derive(Clone)]
pub(super) struct Subjects {
    key: (u64, u64),
}

impl Default for Subjects {
    /// With a key of this process alone.
    fn default() -> Self {
        let random = RandomState::new();
        Self {
            key: (random.hash_one(0), random.hash_one(1)),
        }
    }
}

impl fmt::Debug for Subjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subjects([redacted])")
    }
}

impl Subjects {
    /// With a key derived from `secret`.
    pub(super) fn of_fleet(secret: &[u8]) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        // A derived key, so that no hash reveals anything about the secret's other uses.
        let derived = hmac::sign(&secret, b"postern subjects of limits 1");
        let half = |at: usize| {
            let bytes = derived.as_ref().iter().skip(at).take(8);
            bytes.fold(0, |half, byte| half << 8 | u64::from(*byte))
        };
        Self {
            key: (half(0), half(8)),
        }
    }

    #[expect(
        deprecated,
        reason = "the standard library has no other hash with a key that is given"
    )]
    fn hasher(&self) -> SipHasher {
        SipHasher::new_with_keys(self.key.0, self.key.1)
    }

    /// The subject of a limit by `parts`; `None` if the limit does not apply to the request.
    pub(super) fn of(
        &self,
        parts: &[By],
        facts: &Facts<'_>,
        ipv6_prefix: u8,
    ) -> Option<SubjectHash> {
        let mut hash = self.hasher();
        for part in parts {
            match (part, &facts.holder) {
                (By::Key, Some(holder)) => holder.hash_credential(&mut hash)?,
                (By::Consumer, Some(holder)) => holder.consumer()?.hash(&mut hash),
                (By::Plan, Some(holder)) => holder.plan()?.as_str().hash(&mut hash),
                (By::Tag(name), Some(holder)) => holder.tag(name)?.hash(&mut hash),
                (By::Address, _) => hash.write_u128(address_bits(facts.address, ipv6_prefix)),
                (By::Anonymous, None) => {}
                (By::Route, _) => facts.route.hash(&mut hash),
                (By::Gateway, _) => {}
                (By::Key | By::Consumer | By::Plan | By::Tag(_), None)
                | (By::Anonymous, Some(_)) => {
                    return None;
                }
            }
        }
        Some(SubjectHash(hash.finish()))
    }

    /// The subject of a limit of `holder` by key or consumer.
    pub(super) fn of_holder(&self, by: &By, holder: &Holder<'_>) -> Option<SubjectHash> {
        let mut hash = self.hasher();
        match by {
            By::Key => holder.hash_credential(&mut hash)?,
            _ => holder.consumer()?.hash(&mut hash),
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
    // IPv4 addresses are told from IPv6 ones as in their mapped form, ::ffff:0:0/96.
    let four = |bits: u32| 0xffff_0000_0000 | u128::from(bits);
    match address {
        CallerAddress::Unknown => 0,
        CallerAddress::Known(address) => match embedded(address.to_canonical()) {
            IpAddr::V4(address) => four(address.to_bits()),
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                let host_bits = 128 - u32::from(ipv6_prefix.clamp(1, 128));
                bits >> host_bits << host_bits
            }
        },
    }
}
