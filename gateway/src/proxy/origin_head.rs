//! The head of a request as its origin gets it: written once, as bytes.

use std::fmt;
use std::ops::Range;

use actix_http::header::{self, HeaderName, HeaderValue};
use actix_http::{ConnectionType, Method, RequestHead};

use crate::proxy::origin_stream::OriginLimits;

/// Room for nearly every head.
const USUAL_BYTES: usize = 1024;

const CONNECTION_CLOSE: &[u8] = b"connection: close\r\n";
const CONNECTION_UPGRADE: &[u8] = b"connection: upgrade\r\n";

/// A whole head, up to its empty line. Says nothing of a body: the stream to the origin does
/// ([`Upload`](crate::proxy::origin_stream::Upload)).
pub struct OriginHead {
    bytes: Vec<u8>,
    method: Method,
    /// Where the value of `Host` is.
    host: Range<usize>,
    closes: bool,
    limits: Option<Box<OriginLimits>>,
}

/// A head whose lines are being written.
pub struct HeadWriter(OriginHead);

impl OriginHead {
    /// Writes the request line and `Host`. `path` is path and query of a parsed target.
    #[must_use]
    pub fn begin(method: &Method, path: &str, host: &HeaderValue) -> HeadWriter {
        let mut bytes = Vec::with_capacity(USUAL_BYTES);
        for part in [method.as_str(), " ", path, " HTTP/1.1\r\nhost: "] {
            bytes.extend_from_slice(part.as_bytes());
        }
        let begin = bytes.len();
        bytes.extend_from_slice(host.as_bytes());
        let host = begin..bytes.len();
        bytes.extend_from_slice(b"\r\n");
        HeadWriter(Self {
            bytes,
            method: method.clone(),
            host,
            closes: false,
            limits: None,
        })
    }

    /// Writes `head`, with its own `Host` or this one. Omits `Expect`, because an origin that
    /// answers without `100` would take the next request for the announced body, and whatever the
    /// stream writes itself.
    #[must_use]
    pub fn of(head: &RequestHead, host: &HeaderValue) -> Self {
        let own = head.headers.get(header::HOST);
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut writer = Self::begin(&head.method, path, own.unwrap_or(host));
        let omitted = [
            header::HOST,
            header::EXPECT,
            header::CONNECTION,
            header::CONTENT_LENGTH,
            header::TRANSFER_ENCODING,
        ];
        for (name, value) in &head.headers {
            if !omitted.contains(name) {
                writer.line(name, value);
            }
        }
        if head.connection_type() == ConnectionType::Upgrade {
            writer.0.bytes.extend_from_slice(CONNECTION_UPGRADE);
        }
        let mut written = writer.end();
        if head.connection_type() == ConnectionType::Close {
            written.close_after();
        }
        written
    }

    /// Method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The head as it is sent.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Holds the exchange to `limits`, if any, in place of those of its connection.
    #[must_use]
    pub fn limited_by(mut self, limits: Option<Box<OriginLimits>>) -> Self {
        self.limits = limits;
        self
    }

    /// Limits of the exchange that differ from those of its connection.
    #[must_use]
    pub fn limits(&self) -> Option<OriginLimits> {
        self.limits.as_deref().copied()
    }

    /// Replaces the value of `Host`.
    pub fn set_host(&mut self, host: &HeaderValue) {
        let begin = self.host.start;
        self.bytes
            .splice(self.host.clone(), host.as_bytes().iter().copied());
        self.host = begin..begin + host.len();
    }

    /// Tells the origin that the request has an empty body.
    pub fn announce_empty_body(&mut self) {
        self.bytes.truncate(self.bytes.len() - b"\r\n".len());
        self.bytes.extend_from_slice(b"content-length: 0\r\n\r\n");
    }

    /// Tells the origin that the connection serves no other request.
    pub fn close_after(&mut self) {
        if !self.closes {
            self.closes = true;
            self.bytes.truncate(self.bytes.len() - b"\r\n".len());
            self.bytes.extend_from_slice(CONNECTION_CLOSE);
            self.bytes.extend_from_slice(b"\r\n");
        }
    }
}

impl HeadWriter {
    /// Writes a line.
    pub fn line(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.with(name, |bytes| bytes.extend_from_slice(value.as_bytes()));
    }

