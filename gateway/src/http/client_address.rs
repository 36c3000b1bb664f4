//! Who the client is on the network: the peer, or what a trusted proxy in front says of it.

use std::net::{IpAddr, SocketAddr};

use actix_http::header::{HeaderMap, HeaderName};

use crate::keys::address::parse_address;
use crate::keys::{AddressRange, CallerAddress};

/// The header in which proxies name whom they serve, nearest last.
pub static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Headers in which other proxies name whom they serve. Not read.
static OTHERS: [HeaderName; 2] = [
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("x-real-ip"),
];

/// Most addresses that are read of `X-Forwarded-For`. Behind more proxies than that, the client is unknown.
const MAX_HOPS: u8 = 32;

/// The client as the gateway believes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress {
    /// The client's address.
    pub client: CallerAddress,
    /// The address at the other end of the connection, or the one that a trusted load balancer announced.
    pub peer: CallerAddress,
    /// How many elements of `X-Forwarded-For`, from the right, are addresses that are believed.
    believed_hops: u8,
    /// Whether the peer is a trusted proxy, whose forwarding headers are kept.
    pub through_trusted_proxy: bool,
}

impl ClientAddress {
    /// Believes `X-Forwarded-For` only as far as trusted proxies wrote it: from the right, the first element that is no trusted
    /// proxy's address is the client. Where that is no address, or the header is missing and `Forwarded` (RFC 7239) or
    /// `X-Real-IP` stands in its place, the client is unknown: it must not be taken for the proxy that serves it.
    #[must_use]
    pub fn identify(
        peer: Option<SocketAddr>,
        headers: &HeaderMap,
        trusted_proxies: &[AddressRange],
    ) -> Self {
        let peer = peer.map_or(CallerAddress::Unknown, |peer| peer.ip().into());
        let mut identified = Self {
            client: peer,
            peer,
            believed_hops: 0,
            through_trusted_proxy: is_trusted(peer, trusted_proxies),
        };
        if !identified.through_trusted_proxy {
            return identified;
        }
        let lines = lines(headers);
        for element in elements(&lines) {
            identified.client = if identified.believed_hops == MAX_HOPS {
                CallerAddress::Unknown
            } else {
                parse_node(element).map_or(CallerAddress::Unknown, CallerAddress::Known)
            };
            if identified.client != CallerAddress::Unknown {
                identified.believed_hops += 1;
            }
            if !is_trusted(identified.client, trusted_proxies) {
                break;
            }
        }
        if lines.is_empty() && OTHERS.iter().any(|name| headers.contains_key(name)) {
            identified.client = CallerAddress::Unknown;
        }
        identified
    }

    /// Writes `X-Forwarded-For` as the origin may believe it: the client, the trusted proxies between, and the peer. What a
    /// client wrote of itself, ports, and what is no address are left out.
    pub fn write_chain(&self, headers: &HeaderMap, chain: &mut Vec<u8>) {
        if self.client == CallerAddress::Unknown && self.peer != CallerAddress::Unknown {
            write_caller_address(self.client, chain);
            chain.extend_from_slice(b", ");
        }
        if self.believed_hops > 0 {
            let lines = lines(headers);
            let believed = elements(&lines).take(self.believed_hops.into());
            let mut believed: Vec<IpAddr> = believed.filter_map(parse_node).collect();
            believed.reverse();
            for address in believed {
                write_address(address, chain);
                chain.extend_from_slice(b", ");
            }
        }
        write_caller_address(self.peer, chain);
    }
}

fn is_trusted(address: CallerAddress, trusted_proxies: &[AddressRange]) -> bool {
    match address {
        CallerAddress::Known(address) => {
            trusted_proxies.iter().any(|range| range.contains(address))
        }
        CallerAddress::Unknown => false,
    }
}

/// The lines of `X-Forwarded-For`, as they came.
fn lines(headers: &HeaderMap) -> Vec<&[u8]> {
    headers
        .get_all(&FORWARDED_FOR)
        .map(|line| line.as_bytes())
        .collect()
}

