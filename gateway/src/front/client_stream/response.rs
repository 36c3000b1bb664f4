//! Follows the responses that the dispatcher writes, to know where each of them ends.

use crate::wire::{
    body::Framing,
    chunked::{ChunkLimits, ChunkScanner},
    head::{HeadEnd, parse_length, trim_blanks},
};

/// What we write ourselves needs no limit.
const UNLIMITED: ChunkLimits = ChunkLimits {
    body_bytes: u64::MAX,
    extension_bytes: u32::MAX,
    trailer_bytes: u32::MAX,
    padded_sizes: true,
};

/// What happened while bytes were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A final response is out, all of it.
    Complete,
    /// 101 is out: what follows is no HTTP.
    Switched,
    /// These bytes are no response.
    Stray,
}

/// Where the outgoing side stands.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// Between two responses.
    Quiet,
    Head {
        left: usize,
        then: Then,
    },
    Body(Framing),
    /// Within an answer that was announced, head and body.
    Whole {
        left: usize,
    },
}

#[derive(Debug)]
pub(super) enum Then {
    /// The final response follows.
    Another,
    Body(Framing),
    Complete,
    Switched,
}

impl Outgoing {
    /// Follows the first `taken` of the bytes offered, and stops after the first event. Gives the
    /// number followed.
    ///
    /// `offered` has every head whole that begins in it: it is written at once.
    pub(super) fn follow(
        &mut self,
        offered: &[u8],
        taken: usize,
        is_head: bool,
    ) -> (usize, Option<Event>) {
        let mut at = 0;
        while at < taken {
            match self {
                Self::Quiet => match read_head(offered.get(at..).unwrap_or_default(), is_head) {
                    Some((left, then)) => *self = Self::Head { left, then },
                    None => return (at, Some(Event::Stray)),
                },
                Self::Head { left, then } => {
                    let part = (*left).min(taken - at);
                    at += part;
                    *left -= part;
                    if *left > 0 {
                        continue;
                    }
                    let event = match std::mem::replace(then, Then::Another) {
                        Then::Another => None,
                        Then::Complete => Some(Event::Complete),
                        Then::Switched => Some(Event::Switched),
                        Then::Body(framing) => {
                            *self = Self::Body(framing);
                            continue;
                        }
                    };
                    *self = Self::Quiet;
                    if event.is_some() {
                        return (at, event);
                    }
                }
                Self::Whole { left } => {
                    let part = (*left).min(taken - at);
                    at += part;
                    *left -= part;
                    if *left == 0 {
                        *self = Self::Quiet;
                        return (at, Some(Event::Complete));
                    }
                }
                Self::Body(framing) => {
                    match framing.advance(offered.get(at..taken).unwrap_or_default()) {
                        Ok(None) => at = taken,
                        Ok(Some(end)) => {
                            *self = Self::Quiet;
                            return (at + end, Some(Event::Complete));
                        }
                        Err(_) => return (at, Some(Event::Stray)),
                    }
                }
            }
        }
        (at, None)
    }

    /// Whether the response that begins with these bytes has status 4xx or 5xx.
    pub(super) fn is_error(response: &[u8]) -> bool {
        matches!(response.get(b"HTTP/1.1 ".len()), Some(b'4' | b'5'))
    }

    /// Whether nothing of a response is out.
    pub(super) fn is_quiet(&self) -> bool {
        matches!(self, Self::Quiet)
    }
}

/// The length of the head at the start of `bytes`, and what follows it.
fn read_head(bytes: &[u8], is_head: bool) -> Option<(usize, Then)> {
    let [
        b'H',
        b'T',
        b'T',
        b'P',
        b'/',
        b'1',
        b'.',
        _,
        b' ',
        a,
        b,
        c,
        ..,
    ] = bytes
    else {
        return None;
    };
    let length = HeadEnd::default().find(bytes).ok()??;
    let then = match (a, b, c) {
        (b'1', b'0', b'1') => Then::Switched,
        (b'1', ..) => Then::Another,
        (b'2', b'0', b'4') | (b'3', b'0', b'4') => Then::Complete,
        _ if is_head => Then::Complete,
        _ => read_framing(bytes.get(..length)?).map_or(Then::Complete, Then::Body),
    };
    Some((length, then))
}

fn read_framing(head: &[u8]) -> Option<Framing> {
    let mut rest = head;
    while let Some(at) = memchr::memchr(b'\n', rest) {
        rest = rest.get(at + 1..)?;
        if let Some(value) = strip_name(rest, b"content-length:") {
            return Framing::length(parse_length(value)?);
        }
        if strip_name(rest, b"transfer-encoding:").is_some() {
            return Some(Framing::Chunked(ChunkScanner::new(UNLIMITED)));
        }
    }
    Some(Framing::UntilClose)
}

/// The value of the line that `rest` begins with, if it is the field of that name.
fn strip_name<'a>(rest: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, value) = rest.split_at_checked(name.len())?;
    if !start.eq_ignore_ascii_case(name) {
        return None;
    }
    let end = memchr::memchr(b'\r', value)?;
    Some(trim_blanks(value.get(..end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(response: &str, is_head: bool) -> (usize, Option<Event>) {
        Outgoing::Quiet.follow(response.as_bytes(), response.len(), is_head)
    }

    #[test]
    fn ends_are_found() {
        let table = [
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ndate: x\r\n\r\nhello",
                false,
                Some(Event::Complete),
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
                false,
                None,
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
                false,
                Some(Event::Complete),
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
                true,
                Some(Event::Complete),
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                false,
                Some(Event::Complete),
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
                false,
                None,
            ),
            (
                "HTTP/1.1 204 No Content\r\n\r\n",
                false,
                Some(Event::Complete),
            ),
            (
                "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
                false,
                Some(Event::Complete),
            ),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
                false,
                Some(Event::Complete),
            ),
            ("HTTP/1.1 100 Continue\r\n\r\n", false, None),
            (
                "HTTP/1.1 101 Switching Protocols\r\n\r\n",
                false,
                Some(Event::Switched),
            ),
            (
                "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nanything",
                false,
                None,
            ),
        ];
        for (response, is_head, event) in table {
            assert_eq!(
                follow(response, is_head),
                (response.len(), event),
                "{response:?}"
            );
        }
        assert_eq!(follow("0\r\n\r\n", false), (0, Some(Event::Stray)));
    }

    #[test]
    fn an_announced_answer_ends_after_so_many_bytes() {
        for step in 1..=7 {
            let mut outgoing = Outgoing::Whole { left: 7 };
            let (mut at, mut event) = (0, None);
            while event.is_none() {
                let offered = &b"1234567HTTP"[at..];
                let followed = outgoing.follow(offered, step, false);
                (at, event) = (at + followed.0, followed.1);
            }
            assert_eq!((at, event), (7, Some(Event::Complete)), "steps of {step}");
            assert!(outgoing.is_quiet());
        }
    }

    #[test]
    fn it_does_not_matter_how_much_the_socket_takes_at_a_time() {
        let response =
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        for step in 1..response.len() {
            let (mut outgoing, mut at, mut event) = (Outgoing::Quiet, 0, None);
            while at < response.len() {
                let offered = &response[at..];
                let followed = outgoing.follow(offered, step.min(offered.len()), false);
                at += followed.0;
                event = followed.1;
                assert!(followed.0 > 0);
            }
            assert_eq!(event, Some(Event::Complete), "steps of {step}");
        }
    }
}
