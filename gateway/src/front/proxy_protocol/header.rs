//! Parser of the PROXY protocol header, versions 1 and 2 (HAProxy's `proxy-protocol.txt`, sections
//! 2.1 and 2.2). Pure: works on the bytes received so far.

use std::net::{IpAddr, SocketAddr};

use crate::front::proxy_protocol::ProxyHeaderFault;
use crate::keys::address::parse_address;

/// Signature of version 2.
pub const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature of version 1.
const V1_SIGNATURE: &[u8] = b"PROXY ";

/// Maximum bytes of a version 1 header, line end included.
const V1_MAX_BYTES: usize = 107;
/// Maximum bytes of a version 2 header; nginx has the same limit.
pub const MAX_BYTES: usize = 4096;
/// Bytes of version 2 before the addresses.
const V2_FIXED_BYTES: usize = 16;
/// TLV type of a CRC-32C of the header (section 2.2.3).
const TLV_CRC32C: u8 = 0x03;

/// Source of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The load balancer itself, for instance a health check (`LOCAL`).
    Own,
    /// Client at this address.
    Of(SocketAddr),
    /// Client without an IP address, or of unknown address (`UNKNOWN`). It may be anyone, so it
    /// must not be taken for the load balancer.
    Unknown,
}

/// Complete header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Length; the client's own bytes follow.
    pub bytes: usize,
    /// Source.
    pub source: Source,
}

/// Parses the header at the start of `bytes`. `None` means that it is incomplete and all of them
/// belong to it.
///
/// The result does not depend on how the bytes arrive: a part gives `None` or the result of the
/// whole.
///
/// # Errors
/// Missing or malformed header.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, ProxyHeaderFault> {
    if begins_alike(bytes, &V2_SIGNATURE) {
        parse_v2(bytes)
    } else if begins_alike(bytes, V1_SIGNATURE) {
        parse_v1(bytes)
    } else {
        Err(ProxyHeaderFault::Missing)
    }
}

/// Whether a connection or line with this start begins with a header.
#[must_use]
pub fn is_header(start: &[u8]) -> bool {
    start.starts_with(&V2_SIGNATURE)
        || [b"PROXY TCP4 ".as_slice(), b"PROXY TCP6 ", b"PROXY UNKNOWN"]
            .iter()
            .any(|version_1| start.starts_with(version_1))
}

/// Whether `bytes` agree with `signature` as far as they go.
fn begins_alike(bytes: &[u8], signature: &[u8]) -> bool {
    bytes
        .iter()
        .zip(signature)
        .all(|(byte, wanted)| byte == wanted)
}

fn parse_v1(bytes: &[u8]) -> Result<Option<Header>, ProxyHeaderFault> {
    let room = bytes.get(..V1_MAX_BYTES).unwrap_or(bytes);
    let Some(end) = memchr::memchr(b'\n', room) else {
        return if room.len() == V1_MAX_BYTES {
            Err(malformed("its line is longer than 107 bytes"))
        } else {
            Ok(None)
        };
    };
    let line = room
        .get(..end)
        .and_then(|line| line.strip_suffix(b"\r"))
        .ok_or(malformed("its line does not end with CRLF"))?;
    // The rest of such a line is ignored.
    let source = if line == b"PROXY UNKNOWN" || line.starts_with(b"PROXY UNKNOWN ") {
        Source::Unknown
    } else {
        Source::Of(source_of_v1(line).ok_or(malformed(
            "its line is not `PROXY`, `TCP4` or `TCP6`, two addresses of that family and two ports",
        ))?)
    };
    Ok(Some(Header {
        bytes: end + 1,
        source,
    }))
}

fn source_of_v1(line: &[u8]) -> Option<SocketAddr> {
    let mut words = std::str::from_utf8(line).ok()?.split(' ').skip(1);
    let mut next = || words.next();
    let is_v6 = match next()? {
        "TCP4" => false,
        "TCP6" => true,
        _ => return None,
    };
    let address = |text: &str| {
        (text.contains(':') == is_v6)
            .then(|| parse_address(text))
            .flatten()
    };
    let source = address(next()?)?;
    let _destination = address(next()?)?;
    let port = port(next()?)?;
    let _destination_port = self::port(next()?)?;
    next().is_none().then_some(SocketAddr::new(source, port))
}

