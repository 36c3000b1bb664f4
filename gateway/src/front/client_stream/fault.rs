//! What a client can do wrong on the wire, and what it is told.

use std::{fmt, time::SystemTime};

use actix_http::header::HttpDate;
use thiserror::Error;

use crate::front::proxy_protocol::ProxyHeaderFault;
pub use crate::wire::chunked::ChunkFault;

/// Makes the enum of faults with the list of their names: one row a fault.
macro_rules! client_faults {
    ($($(#[$meta:meta])+ $fault:ident $(($detail:ty))? => $name:literal, $status:expr;)+) => {
        /// Why the guard ended a connection.
        #[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum ClientFault {
            $($(#[$meta])+ $fault $(($detail))?,)+
        }

        impl ClientFault {
            /// Every name that [`ClientFault::name`] gives.
            pub const NAMES: [&str; [$($name),+].len()] = [$($name),+];

            /// Its name, for metrics.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$fault { .. } => $name,)+
                }
            }

            /// The status that says so, where a response can still be given.
            pub fn status(self) -> Option<u16> {
                match self {
                    $(Self::$fault { .. } => $status,)+
                }
            }
        }
    };
}

client_faults! {
    /// It was idle, and closed for another when there were as many connections as may be.
    #[error("the connection was idle and made room for another: there were as many as max_connections")]
    MadeRoom => "made_room", None;
    /// The head of a request was not there in time.
    #[error("the head of the request did not arrive within listen.head_timeout")]
    HeadTimeout => "head_timeout", Some(408);
    /// The head of a request is larger than the limit.
    #[error("the head of the request has more bytes than listen.max_head_bytes")]
    HeadTooLarge => "head_too_large", Some(431);
    /// The request line alone is larger than the limit, so that it is the target that is (RFC 9112
    /// §3).
    #[error("the target of the request is longer than listen.max_head_bytes or 65,534 bytes")]
    TargetTooLong => "target_too_long", Some(414);
    /// The head of a request has more fields than the limit.
    #[error("the request has more header fields than listen.max_headers")]
    TooManyFields => "too_many_fields", Some(431);
    /// Empty lines in place of a request (RFC 9112 §2.2 asks to pass over one).
    #[error("no request line")]
    NoRequestLine => "no_request_line", Some(400);
    /// The first line is not a method, a target and a version (RFC 9112 §3).
    #[error("the first line is no request line")]
    BadRequestLine => "bad_request_line", Some(400);
    /// The target has a character that no target has (RFC 9112 §3.2).
    #[error("the request target is malformed")]
    BadTarget => "bad_target", Some(400);
    /// A version of HTTP other than 1.0 and 1.1 (RFC 9110 §15.6.6).
    #[error("the request is of a version of HTTP other than 1.0 and 1.1")]
    Version => "unsupported_version", Some(505);
    /// A line of the head ends without a carriage return (RFC 9112 §2.2).
    #[error("bare line feed in the head of the request")]
    BareLineFeed => "bare_line_feed", Some(400);
    /// A request target with a fragment, which no target has (RFC 9112 §3.2).
    #[error("fragment in the request target")]
    Fragment => "fragment", Some(400);
    /// A line of the head is no header field, or has a control character (RFC 9112 §5).
    #[error("a line of the head is no header field")]
    BadField => "bad_field", Some(400);
    /// HTTP/1.1 without `Host`, or any version with more than one (RFC 9112 §3.2).
    #[error("malformed request: {0}")]
    BadHost(&'static str) => "bad_host", Some(400);
    /// The head contradicts itself on where the body ends (RFC 9112 §6.3).
    #[error("malformed request: {0}")]
    BadFraming(&'static str) => "bad_framing", Some(400);
    /// The client speaks TLS to a listener that does not.
    #[error("the client speaks TLS, and the listener plain HTTP: it has no [[listen.tls]]")]
    TlsOnPlain => "tls_on_plain", Some(400);
    /// The client speaks plain HTTP to a listener of TLS.
    #[error("the client speaks plain HTTP, and the listener TLS")]
    PlainOnTls => "plain_on_tls", Some(400);
    /// There was no agreement on TLS.
    #[error("the TLS handshake failed")]
    TlsHandshake => "tls_handshake", None;
    /// The TLS handshake was not done in time.
    #[error("the TLS handshake took longer than listen.tls_handshake_timeout")]
    TlsTimeout => "tls_timeout", None;
    /// A chunked body is malformed or has too much around its data.
    #[error("malformed request body: {0}")]
    BadChunk(ChunkFault) => "bad_chunk", Some(400);
    /// The chunks of a body come to more than the limit.
    #[error("the body has more bytes than max_body_bytes, {0}")]
    BodyTooLarge(u64) => "body_too_large", Some(413);
    /// No byte of the body came for too long.
    #[error("the client sent nothing of its body for listen.body_idle_timeout")]
    BodyStalled => "body_stalled", Some(408);
    /// The body came more slowly than the minimum rate.
    #[error("the client sent less than 500 bytes of its body a second after listen.body_idle_timeout")]
    BodyTooSlow => "body_too_slow", Some(408);
    /// The client did not take the response for too long, or took it more slowly than the minimum
    /// rate.
    #[error(
        "the client took nothing of the response for listen.write_idle_timeout, or less than 100 bytes a second"
    )]
    WriteStalled => "write_stalled", None;
    /// The server wrote something that is no response; the connection was closed before the client
    /// could take it for one.
    #[error("bytes outside a response")]
    StrayResponse => "stray_response", None;
    /// The client broke the protocol of HTTP/2: the error code of RFC 9113, section 7, that it was
    /// told.
    #[error("the client broke HTTP/2: {0}")]
    Http2(&'static str) => "http2_error", None;
    /// The client sent frames of HTTP/2 that ask for nothing, in numbers.
    #[error("the client flooded its HTTP/2 connection with frames that ask for nothing: ENHANCE_YOUR_CALM")]
    Http2Flood => "http2_flood", None;
    /// A PROXY protocol header that is not expected.
    #[error("PROXY protocol header, but listen.proxy_protocol is off")]
    UnexpectedProxyHeader => "unexpected_proxy_header", Some(400);
    /// The connection is not announced as it has to be.
    #[error("{0}")]
    ProxyHeader(ProxyHeaderFault) => "proxy_header", None;
}

impl ClientFault {
    /// The whole response, for when nobody else words it. The connection ends with it.
    pub(super) fn response(self) -> Option<String> {
        let (line, code) = match self.status()? {
            408 => ("408 Request Timeout", "request_timeout"),
            413 => ("413 Content Too Large", "body_too_large"),
            414 => ("414 URI Too Long", "uri_too_long"),
            431 => (
                "431 Request Header Fields Too Large",
                "request_header_too_large",
            ),
            505 => ("505 HTTP Version Not Supported", "version_not_supported"),
            _ => ("400 Bad Request", "bad_request"),
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

/// An answer that the guard itself writes, with its date (RFC 9110, section 6.6.1), and without its
/// content where the head alone was asked for (section 9.3.2).
pub(super) fn dated(response: &[u8], is_head: bool) -> Vec<u8> {
    let end = memchr::memmem::find(response, b"\r\n\r\n").map_or(response.len(), |at| at + 2);
    let (head, rest) = response.split_at(end);
    let rest = if is_head { END_OF_HEAD } else { rest };
    let date = HttpDate::from(SystemTime::now());
    [head, format!("date: {date}\r\n").as_bytes(), rest].concat()
}

const END_OF_HEAD: &[u8] = b"\r\n";

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
