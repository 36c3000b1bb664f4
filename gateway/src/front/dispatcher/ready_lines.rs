//! Header lines of an answer that are passed on as bytes.

use actix_http::header::{HeaderMap, HeaderName};
use bytes::BytesMut;

use crate::wire::head::fields;

/// Well-formed lines of an answer whose body has a length and is whole. They say nothing of the
/// body and of the connection.
#[derive(Debug, Default)]
pub struct ReadyLines {
    bytes: BytesMut,
    has_date: bool,
}

impl ReadyLines {
    /// No lines yet, and room for so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: BytesMut::with_capacity(bytes),
            has_date: false,
        }
    }

    /// Adds a line. The value has no control character but tabs.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        self.has_date |= name.eq_ignore_ascii_case(b"date");
        for part in [name, b": ", value, b"\r\n"] {
            self.bytes.extend_from_slice(part);
        }
    }

    /// Adds a line with these names as its members, unless there is none.
    pub fn push_names(&mut self, name: &[u8], members: &[HeaderName]) {
        let Some((first, others)) = members.split_first() else {
            return;
        };
        for part in [name, b": ", first.as_str().as_bytes()] {
            self.bytes.extend_from_slice(part);
        }
        for other in others {
            self.bytes.extend_from_slice(b", ");
            self.bytes.extend_from_slice(other.as_str().as_bytes());
        }
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// Whether `Date` is among them.
    pub(super) fn has_date(&self) -> bool {
        self.has_date
    }

    /// Appends the lines to `out`, without those that `instead` has.
    pub(crate) fn write(&self, instead: &HeaderMap, out: &mut BytesMut) {
        if instead.is_empty() {
            out.extend_from_slice(&self.bytes);
            return;
        }
        for field in fields(&self.bytes).flatten() {
            let name = HeaderName::from_bytes(field.name);
            if !name.is_ok_and(|name| instead.contains_key(name)) {
                out.extend_from_slice(field.line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_http::header::{self, HeaderValue};

    use super::*;

    #[test]
    fn names_are_the_members_of_one_line() {
        let names = [header::AUTHORIZATION, header::COOKIE, header::ACCEPT];
        for (count, wanted) in [
            (0, ""),
            (1, "vary: authorization\r\n"),
            (3, "vary: authorization, cookie, accept\r\n"),
        ] {
            let mut lines = ReadyLines::default();
            lines.push_names(b"vary", &names[..count]);
            assert_eq!(lines.bytes, wanted);
        }
    }

    #[test]
    fn headers_of_the_response_replace_lines_of_their_name() {
        let mut lines = ReadyLines::default();
        for (name, value) in [("X-A", "1"), ("Sunset", "2"), ("x-a", "3"), ("Server", "")] {
            lines.push(name.as_bytes(), value.as_bytes());
        }
        assert!(!lines.has_date());
        let mut instead = HeaderMap::new();
        let written = |instead: &HeaderMap| {
            let mut out = BytesMut::new();
            lines.write(instead, &mut out);
            String::from_utf8(out.to_vec()).unwrap()
        };
        assert_eq!(
            written(&instead),
            "X-A: 1\r\nSunset: 2\r\nx-a: 3\r\nServer: \r\n"
        );
        instead.insert(header::SERVER, HeaderValue::from_static("s"));
        instead.insert(
            HeaderName::from_static("x-a"),
            HeaderValue::from_static("a"),
        );
        assert_eq!(written(&instead), "Sunset: 2\r\n");
        lines.push(b"DATE", b"x");
        assert!(lines.has_date());
    }
}
