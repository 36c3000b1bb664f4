//! Networks that count as one caller.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::keys::{AddressRange, CallerAddress};

/// Prefix length of one IPv4 caller, and of its neighbourhood.
const V4: [u8; 2] = [32, 24];
/// Prefix length of one IPv6 caller, and of its neighbourhood. One site has a whole /64 (RFC 6177),
/// and many a /48.
const V6: [u8; 2] = [64, 48];
/// First 96 bits of an address that embeds one of IPv4 (RFC 6052, section 2.1).
const NAT64: u128 = 0x0064_ff9b << 96;

/// Network of one caller: an IPv4 address or an IPv6 /64; `None` for an unknown address.
#[must_use]
pub fn caller(address: CallerAddress) -> Option<AddressRange> {
    range(address, 0)
}

/// Network around a caller: an IPv4 /24 or an IPv6 /48; `None` for an unknown address.
#[must_use]
pub fn neighbourhood(address: CallerAddress) -> Option<AddressRange> {
    range(address, 1)
}

fn range(address: CallerAddress, tier: usize) -> Option<AddressRange> {
    let CallerAddress::Known(address) = address else {
        return None;
    };
    let address = embedded(address.to_canonical());
    let lengths = if address.is_ipv4() { V4 } else { V6 };
    let range = IpNet::new(address, *lengths.get(tier)?).ok()?;
    Some(range.into())
}

/// IPv4 address behind a translator. Otherwise all clients behind one would share a /64.
pub(super) fn embedded(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(six) if six.to_bits() >> 32 == NAT64 >> 32 => {
            let low = u32::try_from(six.to_bits() & u128::from(u32::MAX)).unwrap_or_default();
            Ipv4Addr::from_bits(low).into()
        }
        other => other,
    }
}

/// Whether the address is private: that of a proxy rather than of a client on the Internet.
#[must_use]
pub fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(four) => {
            // Shared address space (RFC 6598) as well.
            let [first, second, ..] = four.octets();
            four.is_private()
                || four.is_loopback()
                || four.is_link_local()
                || (first == 100 && second & 0xc0 == 64)
        }
        IpAddr::V6(six) => {
            six.is_loopback() || six.is_unique_local() || six.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_network_however_it_is_spelt() {
        for (address, one, around) in [
            ("192.0.2.1", "192.0.2.1", "192.0.2.0/24"),
            ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.0/24"),
            ("64:ff9b::192.0.2.1", "192.0.2.1", "192.0.2.0/24"),
            ("64:ff9b:1::1", "64:ff9b:1::/64", "64:ff9b:1::/48"),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::/64", "2001:db8:1::/48"),
            ("::1", "::/64", "::/48"),
        ] {
            // Not by `From`, which maps IPv4 already.
            let known = CallerAddress::Known(address.parse().unwrap());
            assert_eq!(caller(known).unwrap().to_string(), one, "{address}");
            assert_eq!(
                neighbourhood(known).unwrap().to_string(),
                around,
                "{address}"
            );
        }
        assert_eq!(caller(CallerAddress::Unknown), None);
        assert_eq!(neighbourhood(CallerAddress::Unknown), None);
    }

    #[test]
    fn addresses_of_proxies_are_told_from_those_of_clients() {
        for (address, private) in [
            ("10.0.0.1", true),
            ("172.16.0.1", true),
            ("172.32.0.1", false),
            ("192.168.1.1", true),
            ("127.0.0.1", true),
            ("169.254.0.1", true),
            ("100.64.0.1", true),
            ("100.127.255.255", true),
            ("100.128.0.1", false),
            ("192.0.2.1", false),
            ("::1", true),
            ("fd00::1", true),
            ("fe80::1", true),
            ("::ffff:10.0.0.1", true),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_private(address.parse().unwrap()), private, "{address}");
        }
    }
}
