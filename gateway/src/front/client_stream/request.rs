//! Judges the head of a request: refuses what actix-http would refuse, and finds where the body
//! ends.
//!
//! The parser beneath answers a head that it refuses with an empty 400, without a line or a count.
//! So what passes here is a part of what it takes, and the answers to all else are given here. A
//! property test holds the two together.

use actix_http::Uri;

use super::{ClientFault, ClientLimits};
use crate::front::proxy_protocol::header::is_header;
use crate::wire::{
    body::Framing,
    chunked::{ChunkLimits, ChunkScanner},
    head::{Field, fields, is_token, parse_length, split_first_line},
};

/// The longest target that `http::Uri` holds.
const MAX_TARGET_BYTES: usize = 65_534;
/// The first byte of a TLS handshake (RFC 8446 §5.1).
pub(super) const TLS_HANDSHAKE: u8 = 0x16;

/// What the guard must know of a request.
#[derive(Debug)]
pub(super) struct Request {
    /// `None`: no body.
    pub(super) body: Option<Framing>,
}

/// `HEAD`: the response has no body. Can be asked of the beginning of a head, and of one that is at
/// fault.
pub(super) fn asks_for_head(head: &[u8]) -> bool {
    head.starts_with(b"HEAD ")
}

/// Reads one complete head, which ends with its empty line and has no bare line feed.
pub(super) fn read(head: &[u8], limits: &ClientLimits) -> Result<Request, ClientFault> {
    let (line, rest) = split_first_line(head);
    // Passed over any number of times by actix-http, which would go on waiting for the request.
    if line.is_empty() {
        return Err(ClientFault::NoRequestLine);
    }
    if is_header(line) {
        return Err(ClientFault::UnexpectedProxyHeader);
    }
    let (method, is_old) = read_request_line(line)?;
    check_bytes(rest)?;
    let mut seen = Seen::default();
    for (count, field) in fields(rest).enumerate() {
        if count == limits.fields {
            return Err(ClientFault::TooManyFields);
        }
        let field = field.map_err(|_| ClientFault::BadField)?;
        seen.note(&field, is_old)?;
    }
    seen.check(method, is_old)?;
    let body = if seen.chunked {
        let limits = ChunkLimits {
            body_bytes: limits.body_bytes,
            extension_bytes: limits.extension_bytes,
            trailer_bytes: limits.trailer_bytes,
            padded_sizes: false,
        };
        Some(Framing::Chunked(ChunkScanner::new(limits)))
    } else if seen.websocket {
        Some(Framing::UntilClose)
    } else {
        let endless = (method == b"CONNECT").then_some(Framing::UntilClose);
        seen.length.and_then(Framing::length).or(endless)
    };
    Ok(Request { body })
}

/// The fault of a head whose end has not come, where its beginning tells; `held` are its bytes so
/// far.
pub(super) fn check_beginning(held: &[u8]) -> Result<(), ClientFault> {
    match held.first() {
        Some(&TLS_HANDSHAKE) => Err(ClientFault::TlsOnPlain),
        Some(byte) if !is_method_byte(*byte) && !matches!(byte, b'\r' | b'\n') => {
            Err(ClientFault::BadRequestLine)
        }
        _ => Ok(()),
    }
}

/// The fault of a head with more bytes than the limit: that of its target if the request line alone
/// goes beyond (RFC 9112 §3).
pub(super) fn too_large(held: &[u8], limit: usize) -> ClientFault {
    let start = held.get(..=limit).unwrap_or(held);
    let (line_ends, has_target) = (
        memchr::memchr(b'\n', start).is_some(),
        memchr::memchr(b' ', start).is_some(),
    );
    if !line_ends && has_target {
        ClientFault::TargetTooLong
    } else {
        ClientFault::HeadTooLarge
    }
}

/// The method, and whether the version is HTTP/1.0.
fn read_request_line(line: &[u8]) -> Result<(&[u8], bool), ClientFault> {
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let (Some(method), Some(target), Some(version)) = (parts.next(), parts.next(), parts.next())
    else {
        return Err(ClientFault::BadRequestLine);
    };
    if method.is_empty() || !method.iter().all(|byte| is_method_byte(*byte)) {
        return Err(ClientFault::BadRequestLine);
    }
    let is_old = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ if is_version(version) => return Err(ClientFault::Version),
        _ => return Err(ClientFault::BadRequestLine),
    };
    check_target(target)?;
    Ok((method, is_old))
}