/// The elements of all lines, the last first.
fn elements<'l>(lines: &'l [&[u8]]) -> impl Iterator<Item = &'l [u8]> {
    lines
        .iter()
        .rev()
        .flat_map(|line| line.rsplit(|byte| *byte == b','))
}

/// Reads an address, or a node of RFC 7239 section 6 that has one: a port may follow, and then IPv6 stands in brackets.
fn parse_node(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element).ok()?.trim_matches([' ', '\t']);
    if let Some(address) = parse_address(text) {
        return Some(address);
    }
    let (address, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (six, rest) = rest.split_once(']')?;
            let port = match rest {
                "" => None,
                rest => Some(rest.strip_prefix(':')?),
            };
            (six.contains(':').then_some(six)?, port)
        }
        None => {
            let (four, port) = text.split_once(':')?;
            (four, Some(port))
        }
    };
    if port.is_some_and(|port| !is_node_port(port)) {
        return None;
    }
    parse_address(address)
}

/// A port, or a name in its place (RFC 7239 section 6.3).
fn is_node_port(port: &str) -> bool {
    match port.strip_prefix('_') {
        Some(name) => {
            let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !name.is_empty() && name.bytes().all(is_allowed)
        }
        None => {
            (1..=5).contains(&port.len())
                && port.bytes().all(|byte| byte.is_ascii_digit())
                && port.parse::<u16>().is_ok()
        }
    }
}

/// Writes an address as text, or the word for one that is not known (RFC 7239 section 6.2).
pub fn write_caller_address(address: CallerAddress, text: &mut Vec<u8>) {
    match address {
        CallerAddress::Known(address) => write_address(address, text),
        CallerAddress::Unknown => text.extend_from_slice(b"unknown"),
    }
}

