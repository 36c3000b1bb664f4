//! What a client can do wrong on the wire, and what it is told.

use std::fmt;

use thiserror::Error;

use crate::http::proxy_protocol::ProxyHeaderFault;
pub use crate::wire::chunked::ChunkFault;

/// Why the guard ended a connection.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientFault {
    /// The head of a request was not there in time.
    #[error("the head of the request did not arrive in time")]
    HeadTimeout,
    /// The head of a request is larger than the limit.
    #[error("the head of the request is too large")]
    HeadTooLarge,
    /// The head of a request has more fields than the limit.
    #[error("the request has too many header fields")]
    TooManyFields,
    /// Empty lines in place of a request (RFC 9112 §2.2 asks to pass over one).
    #[error("no request line")]
    NoRequestLine,
    /// A line of the head ends without a carriage return (RFC 9112 §2.2).
    #[error("bare line feed in the head of the request")]
    BareLineFeed,
    /// A request target with a fragment, which no target has (RFC 9112 §3.2).
    #[error("fragment in the request target")]
    Fragment,
    /// A chunked body is malformed or has too much around its data.
    #[error("malformed request body: {0}")]
    BadChunk(ChunkFault),
    /// No byte of the body came for too long.
    #[error("the body of the request stood still")]
    BodyStalled,
    /// The body came more slowly than the minimum rate.
    #[error("the body of the request came too slowly")]
    BodyTooSlow,
    /// The client did not take the response for too long, or took it more slowly than the minimum rate.
    #[error("the client does not take the response")]
    WriteStalled,
    /// The server wrote something that is no response; the connection was closed before the client could take it for one.
    #[error("bytes outside a response")]
    StrayResponse,
    /// A PROXY protocol header that is not expected, or the connection is not announced as it has to be.
    #[error("{0}")]
    ProxyHeader(ProxyHeaderFault),
}

impl ClientFault {
    /// Every name that [`ClientFault::name`] gives.
    pub const NAMES: [&str; 13] = [
        "head_timeout",
        "head_too_large",
        "too_many_fields",
        "no_request_line",
        "bare_line_feed",
        "fragment",
        "bad_chunk",
        "body_stalled",
        "body_too_slow",
        "write_stalled",
        "stray_response",
        "unexpected_proxy_header",
        "proxy_header",
    ];

    /// The status that says so, where a response can still be given.
    pub fn status(self) -> Option<u16> {
        match self {
            Self::HeadTimeout | Self::BodyStalled | Self::BodyTooSlow => Some(408),
            Self::HeadTooLarge | Self::TooManyFields => Some(431),
            Self::NoRequestLine
            | Self::BareLineFeed
            | Self::Fragment
            | Self::BadChunk(_)
            | Self::ProxyHeader(ProxyHeaderFault::Unexpected) => Some(400),
            Self::WriteStalled | Self::StrayResponse | Self::ProxyHeader(_) => None,
        }
    }

    /// Its name, for metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::HeadTimeout => "head_timeout",
            Self::HeadTooLarge => "head_too_large",
            Self::TooManyFields => "too_many_fields",
            Self::NoRequestLine => "no_request_line",
            Self::BareLineFeed => "bare_line_feed",
            Self::Fragment => "fragment",
            Self::BadChunk(_) => "bad_chunk",
            Self::BodyStalled => "body_stalled",
            Self::BodyTooSlow => "body_too_slow",
            Self::WriteStalled => "write_stalled",
            Self::StrayResponse => "stray_response",
            Self::ProxyHeader(ProxyHeaderFault::Unexpected) => "unexpected_proxy_header",
            Self::ProxyHeader(_) => "proxy_header",
        }
    }

    /// The whole response, for when nobody else words it. The connection ends with it.
    pub(super) fn response(self) -> Option<String> {
        let (line, code) = match self.status()? {
            400 => ("400 Bad Request", "bad_request"),
            408 => ("408 Request Timeout", "request_timeout"),
            _ => (
                "431 Request Header Fields Too Large",
                "request_header_too_large",
            ),
        };
        let (status, title) = line.split_once(' ')?;
        let body = format!(
            "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{status},\"detail\":\"{self}\",\"code\":\"{code}\"}}"
        );
        Some(
            Head {
                line,
                length: body.len(),
            }
            .to_string()
                + &body,
        )
    }
}

struct Head {
    line: &'static str,
    length: usize,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "HTTP/1.1 {}\r\ncontent-type: application/problem+json\r\ncache-control: no-store\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            self.line, self.length
        )
    }
}