/// A `tchar` that `http::Method` takes; it has fewer than RFC 9110 §5.6.2.
fn is_method_byte(byte: u8) -> bool {
    is_token(byte) && !matches!(byte, b'#' | b'$' | b'%' | b'&' | b'\'')
}

/// `HTTP-version` of RFC 9112 §2.3, of whatever number.
fn is_version(text: &[u8]) -> bool {
    text.strip_prefix(b"HTTP/").is_some_and(|number| {
        number.first().is_some_and(u8::is_ascii_digit)
            && number
                .iter()
                .all(|byte| byte.is_ascii_digit() || *byte == b'.')
    })
}

fn check_target(target: &[u8]) -> Result<(), ClientFault> {
    if target.len() > MAX_TARGET_BYTES {
        return Err(ClientFault::TargetTooLong);
    }
    // `http::Uri` cuts the fragment off and says nothing, so what is matched would not be what was
    // sent.
    if memchr::memchr(b'#', target).is_some() {
        return Err(ClientFault::Fragment);
    }
    // What nearly every target consists of needs no second parser.
    let is_plain = |byte: &u8| {
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'/' | b'?'
                    | b'='
                    | b'&'
                    | b'%'
                    | b'-'
                    | b'_'
                    | b'.'
                    | b'~'
                    | b'+'
                    | b','
                    | b':'
                    | b';'
            )
    };
    if target.first() == Some(&b'/') && target.iter().all(is_plain) {
        return Ok(());
    }
    let is_visible = |byte: &u8| *byte > b' ' && *byte != 0x7f;
    if target.iter().all(is_visible) && Uri::try_from(target).is_ok() {
        Ok(())
    } else {
        Err(ClientFault::BadTarget)
    }
}

/// Refuses control characters; a carriage return is none where it ends a line, nor is a tab (RFC
/// 9110 §5.5).
fn check_bytes(lines: &[u8]) -> Result<(), ClientFault> {
    let (mut controls, mut line_feeds) = (0_usize, 0_usize);
    // So many that a byte counts them, which the compiler can vectorise.
    for bytes in lines.chunks(usize::from(u8::MAX)) {
        let (mut some_controls, mut some_line_feeds) = (0_u8, 0_u8);
        for byte in bytes {
            let is_control = (*byte < b' ') & (*byte != b'\t') | (*byte == 0x7f);
            some_controls += u8::from(is_control);
            some_line_feeds += u8::from(*byte == b'\n');
        }
        controls += usize::from(some_controls);
        line_feeds += usize::from(some_line_feeds);
    }
    // Before each line feed is its carriage return; any further one ends no line.
    if controls == 2 * line_feeds {
        Ok(())
    } else {
        Err(ClientFault::BadField)
    }
}

/// The fields that decide where the request ends, and whose.
#[derive(Default)]
struct Seen {
    length: Option<u64>,
    chunked: bool,
    websocket: bool,
    hosts: usize,
}

