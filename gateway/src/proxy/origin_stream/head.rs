//! Judges the head of a response: whether it is final, where its body ends, and whether awc would
//! read it as we do.

use std::sync::LazyLock;

use bytes::BytesMut;
use memchr::memmem::Finder;

use super::OriginFault;
use crate::wire::head::{Field, fields, parse_length, split_first_line};

/// What decides on the reading of a response is partly in the request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RequestTraits {
    /// `HEAD`: the response has no body, whatever its head says (RFC 9110 §9.3.2).
    is_head: bool,
    /// The request asked to leave HTTP, so 101 is an answer to it.
    asks_upgrade: bool,
}

impl RequestTraits {
    /// The whole head of a request is offered at once, so the first bytes tell all.
    pub(super) fn of(request: &[u8]) -> Self {
        Self {
            is_head: request.starts_with(b"HEAD "),
            asks_upgrade: asks_upgrade(request),
        }
    }
}

/// The field `Connection` is never the client's: it is written as `connection: upgrade`, by awc in
/// this or in camel case.
fn asks_upgrade(request: &[u8]) -> bool {
    const LINE: &[u8] = b"\r\nconnection: upgrade\r\n";
    static END: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(b"pgrade\r\n"));
    END.find_iter(request).any(|at| {
        let end = at + b"pgrade\r\n".len();
        end.checked_sub(LINE.len())
            .and_then(|start| request.get(start..end))
            .is_some_and(|line| line.eq_ignore_ascii_case(LINE))
    })
}

/// How long a body is, by RFC 9112 §6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// Whatever the head says, none follows.
    NoBody,
    Known(u64),
    Chunked,
    UntilClose,
}

/// The judgement on a final response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) length: Length,
    /// The connection ends with this response.
    pub(super) close: bool,
    /// awc reads this head as we do; otherwise it has to be rewritten.
    pub(super) canonical: bool,
}

/// What a head turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// 1xx: another head follows (RFC 9110 §15.2).
    Interim,
    /// 101, and asked for.
    Switching,
    Final(Verdict),
}

/// Judges one complete head, which ends with its empty line and has no bare LF.
pub(super) fn judge(
    head: &[u8],
    request: RequestTraits,
    max_fields: usize,
) -> Result<Judged, OriginFault> {
    let (line, rest) = split_first_line(head);
    let (old, status) = read_status_line(line)?;
    let seen = Seen::read(rest, max_fields)?;

    match status {
        101 if !request.asks_upgrade || old => {
            return Err(OriginFault::BadFraming("101 that nobody asked for"));
        }
        101 => return Ok(Judged::Switching),
        100..=199 => return Ok(Judged::Interim),
        _ => {}
    }
    if seen.chunked && seen.length.is_some() {
        return Err(OriginFault::BadFraming(
            "Content-Length and Transfer-Encoding",
        ));
    }
    if seen.chunked && old {
        return Err(OriginFault::BadFraming("Transfer-Encoding in HTTP/1.0"));
    }

    let never_body = matches!(status, 204 | 304);
    let length = match (seen.chunked, seen.length) {
        _ if never_body || request.is_head => Length::NoBody,
        (true, _) => Length::Chunked,
        (false, Some(length)) => Length::Known(length),
        (false, None) => Length::UntilClose,
    };
    let close = seen.close || length == Length::UntilClose || (old && !seen.keep_alive);
    // What awc gets wrong: it waits for the body that a length announces though the status has
    // none; it takes a message without a length for empty, or in HTTP/1.0, where zero is no length
    // to it either, for endless; and `Upgrade: websocket` overrules the length though the status is
    // not 101.
    let canonical = !old
        && length != Length::UntilClose
        && !seen.upgrade
        && !(never_body && (seen.chunked || seen.length.is_some()));
    Ok(Judged::Final(Verdict {
        length,
        close,
        canonical,
    }))
}