/// Parses a decimal port without leading zeros.
fn port(text: &str) -> Option<u16> {
    let is_canonical = text.bytes().all(|byte| byte.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'));
    is_canonical.then(|| text.parse().ok()).flatten()
}

fn parse_v2(bytes: &[u8]) -> Result<Option<Header>, ProxyHeaderFault> {
    let Some(&[.., version_and_command, family, high, low]) = bytes.first_chunk::<V2_FIXED_BYTES>()
    else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let total = V2_FIXED_BYTES + length;
    if version_and_command >> 4 != 2 {
        return Err(malformed("its version is neither 1 nor 2"));
    }
    if total > MAX_BYTES {
        return Err(malformed("it is longer than 4096 bytes"));
    }
    let addresses = match (version_and_command & 0xf, family) {
        // Ignored, whatever the addresses are.
        (0, _) | (1, 0x00) => None,
        (1, 0x11) => Some(12),
        (1, 0x21) => Some(36),
        (1, 0x31) => Some(216),
        (1, _) => return Err(malformed("its family and transport are of no stream")),
        _ => return Err(malformed("its command is neither LOCAL nor PROXY")),
    };
    if addresses.is_some_and(|addresses| length < addresses) {
        return Err(malformed("it has no room for its addresses"));
    }
    let Some(header) = bytes.get(..total) else {
        return Ok(None);
    };
    if let Some(addresses) = addresses {
        check_tlvs(header, V2_FIXED_BYTES + addresses)?;
    }
    let source = match (version_and_command & 0xf, family) {
        (0, _) => Source::Own,
        (_, 0x11) => of::<4>(header, 8),
        (_, 0x21) => of::<16>(header, 32),
        _ => Source::Unknown,
    };
    Ok(Some(Header {
        bytes: total,
        source,
    }))
}

/// Source: an address of `N` bytes, and a port `port` bytes after its start.
fn of<const N: usize>(header: &[u8], port: usize) -> Source
where
    IpAddr: From<[u8; N]>,
{
    let addresses = header.get(V2_FIXED_BYTES..).unwrap_or_default();
    let address = addresses.first_chunk::<N>();
    let port = addresses.get(port..).and_then(<[u8]>::first_chunk::<2>);
    match (address, port) {
        (Some(address), Some(port)) => Source::Of(SocketAddr::new(
            IpAddr::from(*address).to_canonical(),
            u16::from_be_bytes(*port),
        )),
        _ => Source::Unknown,
    }
}

/// Checks that a sequence of TLVs follows the addresses (section 2.2), with the right checksum if
/// there is one.
fn check_tlvs(header: &[u8], start: usize) -> Result<(), ProxyHeaderFault> {
    let mut at = start;
    let mut checksum = None;
    while at < header.len() {
        let rest = header.get(at..).unwrap_or_default();
        let value = rest.first_chunk::<3>().and_then(|[_, high, low]| {
            rest.get(3..)?
                .get(..usize::from(u16::from_be_bytes([*high, *low])))
        });
        let Some(value) = value else {
            return Err(malformed("a TLV of it is cut off"));
        };
        if rest.first() == Some(&TLV_CRC32C) {
            let Ok(value) = <[u8; 4]>::try_from(value) else {
                return Err(malformed("its checksum has another length than 4 bytes"));
            };
            if checksum.replace((at + 3, value)).is_some() {
                return Err(malformed("it has two checksums"));
            }
        }
        at += 3 + value.len();
    }
    let Some((place, checksum)) = checksum else {
        return Ok(());
    };
    // The checksum field itself counts as zeros.
    let bytes = header.iter().enumerate().map(|(index, byte)| {
        if (place..place + 4).contains(&index) {
            0
        } else {
            *byte
        }
    });
    if crc32c(bytes) == u32::from_be_bytes(checksum) {
        Ok(())
    } else {
        Err(malformed("its checksum is not that of its bytes"))
    }
}

/// CRC-32C (RFC 9260, appendix A). Bit by bit: few headers have one, and all are short.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}

fn malformed(what: &'static str) -> ProxyHeaderFault {
    ProxyHeaderFault::Malformed(what)
}

#[cfg(test)]
mod tests;
