//! Requests on routes that only observe, by who sent them, in the words that a report shows: the
//! range of an address instead of the address, the product of a client instead of what it says of
//! itself.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::keys::usage::Hour;
use crate::keys::{AddressRange, CallerAddress, ConsumerId, UnixMillis};

/// Word for networks and clients that have no row of their own.
pub const OTHER: &str = "other";
/// Word for clients without a `User-Agent`.
const NO_CLIENT: &str = "none";
/// Word for an unknown address.
const NO_NETWORK: &str = "unknown";
/// Maximum length of the name of a product, in bytes.
const MAX_PRODUCT_BYTES: usize = 32;
/// Digits that the name of a product may have; more may be a version or a secret.
const MAX_PRODUCT_DIGITS: usize = 3;
/// Prefix lengths of a network: what one site usually has.
const PREFIX_V4: u8 = 24;
const PREFIX_V6: u8 = 64;

/// A day in UTC, by its first millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i64);

/// Range of addresses that a caller comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(Box<str>);

/// Class of a client: the product that its `User-Agent` names first, in lower case and without its
/// version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientClass(Box<str>);

/// Who came to a route without a good key, and why it was none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Newcomer {
    /// Code that the refusal would have had.
    pub code: Box<str>,
    /// Its cause, as in the access log.
    pub cause: Box<str>,
    /// Consumer of the key, where the key is known.
    pub consumer: Option<ConsumerId>,
    /// Range of the address.
    pub network: Network,
    /// Class of the client.
    pub client: ClientClass,
}

/// What rows are counted by: a route, a day, and who came; `None` for requests with a good key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdoptionKey {
    /// Name of the route.
    pub route: Arc<str>,
    /// Day.
    pub day: Day,
    /// Who came.
    pub newcomer: Option<Newcomer>,
}

/// Number of requests, and when the first and the last of them came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdoptionCounts {
    /// Requests.
    pub requests: u64,
    /// Arrival of the first.
    pub first_at: UnixMillis,
    /// Arrival of the last.
    pub last_at: UnixMillis,
}

impl Day {
    /// Returns the day of `at`.
    #[must_use]
    pub fn of(at: UnixMillis) -> Self {
        const MILLIS: i64 = 24 * Hour::MILLIS;
        Self(at.0.div_euclid(MILLIS).saturating_mul(MILLIS))
    }

    /// Returns the first millisecond.
    #[must_use]
    pub fn start(self) -> UnixMillis {
        UnixMillis(self.0)
    }
}

impl Network {
    /// Returns the range that `address` is in: a /24 or a /64.
    #[must_use]
    pub fn of(address: CallerAddress) -> Self {
        let CallerAddress::Known(address) = address else {
            return Self(NO_NETWORK.into());
        };
        let bits = match address {
            IpAddr::V4(_) => PREFIX_V4,
            IpAddr::V6(_) => PREFIX_V6,
        };
        let range = IpNet::new(address, bits).map(AddressRange::from);
        Self(range.map_or_else(|_| NO_NETWORK.into(), |range| range.to_string().into()))
    }

    /// The rest, without a row of its own.
    #[must_use]
    pub fn other() -> Self {
        Self(OTHER.into())
    }
}

impl ClientClass {
    /// Reads a `User-Agent` (RFC 9110, section 10.1.5). What is no plain name of a product is
    /// [`OTHER`], since clients can write anything there.
    #[must_use]
    pub fn of(user_agent: Option<&[u8]>) -> Self {
        let Some(text) = user_agent
            .map(<[u8]>::trim_ascii)
            .filter(|text| !text.is_empty())
        else {
            return Self(NO_CLIENT.into());
        };
        let end = text.iter().position(|byte| matches!(byte, b'/' | b' '));
        let product = text.get(..end.unwrap_or(text.len())).unwrap_or_default();
        let is_plain =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let digits = product.iter().filter(|byte| byte.is_ascii_digit()).count();
        let is_product = product.len() <= MAX_PRODUCT_BYTES
            && product.first().is_some_and(u8::is_ascii_alphabetic)
            && product.iter().all(is_plain)
            && digits <= MAX_PRODUCT_DIGITS;
        match std::str::from_utf8(product) {
            Ok(name) if is_product => Self(name.to_ascii_lowercase().into()),
            _ => Self::other(),
        }
    }

    /// The rest, without a row of its own.
    #[must_use]
    pub fn other() -> Self {
        Self(OTHER.into())
    }
}

impl Newcomer {
    /// The same without what sets one caller apart from another, for the row of the rest.
    #[must_use]
    pub fn as_other(&self) -> Self {
        Self {
            code: self.code.clone(),
            cause: self.cause.clone(),
            consumer: None,
            network: Network::other(),
            client: ClientClass::other(),
        }
    }
}

impl AdoptionCounts {
    /// One request at `at`.
    #[must_use]
    pub fn one(at: UnixMillis) -> Self {
        Self {
            requests: 1,
            first_at: at,
            last_at: at,
        }
    }

    /// Adds `more`.
    pub fn add(&mut self, more: Self) {
        self.requests = self.requests.saturating_add(more.requests);
        self.first_at = self.first_at.min(more.first_at);
        self.last_at = self.last_at.max(more.last_at);
    }
}

macro_rules! texts {
    ($($type:ident),*) => {$(
        impl $type {
            /// Returns the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

texts!(Network, ClientClass);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_by_its_network_alone() {
        for (address, network) in [
            ("192.0.2.77", "192.0.2.0/24"),
            ("::ffff:192.0.2.77", "192.0.2.0/24"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("::1", "::/64"),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(Network::of(address.into()).as_str(), network);
        }
        assert_eq!(Network::of(CallerAddress::Unknown).as_str(), "unknown");
    }

    #[test]
    fn a_client_is_shown_by_its_product_alone() {
        for (user_agent, class) in [
            ("curl/8.5.0", "curl"),
            ("Mozilla/5.0 (X11; Linux x86_64) Firefox/1", "mozilla"),
            ("python-requests/2.31", "python-requests"),
            ("Go-http-client/1.1", "go-http-client"),
            ("okhttp", "okhttp"),
            ("My_App.v2 (secret)", "my_app.v2"),
            ("", "none"),
            ("  ", "none"),
            ("/1.0", "other"),
            ("1password/8", "other"),
            ("sk_live_0123456789abcdef", "other"),
            ("pstn_R2cHh3tQ4y5e0f1", "other"),
            ("\u{1b}[31mred", "other"),
            ("caf\u{e9}/1", "other"),
            ("a,b", "other"),
            ("abcdefghijklmnopqrstuvwxyzabcdefg", "other"),
        ] {
            assert_eq!(
                ClientClass::of(Some(user_agent.as_bytes())).as_str(),
                class,
                "{user_agent}"
            );
        }
        assert_eq!(ClientClass::of(None).as_str(), "none");
    }

    #[test]
    fn a_day_begins_at_midnight() {
        const DAY: i64 = 86_400_000;
        for (at, start) in [(0, 0), (DAY - 1, 0), (DAY, DAY), (-1, -DAY)] {
            assert_eq!(Day::of(UnixMillis(at)).start(), UnixMillis(start));
        }
    }
}