/// The head in the form in which awc reads it as we do. Lines that need no change are copied byte
/// for byte.
pub(super) fn rewrite(head: &[u8], verdict: Verdict) -> BytesMut {
    let (line, rest) = split_first_line(head);
    let mut out = BytesMut::with_capacity(head.len() + 64);
    out.extend_from_slice(b"HTTP/1.1");
    out.extend_from_slice(line.get(b"HTTP/1.1".len()..).unwrap_or_default());
    out.extend_from_slice(b"\r\n");
    // A response to HEAD keeps its length, which awc passes over; one that can have no body must
    // not announce any.
    let drop_length = verdict.length == Length::NoBody && is_bodyless(line);
    for field in fields(rest).flatten() {
        let framing = field.is("content-length") || field.is("transfer-encoding");
        let dropped = (framing && drop_length)
            || field.is("upgrade")
            || (verdict.close && field.is("connection"));
        if !dropped {
            out.extend_from_slice(field.line);
        }
    }
    if verdict.length == Length::UntilClose {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    if verdict.close {
        out.extend_from_slice(b"connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}

fn is_bodyless(status_line: &[u8]) -> bool {
    matches!(read_status_line(status_line), Ok((_, 204 | 304)))
}

/// `HTTP/1.x SP 3DIGIT [SP reason]`; whether it is 1.0, and the status.
fn read_status_line(line: &[u8]) -> Result<(bool, u16), OriginFault> {
    const BAD: OriginFault = OriginFault::BadFraming("bad status line");
    let rest = line.strip_prefix(b"HTTP/1.").ok_or(BAD)?;
    let (old, code, reason) = match rest {
        [b'0', b' ', a, b, c, reason @ ..] => (true, [*a, *b, *c], reason),
        [b'1', b' ', a, b, c, reason @ ..] => (false, [*a, *b, *c], reason),
        _ => return Err(BAD),
    };
    let sound =
        code.iter().all(u8::is_ascii_digit) && reason.first().is_none_or(|byte| *byte == b' ');
    if !sound || has_control(reason) {
        return Err(BAD);
    }
    let status = code
        .iter()
        .fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    // What a client would make of others is anyone's guess (RFC 9110 §15).
    if !(100..=599).contains(&status) {
        return Err(OriginFault::BadFraming("a status outside of 100 to 599"));
    }
    Ok((old, status))
}

/// The fields that decide on framing and reuse.
#[derive(Default)]
struct Seen {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

impl Seen {
    fn read(rest: &[u8], max_fields: usize) -> Result<Self, OriginFault> {
        let mut seen = Self::default();
        for (count, field) in fields(rest).enumerate() {
            if count == max_fields {
                return Err(OriginFault::HeadTooLarge);
            }
            let field = field.map_err(|_| OriginFault::BadFraming("bad header line"))?;
            if has_control(field.value) {
                return Err(OriginFault::BadFraming("control character in head"));
            }
            seen.note(&field)?;
        }
        Ok(seen)
    }

    fn note(&mut self, field: &Field<'_>) -> Result<(), OriginFault> {
        match field.name.len() {
            14 if field.is("content-length") => {
                let length = parse_length(field.value)
                    .ok_or(OriginFault::BadFraming("bad Content-Length"))?;
                if self.length.replace(length).is_some() {
                    return Err(OriginFault::BadFraming("repeated Content-Length"));
                }
            }
            17 if field.is("transfer-encoding") => {
                if self.chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(OriginFault::BadFraming(
                        "Transfer-Encoding other than chunked",
                    ));
                }
                self.chunked = true;
            }
            10 if field.is("connection") => {
                self.close |= field
                    .members()
                    .any(|option| option.eq_ignore_ascii_case(b"close"));
                self.keep_alive |= field
                    .members()
                    .any(|option| option.eq_ignore_ascii_case(b"keep-alive"));
            }
            7 if field.is("upgrade") => self.upgrade = true,
            _ => {}
        }
        Ok(())
    }
}

/// Control characters, which no field value and no reason has (RFC 9110 §5.5); HTAB is none of them
/// here.
fn has_control(text: &[u8]) -> bool {
    // No early exit, so that the compiler can vectorise the loop.
    text.iter().fold(false, |has, byte| {
        has | (*byte < b' ' && *byte != b'\t') | (*byte == 0x7f)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{judge as judge_up_to, *};

    const MAX_FIELDS: usize = 96;

    fn judge(head: &[u8], request: RequestTraits) -> Result<Judged, OriginFault> {
        judge_up_to(head, request, MAX_FIELDS)
    }

    const GET: RequestTraits = RequestTraits {
        is_head: false,
        asks_upgrade: false,
    };
    const HEAD: RequestTraits = RequestTraits {
        is_head: true,
        asks_upgrade: false,
    };

    fn verdict(length: Length, close: bool, canonical: bool) -> Option<Judged> {
        Some(Judged::Final(Verdict {
            length,
            close,
            canonical,
        }))
    }

    #[test]
    fn heads_are_judged_by_the_rules_of_message_length() {
        let table: &[(&str, RequestTraits, Option<Judged>)] = &[
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                GET,
                verdict(Length::Known(5), false, true),
            ),
            (
                "HTTP/1.1 200\r\ncontent-length:5\r\n\r\n",
                GET,
                verdict(Length::Known(5), false, true),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n",
                GET,
                verdict(Length::Chunked, false, true),
            ),
            (
                "HTTP/1.1 200 OK\r\n\r\n",
                GET,
                verdict(Length::UntilClose, true, false),
            ),
            (
                "HTTP/1.1 200 OK\r\n\r\n",
                HEAD,
                verdict(Length::NoBody, false, true),
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                HEAD,
                verdict(Length::NoBody, false, true),
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nA:\t\x0c \r\n\r\n",
                GET,
                None,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nA: b\x0b\r\n\r\n",
                GET,
                None,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nA: b\r\r\n\r\n",
                GET,
                None,
            ),
            (
                "HTTP/1.1 204 No Content\r\n\r\n",
                GET,
                verdict(Length::NoBody, false, true),
            ),
            (
                "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
                GET,
                verdict(Length::NoBody, false, false),
            ),
            (
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
                GET,
                verdict(Length::NoBody, false, false),
            ),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n",
                GET,
                verdict(Length::Known(5), true, false),
            ),
            (
                "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 5\r\n\r\n",
                GET,
                verdict(Length::Known(5), false, false),
            ),
            (
                "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 5\r\n\r\n",
                GET,
                verdict(Length::Known(5), true, true),
            ),
            (
                "HTTP/1.1 426 Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\n",
                GET,
                verdict(Length::Known(5), false, false),
            ),
            (
                "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
                GET,
                Some(Judged::Interim),
            ),
            ("HTTP/1.1 100\r\n\r\n", HEAD, Some(Judged::Interim)),
            ("HTTP/1.1 101 Switching\r\n\r\n", GET, None),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                GET,
                None,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
                GET,
                None,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
                GET,
                None,
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", GET, None),
            ("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", GET, None),
            ("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", GET, None),
            ("HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n", GET, None),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                GET,
                None,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
                GET,
                None,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                GET,
                None,
            ),
            (
                "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                GET,
                None,
            ),
            (
                "HTTP/1.1 200 OK\r\nA: b\r\n folded\r\nContent-Length: 5\r\n\r\n",
                GET,
                None,
            ),
            (
                "HTTP/1.1 200 OK\r\nA: b\rContent-Length: 5\r\n\r\n",
                GET,
                None,
            ),
            ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", GET, None),
            ("HTTP/1.1 20 OK\r\n\r\n", GET, None),
            ("HTTP/1.1 2000 OK\r\n\r\n", GET, None),
            ("HTTP/1.1 000 OK\r\n\r\n", GET, None),
            ("HTTP/1.1 099 OK\r\n\r\n", GET, None),
            ("HTTP/1.1 600 OK\r\n\r\n", HEAD, None),
            ("HTTP/1.1 999 OK\r\nContent-Length: 5\r\n\r\n", GET, None),
            (
                "HTTP/1.1 599 OK\r\nContent-Length: 5\r\n\r\n",
                GET,
                verdict(Length::Known(5), false, true),
            ),
            ("HTTP/1.1  200 OK\r\n\r\n", GET, None),
            ("HTTP/2.0 200 OK\r\n\r\n", GET, None),
            ("http/1.1 200 OK\r\n\r\n", GET, None),
            ("\r\n", GET, None),
        ];
        for (head, request, expected) in table {
            assert_eq!(judge(head.as_bytes(), *request).ok(), *expected, "{head:?}");
        }
    }

    #[test]
    fn rewritten_heads_are_canonical() {
        for (head, expected) in [
            (
                "HTTP/1.0 200 Fine\r\nX: y\r\n\r\n",
                "HTTP/1.1 200 Fine\r\nX: y\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n",
            ),
            (
                "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 9\r\n\r\n",
                "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n",
            ),
            (
                "HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\n",
                "HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade\r\nContent-Length: 5\r\n\r\n",
            ),
        ] {
            let Ok(Judged::Final(verdict)) = judge(head.as_bytes(), GET) else {
                panic!("{head:?}")
            };
            let rewritten = rewrite(head.as_bytes(), verdict);
            assert_eq!(rewritten, expected);
            assert!(
                matches!(
                    judge(&rewritten, GET),
                    Ok(Judged::Final(Verdict {
                        canonical: true,
                        ..
                    }))
                ),
                "{head:?}"
            );
        }
    }

    #[test]
    fn upgrade_is_read_from_the_request() {
        let asks = |head: &str| RequestTraits::of(head.as_bytes()).asks_upgrade;
        assert!(asks(
            "GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        ));
        assert!(asks(
            "GET / HTTP/1.1\r\nA: pgrade\r\nConnection: Upgrade\r\n\r\n"
        ));
        assert!(!asks(
            "GET / HTTP/1.1\r\nupgrade-insecure-requests: 1\r\n\r\n"
        ));
        assert!(!asks(
            "GET /upgrade HTTP/1.1\r\nx-connection: upgrade\r\n\r\n"
        ));
    }

    proptest! {
        #[test]
        fn any_head_is_judged_and_what_is_rewritten_is_read_alike(head in "(HTTP/1\\.[01] (200|204|304|426) ?\r\n)((Content-Length|Upgrade|Connection|Transfer-Encoding|A): ?(5|0|chunked|websocket|close|keep-alive)\r\n){0,4}\r\n") {
            if let Ok(Judged::Final(first)) = judge(head.as_bytes(), GET)
                && !first.canonical
            {
                let rewritten = rewrite(head.as_bytes(), first);
                let Ok(Judged::Final(second)) = judge(&rewritten, GET) else { panic!("{head:?}") };
                prop_assert!(second.canonical);
                prop_assert_eq!(second.close, first.close);
                match first.length {
                    Length::UntilClose => prop_assert_eq!(second.length, Length::Chunked),
                    length => prop_assert_eq!(second.length, length),
                }
            }
        }

        #[test]
        fn random_bytes_never_panic(head in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = judge(&head, GET);
        }
    }
}