/// Writes an address as text; for IPv4 without the machinery of formatting, which costs more than the digits.
fn write_address(address: IpAddr, text: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    text.push(b'.');
                }
                text.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
            }
        }
        IpAddr::V6(address) => text.extend_from_slice(address.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use actix_http::header::HeaderValue;

    use super::*;

    fn trusted() -> Vec<AddressRange> {
        ["10.0.0.0/8", "fd00::/8"]
            .map(|range| range.parse().unwrap())
            .to_vec()
    }

    /// Whom the gateway takes for the client, and what the origin is told.
    fn identified(peer: &str, lines: &[&[u8]]) -> (String, String) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(
                FORWARDED_FOR.clone(),
                HeaderValue::from_bytes(line).unwrap(),
            );
        }
        shown(peer, &headers)
    }

    fn shown(peer: &str, headers: &HeaderMap) -> (String, String) {
        let found = ClientAddress::identify(peer.parse().ok(), headers, &trusted());
        let (mut client, mut chain) = (Vec::new(), Vec::new());
        write_caller_address(found.client, &mut client);
        found.write_chain(headers, &mut chain);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(client), text(chain))
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        for (peer, lines, client, chain) in [
            ("192.0.2.1:1", &[][..], "192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:1", &["203.0.113.9"], "192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:1", &["unknown"], "192.0.2.1", "192.0.2.1"),
            ("10.0.0.1:1", &[], "10.0.0.1", "10.0.0.1"),
            (
                "10.0.0.1:1",
                &["203.0.113.9"],
                "203.0.113.9",
                "203.0.113.9, 10.0.0.1",
            ),
            (
                "[::ffff:10.0.0.1]:1",
                &["203.0.113.9"],
                "203.0.113.9",
                "203.0.113.9, 10.0.0.1",
            ),
            (
                "10.0.0.1:1",
                &["198.51.100.7, 203.0.113.9"],
                "203.0.113.9",
                "203.0.113.9, 10.0.0.1",
            ),
            (
                "10.0.0.1:1",
                &["198.51.100.7, 203.0.113.9, 10.0.0.2"],
                "203.0.113.9",
                "203.0.113.9, 10.0.0.2, 10.0.0.1",
            ),
            (
                "10.0.0.1:1",
                &["198.51.100.7", "203.0.113.9:1, [::ffff:10.0.0.2]:9"],
                "203.0.113.9",
                "203.0.113.9, 10.0.0.2, 10.0.0.1",
            ),
            (
                "10.0.0.1:1",
                &["10.0.0.3, 10.0.0.2"],
                "10.0.0.3",
                "10.0.0.3, 10.0.0.2, 10.0.0.1",
            ),
            (
                "10.0.0.1:1",
                &["203.0.113.9, unknown"],
                "unknown",
                "unknown, 10.0.0.1",
            ),
            (
                "10.0.0.1:1",
                &["203.0.113.9, <script>, 10.0.0.2"],
                "unknown",
                "unknown, 10.0.0.2, 10.0.0.1",
            ),
            (
                "10.0.0.1:1",
                &["<script>, 203.0.113.9"],
                "203.0.113.9",
                "203.0.113.9, 10.0.0.1",
            ),
            (
                "10.0.0.1:1",
                &["203.0.113.9", ""],
                "unknown",
                "unknown, 10.0.0.1",
            ),
            (
                "10.0.0.1:1",
                &["", "203.0.113.9"],
                "203.0.113.9",
                "203.0.113.9, 10.0.0.1",
            ),
            (
                "[fd00::1]:1",
                &["2001:db8::7"],
                "2001:db8::7",
                "2001:db8::7, fd00::1",
            ),
            (
                "a socket that is gone",
                &["203.0.113.9"],
                "unknown",
                "unknown",
            ),
        ] {
            let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
            let wanted = (client.to_owned(), chain.to_owned());
            assert_eq!(identified(peer, &lines), wanted, "{peer} {lines:?}");
        }
    }

    #[test]
    fn an_element_is_an_address_or_makes_the_client_unknown() {
        for (element, client) in [
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7:51008", "203.0.113.7"),
            ("203.0.113.7:0", "203.0.113.7"),
            ("203.0.113.7:65535", "203.0.113.7"),
            ("203.0.113.7:00080", "203.0.113.7"),
            ("203.0.113.7:_ephemeral-1.a", "203.0.113.7"),
            ("  203.0.113.7:51008\t", "203.0.113.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:443", "2001:db8::7"),
            ("[2001:DB8:0::7]:_x", "2001:db8::7"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("[::ffff:203.0.113.7]:51008", "203.0.113.7"),
        ] {
            let (found, chain) = identified("10.0.0.1:1", &[element.as_bytes()]);
            assert_eq!(found, client, "{element:?}");
            assert_eq!(chain, format!("{client}, 10.0.0.1"), "{element:?}");
        }
        for element in [
            "",
            " ",
            "unknown",
            "Unknown",
            "unknown:80",
            "_hidden",
            "_hidden:80",
            "-",
            "localhost",
            "gateway.internal",
            "203.0.113",
            "203.0.113.7.8",
            "203.0.113.256",
            "203.0.113.07",
            "0203.0.113.7",
            "203.0.113.7:",
            "203.0.113.7::1",
            "203.0.113.7:65536",
            "203.0.113.7:99999",
            "203.0.113.7:123456",
            "203.0.113.7:-1",
            "203.0.113.7:+1",
            "203.0.113.7:1a",
            "203.0.113.7: 1",
            "203.0.113.7 :1",
            "203.0.113.7:_",
            "203.0.113.7:_a b",
            "203.0.113.7/32",
            "203.0.113.7 10.0.0.5",
            "203.0.113.7;10.0.0.5",
            "[203.0.113.7]",
            "[203.0.113.7]:80",
            "[2001:db8::7",
            "2001:db8::7]",
            "[2001:db8::7]80",
            "[2001:db8::7]:",
            "[2001:db8::7]:x",
            "[[2001:db8::7]]",
            "[]",
            "[]:80",
            "fe80::7%eth0",
            "[fe80::7%25eth0]:80",
            "2001:db8::7::443",
            "\"203.0.113.7\"",
            "\"[2001:db8::7]:443\"",
            "'203.0.113.7'",
            "for=203.0.113.7",
            "for=\"[2001:db8::7]\"",
            "http://203.0.113.7",
            "203.0.113.7\u{a0}",
            "２03.0.113.7",
            "\u{ff}",
        ] {
            let (found, chain) = identified("10.0.0.1:1", &[element.as_bytes()]);
            assert_eq!(found, "unknown", "{element:?}");
            assert_eq!(chain, "unknown, 10.0.0.1", "{element:?}");
            // Nor is the next hop taken in its place, on either side.
            let among = format!("10.0.0.4, {element}, 10.0.0.3");
            let (found, chain) = identified("10.0.0.1:1", &[among.as_bytes()]);
            assert_eq!(found, "unknown", "{among:?}");
            assert_eq!(chain, "unknown, 10.0.0.3, 10.0.0.1", "{among:?}");
        }
        assert_eq!(
            identified("10.0.0.1:1", &[b"203.0.113.7, \xff"]).0,
            "unknown"
        );
        assert_eq!(
            identified("10.0.0.1:1", &[b"\xff, 203.0.113.7"]).0,
            "203.0.113.7"
        );
    }

    #[test]
    fn a_trusted_proxy_that_names_its_client_elsewhere_is_not_taken_for_it() {
        for name in ["forwarded", "x-real-ip"] {
            let mut headers = HeaderMap::new();
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static("for=203.0.113.9"),
            );
            assert_eq!(shown("10.0.0.1:1", &headers).0, "unknown", "{name}");
            assert_eq!(shown("192.0.2.1:1", &headers).0, "192.0.2.1", "{name}");
            headers.append(
                FORWARDED_FOR.clone(),
                HeaderValue::from_static("203.0.113.9"),
            );
            assert_eq!(shown("10.0.0.1:1", &headers).0, "203.0.113.9", "{name}");
        }
    }

    #[test]
    fn behind_more_proxies_than_are_followed_the_client_is_unknown() {
        let most = usize::from(MAX_HOPS);
        let within = format!("203.0.113.9{}", ", 10.0.0.2".repeat(most - 1));
        assert_eq!(
            identified("10.0.0.1:1", &[within.as_bytes()]).0,
            "203.0.113.9"
        );
        let beyond = format!("203.0.113.9{}", ", 10.0.0.2".repeat(most));
        let (client, chain) = identified("10.0.0.1:1", &[beyond.as_bytes()]);
        assert_eq!(client, "unknown");
        assert_eq!(chain.split(", ").count(), most + 2);
        let lines = vec![b"10.0.0.2,10.0.0.2".as_slice(); 5_000];
        assert_eq!(identified("10.0.0.1:1", &lines).0, "unknown");
    }

    #[test]
    fn addresses_are_written_as_they_read() {
        for address in [
            "0.0.0.0",
            "192.0.2.1",
            "255.255.255.255",
            "::1",
            "2001:db8::7",
        ] {
            let mut text = Vec::new();
            write_address(address.parse().unwrap(), &mut text);
            assert_eq!(text, address.as_bytes());
        }
    }

    #[test]
    fn without_trusted_proxies_the_header_says_nothing() {
        let mut headers = HeaderMap::new();
        headers.append(
            FORWARDED_FOR.clone(),
            HeaderValue::from_static("203.0.113.9"),
        );
        let found =
            ClientAddress::identify(Some(SocketAddr::from(([192, 0, 2, 1], 1))), &headers, &[]);
        assert_eq!(
            (found.client, found.through_trusted_proxy),
            (IpAddr::from([192, 0, 2, 1]).into(), false)
        );
    }
}
