//! Who the client is on the network: the peer, or what a trusted proxy in front says of it.

use std::net::{IpAddr, SocketAddr};

use actix_http::header::{HeaderMap, HeaderName};
use ipnet::IpNet;

/// The header in which proxies name whom they serve, nearest last.
pub static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client as the gateway believes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress {
    /// The client's address.
    pub client: IpAddr,
    /// The address at the other end of the connection.
    pub peer: IpAddr,
    /// Whether the peer is a trusted proxy, whose forwarding headers are kept.
    pub through_trusted_proxy: bool,
}

impl ClientAddress {
    /// Believes `X-Forwarded-For` only as far as trusted proxies wrote it: from the right, the first address that is
    /// no trusted proxy is the client.
    #[must_use]
    pub fn identify(
        peer: Option<SocketAddr>,
        headers: &HeaderMap,
        trusted_proxies: &[IpNet],
    ) -> Self {
        let peer = peer.map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.ip().to_canonical());
        let trusted =
            |address: &IpAddr| trusted_proxies.iter().any(|range| range.contains(address));
        if trusted_proxies.is_empty() || !trusted(&peer) {
            return Self {
                client: peer,
                peer,
                through_trusted_proxy: false,
            };
        }
        let mut client = peer;
        let lines: Vec<&str> = headers
            .get_all(&FORWARDED_FOR)
            .map(|line| line.to_str().unwrap_or(""))
            .collect();
        for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
            // What does not read as an address was not written by a proxy that we trust.
            let Ok(hop) = hop.trim().parse::<IpAddr>() else {
                break;
            };
            client = hop.to_canonical();
            if !trusted(&client) {
                break;
            }
        }
        Self {
            client,
            peer,
            through_trusted_proxy: true,
        }
    }
}

/// Writes an address as text; for IPv4 without the machinery of formatting, which costs more than the digits.
pub fn write_address(address: IpAddr, text: &mut Vec<u8>) {
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

    #[test]
    fn only_trusted_proxies_are_believed() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        for (peer, lines, client) in [
            ("192.0.2.1:1", &[][..], "192.0.2.1"),
            ("192.0.2.1:1", &["203.0.113.9"], "192.0.2.1"),
            ("10.0.0.1:1", &[], "10.0.0.1"),
            ("10.0.0.1:1", &["203.0.113.9"], "203.0.113.9"),
            ("[::ffff:10.0.0.1]:1", &["203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1:1", &["198.51.100.7, 203.0.113.9"], "203.0.113.9"),
            (
                "10.0.0.1:1",
                &["198.51.100.7, 203.0.113.9, 10.0.0.2"],
                "203.0.113.9",
            ),
            (
                "10.0.0.1:1",
                &["198.51.100.7", "203.0.113.9, 10.0.0.2"],
                "203.0.113.9",
            ),
            ("10.0.0.1:1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1:1", &["203.0.113.9, unknown"], "10.0.0.1"),
            (
                "10.0.0.1:1",
                &["203.0.113.9, <script>, 10.0.0.2"],
                "10.0.0.2",
            ),
            ("[fd00::1]:1", &["2001:db8::7"], "2001:db8::7"),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FORWARDED_FOR.clone(), HeaderValue::from_static(line));
            }
            let found = ClientAddress::identify(Some(peer.parse().unwrap()), &headers, &trusted);
            assert_eq!(
                found.client,
                client.parse::<IpAddr>().unwrap(),
                "{peer} {lines:?}"
            );
        }
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
            (IpAddr::from([192, 0, 2, 1]), false)
        );
    }
}