impl Seen {
    fn note(&mut self, field: &Field<'_>, is_old: bool) -> Result<(), ClientFault> {
        match field.name.len() {
            4 if field.is("host") => self.hosts += 1,
            7 if field.is("upgrade") => {
                self.websocket |= field.value.eq_ignore_ascii_case(b"websocket");
            }
            14 if field.is("content-length") => {
                let length = parse_length(field.value)
                    .ok_or(ClientFault::BadFraming("Content-Length is no number"))?;
                if self.length.replace(length).is_some() {
                    return Err(ClientFault::BadFraming(
                        "there is more than one Content-Length",
                    ));
                }
            }
            17 if field.is("transfer-encoding") => {
                if is_old {
                    return Err(ClientFault::BadFraming("Transfer-Encoding in HTTP/1.0"));
                }
                if self.chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(ClientFault::BadFraming(
                        "Transfer-Encoding is not chunked alone",
                    ));
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn check(&self, method: &[u8], is_old: bool) -> Result<(), ClientFault> {
        match self.hosts {
            1 => {}
            0 if is_old => {}
            0 => return Err(ClientFault::BadHost("there is no Host header")),
            _ => return Err(ClientFault::BadHost("there is more than one Host header")),
        }
        if self.chunked && self.length.is_some() {
            return Err(ClientFault::BadFraming(
                "there are Content-Length and Transfer-Encoding",
            ));
        }
        if is_old && method == b"POST" && self.length.is_none() {
            return Err(ClientFault::BadFraming(
                "a POST in HTTP/1.0 needs Content-Length",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use actix_codec::Decoder as _;
    use actix_http::h1::{Codec, Message, MessageType};
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::head::HeadEnd;

    fn with_codec<T>(test: impl FnOnce(&mut Codec) -> T) -> T {
        actix_rt::System::new().block_on(async { test(&mut Codec::default()) })
    }

    fn kind(head: &str) -> Result<&'static str, ClientFault> {
        Ok(
            match read(head.as_bytes(), &ClientLimits::default())?.body {
                None => "none",
                Some(Framing::Length(_)) => "length",
                Some(Framing::Chunked(_)) => "chunked",
                Some(Framing::UntilClose) => "endless",
            },
        )
    }

    #[test]
    fn framing_follows_actix() {
        for (head, expected) in [
            ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", Ok("none")),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n",
                Ok("length"),
            ),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
                Ok("none"),
            ),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n",
                Ok("chunked"),
            ),
            (
                "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\n\r\n",
                Ok("endless"),
            ),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\n",
                Ok("endless"),
            ),
            (
                "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\n\r\n",
                Ok("none"),
            ),
            ("CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", Ok("endless")),
            (
                "CONNECT h:1 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n",
                Ok("length"),
            ),
            (
                "GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n",
                Err(ClientFault::Fragment),
            ),
        ] {
            assert_eq!(kind(head), expected, "{head:?}");
        }
        let many = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(64));
        assert_eq!(kind(&many), Err(ClientFault::TooManyFields));
    }

    #[test]
    fn each_fault_of_a_head_is_told_by_its_kind() {
        use ClientFault::*;

        let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(65_535));
        for (head, fault) in [
            ("x\u{1}\r\n\r\n", BadRequestLine),
            ("GET /\r\nHost: h\r\n\r\n", BadRequestLine),
            ("GET  / HTTP/1.1\r\nHost: h\r\n\r\n", BadRequestLine),
            ("GET / HTTP/1.1 \r\nHost: h\r\n\r\n", BadRequestLine),
            ("GE'T / HTTP/1.1\r\nHost: h\r\n\r\n", BadRequestLine),
            (
                "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET / HTTP/1.1\r\n\r\n",
                UnexpectedProxyHeader,
            ),
            ("GET / http/1.1\r\nHost: h\r\n\r\n", BadRequestLine),
            ("GET / HTTP/1.2\r\nHost: h\r\n\r\n", Version),
            ("GET / HTTP/0.9\r\nHost: h\r\n\r\n", Version),
            ("PRI * HTTP/2.0\r\n\r\n", Version),
            ("GET /a?q=\"x\" HTTP/1.1\r\nHost: h\r\n\r\n", BadTarget),
            ("GET /\u{7f} HTTP/1.1\r\nHost: h\r\n\r\n", BadTarget),
            ("GET http:// HTTP/1.1\r\nHost: h\r\n\r\n", BadTarget),
            (&long, TargetTooLong),
            ("GET / HTTP/1.1\r\nHost: h\r\nA : b\r\n\r\n", BadField),
            ("GET / HTTP/1.1\r\nHost: h\r\n A: b\r\n\r\n", BadField),
            ("GET / HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n", BadField),
            ("GET / HTTP/1.1\r\nHost: h\r\nA: \0\r\n\r\n", BadField),
            ("GET / HTTP/1.1\r\n\r\n", BadHost("there is no Host header")),
            (
                "GET / HTTP/1.1\r\nHost: h\r\nhost: h\r\n\r\n",
                BadHost("there is more than one Host header"),
            ),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\n",
                BadFraming("Content-Length is no number"),
            ),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                BadFraming("Transfer-Encoding is not chunked alone"),
            ),
            (
                "POST / HTTP/1.0\r\n\r\n",
                BadFraming("a POST in HTTP/1.0 needs Content-Length"),
            ),
        ] {
            assert_eq!(kind(head), Err(fault), "{head:?}");
        }
        assert_eq!(
            check_beginning(&[TLS_HANDSHAKE, 3, 1]),
            Err(ClientFault::TlsOnPlain)
        );
        assert_eq!(check_beginning(b"\r"), Ok(()));
        let (target, field) = (
            format!("GET /{}", "a".repeat(200)),
            format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(200)),
        );
        assert_eq!(
            too_large(target.as_bytes(), 100),
            ClientFault::TargetTooLong
        );
        assert_eq!(too_large(field.as_bytes(), 100), ClientFault::HeadTooLarge);
        assert_eq!(too_large(&[b'x'; 200], 100), ClientFault::HeadTooLarge);
    }

    /// Whether actix-http takes a head that the guard has passed.
    fn is_taken(head: &[u8]) -> bool {
        with_codec(|codec| {
            matches!(
                codec.decode(&mut BytesMut::from(head)),
                Ok(Some(Message::Item(_)))
            )
        })
    }

    /// A head that is well formed, or nearly.
    const NEARLY: &str = "(GET|POST|HEAD|CONNECT|OPTIONS|get|G#T|[!-~]{1,6}) (/[ -~]{0,12}|[!-~]{1,20}|http://[!-~]{0,12}|\\*|[a-z]{1,5}:[0-9]{0,6}|/[\u{80}-\u{ff}]{0,3}) HTTP/(1\\.[01]|1\\.1|[0-9]\\.[0-9])\r\n(Host: ?h?\r\n)?((Content-Length|Upgrade|Connection|Transfer-Encoding|Expect|Host|[!-~]{1,9}): ?(3|0|003|\\+3|3, 3|18446744073709551616|chunked|Chunked|identity|gzip, chunked|websocket|close|100-continue|[\\t -~\u{80}-\u{ff}]{0,12})\r\n){0,4}\r\n";

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// What the guard passes, the parser beneath takes: it has nothing to refuse by itself.
        #[test]
        fn actix_takes_every_head_that_passes(head in NEARLY) {
            if HeadEnd::default().find(head.as_bytes()) == Ok(Some(head.len()))
                && read(head.as_bytes(), &ClientLimits::default()).is_ok()
            {
                prop_assert!(is_taken(head.as_bytes()), "{:?}", head);
            }
        }

        #[test]
        fn actix_takes_every_mutated_head_that_passes(
            changes in proptest::collection::vec((0usize..200, any::<u8>(), 0usize..3), 1..4),
            base in 0usize..4,
        ) {
            let mut head = [
                &b"GET /a/b?c=d HTTP/1.1\r\nHost: h.example:80\r\nAccept: */*\r\n\r\n"[..],
                b"POST http://h/ HTTP/1.1\r\nHost: h\r\nContent-Length: 12\r\nUpgrade: websocket\r\n\r\n",
                b"PUT * HTTP/1.0\r\nTransfer-Encoding: chunked\r\nHost: h\r\n\r\n",
                b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
            ][base].to_vec();
            for (at, byte, what) in changes {
                let at = at % head.len();
                match what {
                    0 => head[at] = byte,
                    1 => head.insert(at, byte),
                    _ => drop(head.remove(at)),
                }
            }
            let Ok(Some(end)) = HeadEnd::default().find(&head) else { return Ok(()) };
            let head = &head[..end];
            if end > 2 && read(head, &ClientLimits::default()).is_ok() {
                prop_assert!(is_taken(head), "{:?}", head.escape_ascii().to_string());
            }
        }

        /// A head that we take for complete and actix-http does not would be waited for without a
        /// deadline.
        #[test]
        fn actix_never_waits_for_more_of_a_complete_head(head in "[ -~\\t\u{0}\u{80}-\u{ff}]{1,20}( [!-~]{0,9}( ?HTTP/1\\.[019])?)?(\r\n[ -~\\t\u{0}]{1,20}){0,3}\r\n\r\n") {
            let mut buffer = BytesMut::from(head.as_bytes());
            prop_assert!(!with_codec(|codec| matches!(codec.decode(&mut buffer), Ok(None))), "{:?}", head);
        }

        #[test]
        fn every_head_that_actix_takes_is_framed_as_actix_frames_it(
            head in "(GET|POST|HEAD|CONNECT) / HTTP/1\\.[01]\r\nHost: h\r\n((Content-Length|Upgrade|Connection|Transfer-Encoding|Expect): ?(3|0|003|chunked|Chunked|websocket|WebSocket ?|h2c|close|upgrade|100-continue)\r\n){0,4}\r\n",
        ) {
            let decoded = with_codec(|codec| {
                matches!(codec.decode(&mut BytesMut::from(head.as_str())), Ok(Some(Message::Item(_)))).then(|| codec.message_type())
            });
            let Some(decoded) = decoded else { return Ok(()) };
            let expected = match decoded {
                MessageType::None => "none",
                MessageType::Stream => "endless",
                MessageType::Payload if head.to_ascii_lowercase().contains("transfer-encoding: chunked") => "chunked",
                MessageType::Payload if head.to_ascii_lowercase().contains("transfer-encoding:chunked") => "chunked",
                MessageType::Payload => "length",
            };
            if let Ok(found) = kind(&head) {
                prop_assert_eq!(found, expected);
            }
        }
    }
}
