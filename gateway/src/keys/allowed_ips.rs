//! [`AllowedIps`]: the addresses that a consumer may call from.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::keys::address::{ACCEPTED_RANGE, AddressRange, CallerAddress, InvalidRange};

/// Maximum number of ranges of one consumer.
pub const MAX_RANGES: usize = 64;

/// Ranges of addresses, sorted and without duplicates; an empty list allows every address.
///
/// Written like `192.0.2.0/24 2001:db8::1`, each range as [`AddressRange`] displays it.
// A pointer, because most lists are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedIps(Option<Arc<Vec<AddressRange>>>);

/// Reason why a text is not a list of ranges; never quotes the text.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidAllowedIps {
    /// Not an address with an optional prefix length.
    #[error("an allowed range is {ACCEPTED_RANGE}")]
    Range,
    /// More than [`MAX_RANGES`].
    #[error("there are at most {MAX_RANGES} allowed ranges")]
    TooMany,
}

impl AllowedIps {
    /// Sorts and deduplicates `ranges`.
    pub fn new(ranges: impl IntoIterator<Item = AddressRange>) -> Result<Self, InvalidAllowedIps> {
        let mut ranges: Vec<AddressRange> = ranges.into_iter().collect();
        ranges.sort();
        ranges.dedup();
        match ranges.len() {
            0 => Ok(Self::default()),
            1..=MAX_RANGES => Ok(Self(Some(Arc::new(ranges)))),
            _ => Err(InvalidAllowedIps::TooMany),
        }
    }

    /// Iterates over the ranges in order.
    pub fn iter(&self) -> impl Iterator<Item = &AddressRange> {
        self.0.iter().flat_map(|ranges| ranges.iter())
    }

    /// Returns whether the list is empty, so any address may call.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns whether `address` is allowed: in one of the ranges, or the list is empty. An unknown
    /// address is in no range.
    #[must_use]
    pub fn contains(&self, address: CallerAddress) -> bool {
        self.is_empty()
            || match address {
                CallerAddress::Known(address) => self.iter().any(|range| range.contains(address)),
                CallerAddress::Unknown => false,
            }
    }
}

impl FromStr for AllowedIps {
    type Err = InvalidAllowedIps;

    /// Parses ranges separated by spaces or commas.
    fn from_str(text: &str) -> Result<Self, InvalidAllowedIps> {
        let words = text.split([' ', ',']).filter(|word| !word.is_empty());
        let ranges: Result<Vec<AddressRange>, InvalidRange> = words.map(str::parse).collect();
        match Self::new(ranges?)? {
            // A lone comma is a malformed list; reading it as empty would allow every address.
            empty if empty.is_empty() && text.contains(',') => Err(InvalidAllowedIps::Range),
            ranges => Ok(ranges),
        }
    }
}

/// Separates ranges by one space, the stored form.
impl fmt::Display for AllowedIps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, range) in self.iter().enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{range}")?;
        }
        Ok(())
    }
}

impl serde::Serialize for AllowedIps {
    /// Serializes as an array of strings.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(AddressRange::to_string))
    }
}

