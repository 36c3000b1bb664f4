//! Client address: the peer, or the address that a trusted proxy reports.

use std::net::{IpAddr, SocketAddr};

use actix_http::header::{HeaderMap, HeaderName};

use crate::keys::address::parse_address;
use crate::keys::{AddressRange, CallerAddress};

/// `X-Forwarded-For`: the addresses along the proxy chain, nearest last.
pub static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Headers with the same purpose at other proxies. Not parsed.
static OTHERS: [HeaderName; 17] = [
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-client-ip"),
    HeaderName::from_static("x-cluster-client-ip"),
    HeaderName::from_static("x-true-client-ip"),
    HeaderName::from_static("x-original-forwarded-for"),
    HeaderName::from_static("x-envoy-external-address"),
    HeaderName::from_static("x-azure-clientip"),
    HeaderName::from_static("x-appengine-user-ip"),
    HeaderName::from_static("true-client-ip"),
    HeaderName::from_static("client-ip"),
    HeaderName::from_static("cf-connecting-ip"),
    HeaderName::from_static("cf-connecting-ipv6"),
    HeaderName::from_static("cloudfront-viewer-address"),
    HeaderName::from_static("do-connecting-ip"),
    HeaderName::from_static("fastly-client-ip"),
    HeaderName::from_static("fly-client-ip"),
];

/// Maximum of addresses read from `X-Forwarded-For`. Behind a longer chain the client is unknown.
const MAX_HOPS: u8 = 32;

/// Client and peer of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress {
    /// Client address.
    pub client: CallerAddress,
    /// Address at the other end of the connection, or the one in the PROXY protocol header of a
    /// trusted load balancer.
    pub peer: CallerAddress,
    /// Number of elements at the right end of `X-Forwarded-For` that are trusted addresses.
    believed_hops: u8,
    /// Whether the peer is a trusted proxy, so that its forwarding headers are kept.
    pub through_trusted_proxy: bool,
}

impl ClientAddress {
    /// Trusts `X-Forwarded-For` only as far as trusted proxies wrote it: the first element from the
    /// right that is not a trusted proxy is the client. The client is unknown if that element is no
    /// address, or if only `Forwarded` (RFC 7239), `X-Real-IP` or the like is present: the proxy
    /// itself must not pass for the client.
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

    /// Writes a trustworthy `X-Forwarded-For` for the origin: client, trusted proxies, peer. Omits
    /// whatever a client added itself, ports and invalid addresses.
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

/// Lines of `X-Forwarded-For`.
fn lines(headers: &HeaderMap) -> Vec<&[u8]> {
    headers
        .get_all(&FORWARDED_FOR)
        .map(|line| line.as_bytes())
        .collect()
}

/// Elements of all lines, last first.
fn elements<'l>(lines: &'l [&[u8]]) -> impl Iterator<Item = &'l [u8]> {
    lines
        .iter()
        .rev()
        .flat_map(|line| line.rsplit(|byte| *byte == b','))
}

/// Parses an address or a node of RFC 7239, section 6. A port may follow; IPv6 then stands in
/// brackets.
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

/// Whether the text is a port or its obfuscated name (RFC 7239, section 6.3).
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

/// Writes an address, or `unknown` (RFC 7239, section 6.2).
pub fn write_caller_address(address: CallerAddress, text: &mut Vec<u8>) {
    match address {
        CallerAddress::Known(address) => write_address(address, text),
        CallerAddress::Unknown => text.extend_from_slice(b"unknown"),
    }
}

/// Writes an address; avoids the formatting machinery for IPv4, which costs more than the digits.
fn write_address(address: IpAddr, text: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            text.reserve("255.255.255.255".len());
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    text.push(b'.');
                }
                if octet >= 100 {
                    text.push(b'0' + octet / 100);
                }
                if octet >= 10 {
                    text.push(b'0' + octet / 10 % 10);
                }
                text.push(b'0' + octet % 10);
            }
        }
        IpAddr::V6(address) => text.extend_from_slice(address.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests;
