//! Addresses and ranges of addresses: parses both and normalises the spellings of one address.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use thiserror::Error;

/// Accepted spellings of a range, for error messages.
pub const ACCEPTED_RANGE: &str = "an IP address, or one with a prefix length, such as `10.0.0.0/8` or `2001:db8::1`; without leading zeros in numbers, and without a zone";

/// Length of the IPv4-mapped prefix `::ffff:0:0/96` (RFC 4291 section 2.5.5.2).
const MAPPED_PREFIX_BITS: u8 = 96;

/// Parses an address (RFC 4291 section 2.2 or dotted decimal) and maps an IPv4-mapped IPv6 address
/// to IPv4. Refuses white space, a zone, a port, and leading zeros, which some parsers read as
/// octal.
#[must_use]
pub fn parse_address(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    Some(address.to_canonical())
}

/// The text is not a range.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a range: {ACCEPTED_RANGE}")]
pub struct InvalidRange;

/// A single address, or every address with a common prefix.
///
/// Clears the bits beyond the prefix: `10.1.2.3/8` is `10.0.0.0/8`. An IPv4-mapped IPv6 range
/// becomes its IPv4 range, so `::/0` holds every IPv6 address and no IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange(IpNet);

impl AddressRange {
    /// Returns whether the range contains `address`, in either spelling of an IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl From<IpNet> for AddressRange {
    fn from(range: IpNet) -> Self {
        if let IpNet::V6(range) = range
            && let Some(address) = range.addr().to_ipv4_mapped()
            && let Some(bits) = range.prefix_len().checked_sub(MAPPED_PREFIX_BITS)
            && let Ok(range) = Ipv4Net::new(address, bits)
        {
            return Self(IpNet::V4(range.trunc()));
        }
        Self(range.trunc())
    }
}

impl From<IpAddr> for AddressRange {
    fn from(address: IpAddr) -> Self {
        Self(address.to_canonical().into())
    }
}

impl FromStr for AddressRange {
    type Err = InvalidRange;

    /// Parses an address, or an address, `/` and a prefix length in decimal digits.
    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let Some((address, bits)) = text.split_once('/') else {
            return parse_address(text).map(Self::from).ok_or(InvalidRange);
        };
        // Not yet normalised: the prefix length counts in the address family of the text.
        let address: IpAddr = address.parse().map_err(|_| InvalidRange)?;
        let canonical_digits = bits.bytes().all(|digit| digit.is_ascii_digit())
            && (bits.len() == 1 || !bits.starts_with('0'));
        let bits: u8 = bits.parse().map_err(|_| InvalidRange)?;
        let is_mapped =
            matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some());
        // `::ffff:10.0.0.0/8` would cover most of IPv6 and no IPv4: never what its author means.
        if !canonical_digits || (is_mapped && bits < MAPPED_PREFIX_BITS) {
            return Err(InvalidRange);
        }
        IpNet::new(address, bits)
            .map(Self::from)
            .map_err(|_| InvalidRange)
    }
}

/// Omits the prefix length of a single address.
impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            write!(f, "{}", self.0.addr())
        } else {
            write!(f, "{}", self.0)
        }
    }
}

/// Address of the client, if known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerAddress {
    /// The address; IPv4 is never in its mapped form.
    Known(IpAddr),
    /// No trusted source for the address; outside every range.
    Unknown,
}