impl From<InvalidRange> for InvalidAllowedIps {
    fn from(InvalidRange: InvalidRange) -> Self {
        Self::Range
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use ipnet::IpNet;
    use proptest::prelude::*;

    use super::*;

    const MAPPED_PREFIX_BITS: u8 = 96;

    fn ranges(text: &str) -> AllowedIps {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_have_one_way_to_be_written() {
        for (text, canonical) in [
            ("", ""),
            ("  ", ""),
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1/32", "192.0.2.1"),
            ("192.0.2.77/24", "192.0.2.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:DB8:0::1", "2001:db8::1"),
            ("2001:db8::1/128,2001:db8::/32", "2001:db8::/32 2001:db8::1"),
            ("192.0.2.0/24, 10.0.0.0/8", "10.0.0.0/8 192.0.2.0/24"),
            ("10.0.0.0/8  10.0.0.0/8,10.1.2.3/8 ", "10.0.0.0/8"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1/120", "192.0.2.0/24"),
            ("::/0", "::/0"),
        ] {
            let parsed = ranges(text);
            assert_eq!(parsed.to_string(), canonical, "{text:?}");
            assert_eq!(ranges(canonical), parsed, "{text:?}");
            assert_eq!(parsed.is_empty(), canonical.is_empty(), "{text:?}");
        }
        assert_eq!(
            serde_json::to_string(&ranges("192.0.2.1 10.0.0.0/8")).unwrap(),
            r#"["10.0.0.0/8","192.0.2.1"]"#
        );
    }

    #[test]
    fn other_texts_are_no_ranges() {
        for text in [
            ",",
            " , ",
            "a",
            "192.0.2",
            "192.0.2.1/33",
            "192.0.2.1/",
            "192.0.2.1/-1",
            "::1/129",
            "192.0.2.1;10.0.0.1",
            "10.0.0.1\n",
            "::1%eth0",
        ] {
            assert_eq!(
                text.parse::<AllowedIps>(),
                Err(InvalidAllowedIps::Range),
                "{text:?}"
            );
        }
    }

    #[test]
    fn too_many_ranges_are_refused() {
        let addresses =
            |count: u8| (0..count).map(|last| AddressRange::from(IpAddr::from([192, 0, 2, last])));
        assert_eq!(
            AllowedIps::new(addresses(64)).unwrap().iter().count(),
            MAX_RANGES
        );
        assert_eq!(
            AllowedIps::new(addresses(65)),
            Err(InvalidAllowedIps::TooMany)
        );
    }

    #[test]
    fn an_address_is_held_against_the_ranges() {
        for (text, address, is_in) in [
            ("", "192.0.2.1", true),
            ("", "2001:db8::1", true),
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.0/24", "::ffff:192.0.2.7", true),
            ("::ffff:192.0.2.0/120", "192.0.2.7", true),
            ("192.0.2.0/24", "2001:db8::1", false),
            ("0.0.0.0/0", "::ffff:192.0.2.7", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "192.0.2.7", false),
            ("::/0", "::ffff:192.0.2.7", false),
            ("10.0.0.0/8 2001:db8::/32", "2001:db8:ffff::", true),
            ("10.0.0.0/8 2001:db8::1", "2001:db8::2", false),
        ] {
            assert_eq!(
                ranges(text).contains(address.parse::<IpAddr>().unwrap().into()),
                is_in,
                "{address} in {text:?}"
            );
        }
    }

    #[test]
    fn an_unknown_address_is_held_by_no_range() {
        for (text, is_in) in [("", true), ("0.0.0.0/0 ::/0", false), ("0.0.0.0", false)] {
            assert_eq!(
                ranges(text).contains(CallerAddress::Unknown),
                is_in,
                "{text:?}"
            );
        }
    }

    #[test]
    fn no_range_costs_no_more_than_a_pointer() {
        assert_eq!(size_of::<AllowedIps>(), size_of::<usize>());
    }

    prop_compose! {
        fn range()(is_v4: bool, bits: u128, length: u8) -> IpNet {
            // The low half of the bits is an IPv4 address, sometimes a mapped one.
            if is_v4 {
                IpNet::new(IpAddr::V4(Ipv4Addr::from_bits(bits as u32)), length % 33).unwrap()
            } else {
                IpNet::new(IpAddr::V6(Ipv6Addr::from_bits(bits >> (u32::from(length) % 128))), length % 129).unwrap()
            }
        }
    }

    proptest! {
        #[test]
        fn any_set_reads_back_and_holds_what_its_ranges_hold(
            nets in prop::collection::vec(range(), 1..MAX_RANGES), probes in prop::collection::vec(range(), 0..8),
        ) {
            let set = AllowedIps::new(nets.iter().copied().map(AddressRange::from)).unwrap();
            prop_assert_eq!(ranges(&set.to_string()), set.clone());
            for address in nets.iter().chain(&probes).map(IpNet::addr) {
                // Independent model: everything as IPv6, with IPv4 under the mapped prefix.
                let is_in = nets.iter().any(|net| holds(net, address));
                prop_assert_eq!(set.contains(address.into()), is_in, "{} in {}", address, set);
            }
        }

        #[test]
        fn no_text_is_read_as_leave_for_everyone(text in "[0-9a-f:./, x]{0,40}") {
            if let Ok(set) = text.parse::<AllowedIps>() {
                prop_assert_eq!(set.is_empty(), text.chars().all(|char| char == ' '));
            }
        }
    }

    fn holds(net: &IpNet, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let is_v4 = |address: IpAddr| bits(address) >> 32 == 0xffff;
        let length = match net {
            IpNet::V4(net) => MAPPED_PREFIX_BITS + net.prefix_len(),
            IpNet::V6(net) => net.prefix_len(),
        };
        // IPv4 ranges lie wholly within the mapped prefix.
        let range_is_v4 = is_v4(net.addr()) && length >= MAPPED_PREFIX_BITS;
        let differing = bits(net.addr()) ^ bits(address);
        range_is_v4 == is_v4(address)
            && differing.checked_shr(u32::from(128 - length)).unwrap_or(0) == 0
    }
}
