//! Protocol upgrades that a request asks for (RFC 9110, section 7.8), such as WebSocket.

use std::fmt;
use std::str::FromStr;

use actix_http::header::{self, HeaderName, HeaderValue};
use actix_http::{Method, RequestHead, Version};
use thiserror::Error;

/// Requested protocol upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upgrade {
    /// None, or one that is not offered and may be ignored: HTTP/2 without TLS, a choice of several
    /// protocols, an upgrade with a body or in HTTP/1.0.
    No,
    /// Upgrade to this protocol.
    To(HeaderValue),
    /// WebSocket in a form that readers parse differently, so that the end of the body is unclear.
    Malformed,
}

impl Upgrade {
    /// Parses the requested upgrade.
    #[must_use]
    pub fn requested(head: &RequestHead) -> Self {
        static UPGRADE: HeaderName = header::UPGRADE;
        let headers = &head.headers;
        // By reference, as every request is asked.
        let Some(protocol) = headers.get(&UPGRADE) else {
            return Self::No;
        };
        let names = |name, wanted: &str| {
            let lines = headers
                .get_all(name)
                .filter_map(|line: &HeaderValue| line.to_str().ok());
            lines
                .flat_map(|line| line.split(','))
                .any(|item| item.trim().eq_ignore_ascii_case(wanted))
        };
        let alone =
            headers.get_all(header::UPGRADE).count() == 1 && is_protocol(protocol.as_bytes());
        let framed = headers.contains_key(header::CONTENT_LENGTH)
            || headers.contains_key(header::TRANSFER_ENCODING);
        let asked = head.method == Method::GET
            && head.version == Version::HTTP_11
            && names(header::CONNECTION, "upgrade");
        let well_formed = alone && !framed && asked;
        match (well_formed, names(header::UPGRADE, "websocket")) {
            (true, _) if protocol.as_bytes().eq_ignore_ascii_case(b"h2c") => Self::No,
            (true, _) => Self::To(protocol.clone()),
            (false, true) => Self::Malformed,
            (false, false) => Self::No,
        }
    }
}

/// A protocol that the clients of a route may leave HTTP for: `name` or `name/version`, in lower
/// case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradeProtocol(String);

/// Text that is no protocol to tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidUpgradeProtocol {
    /// Not a token, or a list of them.
    #[error("this is no protocol as `Upgrade` names one")]
    Malformed,
    /// Versions of HTTP and TLS: requests would pass the gateway within.
    #[error("requests would pass the gateway unseen within this protocol")]
    Opaque,
}

impl UpgradeProtocol {
    /// WebSocket (RFC 6455).
    #[must_use]
    pub fn websocket() -> Self {
        Self("websocket".to_owned())
    }

    /// Whether the value of an `Upgrade` field names this protocol; case makes no difference.
    #[must_use]
    pub fn is(&self, upgrade: &HeaderValue) -> bool {
        upgrade.as_bytes().eq_ignore_ascii_case(self.0.as_bytes())
    }
}

impl FromStr for UpgradeProtocol {
    type Err = InvalidUpgradeProtocol;

    fn from_str(text: &str) -> Result<Self, InvalidUpgradeProtocol> {
        let name = text.to_ascii_lowercase();
        if !is_protocol(name.as_bytes()) {
            return Err(InvalidUpgradeProtocol::Malformed);
        }
        let hides_requests = ["h2", "http/", "tls/", "connect-"]
            .iter()
            .any(|begin| name.starts_with(begin));
        if hides_requests || matches!(name.as_str(), "http" | "tls") {
            return Err(InvalidUpgradeProtocol::Opaque);
        }
        Ok(Self(name))
    }
}

impl fmt::Display for UpgradeProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `text` is one protocol, `name` or `name/version` (RFC 9110, section 7.8).
fn is_protocol(text: &[u8]) -> bool {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(byte);
    !text.is_empty() && text.iter().all(is_token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_is_one_name_and_hides_no_requests() {
        for (text, wanted) in [
            ("websocket", Ok("websocket")),
            ("IRC/6.9", Ok("irc/6.9")),
            ("", Err(InvalidUpgradeProtocol::Malformed)),
            ("a, b", Err(InvalidUpgradeProtocol::Malformed)),
            ("a b", Err(InvalidUpgradeProtocol::Malformed)),
            ("h2c", Err(InvalidUpgradeProtocol::Opaque)),
            ("H2C-14", Err(InvalidUpgradeProtocol::Opaque)),
            ("HTTP/2.0", Err(InvalidUpgradeProtocol::Opaque)),
            ("TLS/1.2", Err(InvalidUpgradeProtocol::Opaque)),
            ("connect-udp", Err(InvalidUpgradeProtocol::Opaque)),
        ] {
            let parsed = text.parse::<UpgradeProtocol>();
            let shown = parsed.map(|protocol| protocol.to_string());
            assert_eq!(shown, wanted.map(str::to_owned), "{text:?}");
        }
        let sent = HeaderValue::from_static("WebSocket");
        assert!(UpgradeProtocol::websocket().is(&sent));
    }

    #[test]
    fn only_a_well_formed_request_leaves_http() {
        let (to, connection) = (
            |protocol| Upgrade::To(HeaderValue::from_static(protocol)),
            ("connection", "upgrade"),
        );
        for (method, lines, wanted) in [
            (
                Method::GET,
                &[("connection", "Upgrade"), ("upgrade", "websocket")][..],
                to("websocket"),
            ),
            (
                Method::GET,
                &[
                    ("connection", "keep-alive, upgrade"),
                    ("upgrade", "WebSocket"),
                ],
                to("WebSocket"),
            ),
            (
                Method::GET,
                &[connection, ("upgrade", "IRC/6.9")],
                to("IRC/6.9"),
            ),
            (Method::GET, &[], Upgrade::No),
            (Method::GET, &[connection, ("upgrade", "h2c")], Upgrade::No),
            (Method::GET, &[connection, ("upgrade", "a, b")], Upgrade::No),
            (Method::GET, &[("upgrade", "irc")], Upgrade::No),
            (Method::POST, &[connection, ("upgrade", "irc")], Upgrade::No),
            (
                Method::GET,
                &[connection, ("upgrade", "irc"), ("content-length", "3")],
                Upgrade::No,
            ),
            (Method::GET, &[("upgrade", "websocket")], Upgrade::Malformed),
            (
                Method::POST,
                &[connection, ("upgrade", "websocket")],
                Upgrade::Malformed,
            ),
            (
                Method::GET,
                &[connection, ("upgrade", "websocket, h2c")],
                Upgrade::Malformed,
            ),
            (
                Method::GET,
                &[connection, ("upgrade", "websocket"), ("upgrade", "h2c")],
                Upgrade::Malformed,
            ),
            (
                Method::GET,
                &[
                    connection,
                    ("upgrade", "websocket"),
                    ("content-length", "3"),
                ],
                Upgrade::Malformed,
            ),
            (
                Method::GET,
                &[
                    connection,
                    ("upgrade", "websocket"),
                    ("transfer-encoding", "chunked"),
                ],
                Upgrade::Malformed,
            ),
        ] {
            let mut head = RequestHead::default();
            head.method = method;
            for (name, value) in lines {
                head.headers.append(
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                );
            }
            assert_eq!(Upgrade::requested(&head), wanted, "{lines:?}");
        }
    }
}