impl From<IpAddr> for CallerAddress {
    fn from(address: IpAddr) -> Self {
        Self::Known(address.to_canonical())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    /// Addresses and their canonical text.
    const ADDRESSES: [(&str, &str); 20] = [
        ("0.0.0.0", "0.0.0.0"),
        ("10.0.0.1", "10.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("192.0.2.77", "192.0.2.77"),
        ("255.255.255.255", "255.255.255.255"),
        ("::", "::"),
        ("::1", "::1"),
        ("1::", "1::"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1"),
        ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::FFFF:10.0.0.1", "10.0.0.1"),
        ("::ffff:a00:1", "10.0.0.1"),
        ("0:0:0:0:0:ffff:10.0.0.1", "10.0.0.1"),
        ("::10.0.0.1", "::a00:1"),
        ("64:ff9b::10.0.0.1", "64:ff9b::a00:1"),
        ("fe80::1", "fe80::1"),
        ("::ffff:0:10.0.0.1", "::ffff:0:a00:1"),
    ];

    /// Texts that are not addresses.
    const NO_ADDRESSES: [&str; 62] = [
        "",
        " ",
        "a",
        "localhost",
        "unknown",
        "_hidden",
        "-",
        "*",
        "0",
        "10",
        "10.0.0",
        "10.0.0.",
        ".10.0.0.1",
        "10..0.1",
        "10.0.0.0.1",
        "010.0.0.1",
        "10.00.0.1",
        "10.0.0.01",
        "127.000.000.001",
        "0177.0.0.1",
        "0x7f.0.0.1",
        "0x7f000001",
        "2130706433",
        "256.0.0.1",
        "10.0.0.256",
        "10.0.0.-1",
        "+10.0.0.1",
        "10.0.0.+1",
        "10.0.0.1e0",
        " 10.0.0.1",
        "10.0.0.1 ",
        "10.0.0.1\n",
        "\t10.0.0.1",
        "10.0.0. 1",
        "10.0.0.1\0",
        "10.0.0.1:80",
        "10.0.0.1,10.0.0.2",
        "10.0.0.1;",
        "１０.0.0.1",
        "10。0.0.1",
        "\"10.0.0.1\"",
        "[10.0.0.1]",
        "[::1]",
        "[::1]:80",
        "::1%1",
        "::1%eth0",
        "fe80::1%lo",
        "fe80::1%25lo",
        ":",
        ":::",
        "1::2::3",
        "1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7:8:9",
        "1:2:3:4:5:6:7::8",
        "12345::",
        "00001::",
        "g::",
        "::ffff:010.0.0.1",
        "::ffff:10.0.0",
        "::ffff:10.0.0.256",
        "1.2.3.4::",
        "for=10.0.0.1",
    ];

    #[test]
    fn an_address_has_one_meaning_or_is_none() {
        for (text, shown) in ADDRESSES {
            let address = parse_address(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(address.to_string(), shown, "{text}");
            assert_eq!(text.parse::<AddressRange>().unwrap().to_string(), shown);
        }
        for text in NO_ADDRESSES {
            assert_eq!(parse_address(text), None, "{text:?}");
            assert_eq!(text.parse::<AddressRange>(), Err(InvalidRange), "{text:?}");
        }
    }

    #[test]
    fn a_range_has_one_meaning_or_is_none() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3/0", "0.0.0.0/0"),
            ("10.1.2.3/32", "10.1.2.3"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("2001:db8::1/128", "2001:db8::1"),
            ("::/0", "::/0"),
            ("::ffff:10.1.2.3/104", "10.0.0.0/8"),
            ("::ffff:10.1.2.3/128", "10.1.2.3"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::ffff:a01:203/112", "10.1.0.0/16"),
        ] {
            let range: AddressRange = text.parse().unwrap_or_else(|_| panic!("{text}"));
            assert_eq!(range.to_string(), shown, "{text}");
            assert_eq!(shown.parse(), Ok(range), "{text}");
        }
        for bits in [
            "",
            " ",
            "-1",
            "+8",
            "08",
            "00",
            "032",
            "8 ",
            " 8",
            "8\n",
            "8/8",
            "/8",
            "8.0",
            "0x8",
            "a",
            "129",
            "256",
            "264",
            "1000",
            "٨",
            "255.0.0.0",
            "8,",
            "8;",
        ] {
            for (address, _) in ADDRESSES {
                let text = format!("{address}/{bits}");
                assert_eq!(text.parse::<AddressRange>(), Err(InvalidRange), "{text:?}");
            }
        }
        for bits in ["33", "64", "128"] {
            let text = format!("10.0.0.0/{bits}");
            assert_eq!(text.parse::<AddressRange>(), Err(InvalidRange), "{text:?}");
        }
        // A prefix length that ends inside the mapped prefix is not an IPv4 prefix length.
        for bits in ["0", "8", "32", "95"] {
            let text = format!("::ffff:10.0.0.0/{bits}");
            assert_eq!(text.parse::<AddressRange>(), Err(InvalidRange), "{text:?}");
        }
        for address in NO_ADDRESSES {
            for bits in ["0", "8", "32"] {
                let text = format!("{address}/{bits}");
                assert_eq!(text.parse::<AddressRange>(), Err(InvalidRange), "{text:?}");
            }
        }
    }

    prop_compose! {
        fn address()(kind in 0..3, bits: u128) -> IpAddr {
            match kind {
                0 => Ipv4Addr::from_bits(bits as u32).into(),
                1 => Ipv4Addr::from_bits(bits as u32).to_ipv6_mapped().into(),
                _ => Ipv6Addr::from_bits(bits).into(),
            }
        }
    }

    proptest! {
        #[test]
        fn a_range_reads_back_as_it_is_shown_and_holds_its_addresses(address in address(), bits in 0u8..=128) {
            if let Ok(range) = format!("{address}/{bits}").parse::<AddressRange>() {
                prop_assert_eq!(range.to_string().parse(), Ok(range));
                prop_assert!(range.contains(address));
            }
            let single = AddressRange::from(address);
            prop_assert_eq!(single.to_string().parse(), Ok(single));
            prop_assert_eq!(parse_address(&address.to_string()), Some(address.to_canonical()));
        }

        #[test]
        fn no_text_is_read_in_two_ways(text in "[0-9a-fx:./% +-]{0,24}") {
            // The canonical text has the same digits: no octal numbers, no omitted parts.
            if let Some(IpAddr::V4(address)) = parse_address(&text) && !text.contains(':') {
                prop_assert_eq!(address.to_string(), text);
            }
        }
    }
}