    /// Writes a line if `text` fits a header value. Returns whether it does.
    #[must_use]
    pub fn text(&mut self, name: &HeaderName, text: &str) -> bool {
        // No early exit, so that the compiler can vectorise the loop.
        let fits = text.bytes().fold(true, |fits, byte| {
            fits & matches!(byte, b' '..=b'~' | b'\t')
        });
        if fits {
            self.with(name, |bytes| bytes.extend_from_slice(text.as_bytes()));
        }
        fits
    }

    /// Writes a line whose value is what `write` appends. It must fit a header value.
    pub fn with(&mut self, name: &HeaderName, write: impl FnOnce(&mut Vec<u8>)) {
        let bytes = &mut self.0.bytes;
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        write(bytes);
        bytes.extend_from_slice(b"\r\n");
    }

    /// Asks to leave HTTP for `protocol` (RFC 9110, section 7.8).
    pub fn upgrade(&mut self, protocol: &HeaderValue) {
        self.line(&header::UPGRADE, protocol);
        self.0.bytes.extend_from_slice(CONNECTION_UPGRADE);
    }

    /// Ends the head.
    #[must_use]
    pub fn end(mut self) -> OriginHead {
        self.0.bytes.extend_from_slice(b"\r\n");
        self.0
    }
}

/// Without the lines: there is a secret among them.
impl fmt::Debug for OriginHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginHead")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(head: &OriginHead) -> &str {
        str::from_utf8(head.bytes()).unwrap()
    }

    #[test]
    fn a_head_is_written_line_by_line_and_only_its_host_changes() {
        let mut writer =
            OriginHead::begin(&Method::PUT, "/a?b", &HeaderValue::from_static("first:80"));
        writer.line(&header::ACCEPT, &HeaderValue::from_static("*/*"));
        assert!(writer.text(&header::FROM, "a b"));
        for unfit in ["a\r\nb: c", "a\nb", "\0", "\u{e9}", "\u{7f}"] {
            assert!(!writer.text(&header::FROM, unfit), "{unfit:?}");
        }
        let mut head = writer.end();
        let rest = "accept: */*\r\nfrom: a b\r\n\r\n";
        for host in ["first:80", "a-longer.example:8080", "b"] {
            head.set_host(&HeaderValue::from_static(host));
            assert_eq!(
                text(&head),
                format!("PUT /a?b HTTP/1.1\r\nhost: {host}\r\n{rest}")
            );
        }
        for _ in 0..2 {
            head.close_after();
            assert_eq!(
                text(&head),
                "PUT /a?b HTTP/1.1\r\nhost: b\r\naccept: */*\r\nfrom: a b\r\nconnection: close\r\n\r\n"
            );
        }
    }

    #[test]
    fn a_head_of_the_library_says_nothing_of_its_body() {
        for (kind, wanted) in [
            (ConnectionType::KeepAlive, ""),
            (ConnectionType::Close, "connection: close\r\n"),
            (ConnectionType::Upgrade, "connection: upgrade\r\n"),
        ] {
            let mut head = RequestHead::default();
            head.uri = "http://origin.test/x?y".parse().unwrap();
            for (name, value) in [
                (header::EXPECT, "100-continue"),
                (header::CONTENT_LENGTH, "3"),
                (header::TRANSFER_ENCODING, "chunked"),
                (header::CONNECTION, "x"),
                (header::ACCEPT, "a"),
            ] {
                head.headers.append(name, HeaderValue::from_static(value));
            }
            head.set_connection_type(kind);
            let host = HeaderValue::from_static("given");
            assert_eq!(
                text(&OriginHead::of(&head, &host)),
                format!("GET /x?y HTTP/1.1\r\nhost: given\r\naccept: a\r\n{wanted}\r\n")
            );
            head.headers
                .insert(header::HOST, HeaderValue::from_static("own"));
            assert!(text(&OriginHead::of(&head, &host)).contains("\r\nhost: own\r\n"));
        }
    }

    #[test]
    fn nothing_of_the_lines_is_shown() {
        let mut writer = OriginHead::begin(&Method::GET, "/", &HeaderValue::from_static("h"));
        writer.line(&header::COOKIE, &HeaderValue::from_static("secret"));
        assert!(!format!("{:?}", writer.end()).contains("secret"));
    }
}
