//! Finds where a chunked body ends (RFC 9112 §7.1), byte for byte and strictly.
//!
//! Everything that passes here is read in the same way by the decoder of actix-http, which is
//! laxer: the scanner accepts a part of what that accepts, so the two cannot come to different
//! ends.

use thiserror::Error;

use super::head::is_token;

/// More digits than a 64-bit size has, so zeros in front are not a way to send for ever.
const MAX_SIZE_DIGITS: u8 = 16;

/// What is wrong with a chunked body.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ChunkFault {
    /// The size is no hexadecimal number of at most 64 bits, ended by CRLF or `;`.
    #[error("bad chunk size")]
    Size,
    /// A control character in a chunk extension.
    #[error("bad chunk extension")]
    Extension,
    /// Chunk extensions of one body are longer than the limit.
    #[error("chunk extensions too large")]
    ExtensionsTooLarge,
    /// The sizes of the chunks come to more than the limit; told at the size line, before the data.
    #[error("chunks of more bytes than the limit")]
    TooLarge,
    /// Chunk data is not followed by CRLF.
    #[error("chunk data not followed by CRLF")]
    DataEnd,
    /// A trailer line is no header field.
    #[error("bad trailer field")]
    Trailer,
    /// The trailer section is longer than the limit.
    #[error("trailer section too large")]
    TrailersTooLarge,
}

/// Limits that RFC 9112 §7.1.1 and §7.1.2 leave to the reader. Both count over one whole body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkLimits {
    /// Data of all chunks together.
    pub(crate) body_bytes: u64,
    pub(crate) extension_bytes: u32,
    pub(crate) trailer_bytes: u32,
    /// Whether blanks may stand between the size and CRLF. Some origins pad so; no client has a
    /// reason to.
    pub(crate) padded_sizes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    SizeStart,
    Size,
    Padding,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    End,
}

/// The scanner: fed with the body in pieces of any size.
#[derive(Debug)]
pub(crate) struct ChunkScanner {
    state: State,
    /// Size of the present chunk, then what is still missing of it.
    left: u64,
    digits: u8,
    limits: ChunkLimits,
}

impl ChunkScanner {
    pub(crate) fn new(limits: ChunkLimits) -> Self {
        Self {
            state: State::SizeStart,
            left: 0,
            digits: 0,
            limits,
        }
    }

    /// Looks at the next bytes of the body. `Some(n)`: the body ended with the first `n` of them;
    /// `None`: they all belong to it and it goes on.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Result<Option<usize>, ChunkFault> {
        let mut at = 0;
        while self.state != State::End {
            if self.state == State::Data {
                let here = bytes.len() - at;
                let take = usize::try_from(self.left).map_or(here, |left| left.min(here));
                at += take;
                self.left -= take as u64;
                if self.left > 0 {
                    return Ok(None);
                }
                self.state = State::DataCr;
            }
            let Some(&byte) = bytes.get(at) else {
                return Ok(None);
            };
            at += 1;
            self.state = self.step(byte)?;
        }
        Ok(Some(at))
    }

    fn step(&mut self, byte: u8) -> Result<State, ChunkFault> {
        let next = match (self.state, byte) {
            (State::SizeStart, _) => {
                self.left = u64::from(hex(byte).ok_or(ChunkFault::Size)?);
                self.digits = 1;
                State::Size
            }
            (State::Size, b'\r') => State::SizeLf,
            (State::Size, b';') => State::Extension,
            (State::Size, b' ' | b'\t') => State::Padding,
            (State::Size, _) => {
                let digit = hex(byte).ok_or(ChunkFault::Size)?;
                if self.digits == MAX_SIZE_DIGITS {
                    return Err(ChunkFault::Size);
                }
                self.digits += 1;
                self.left = (self.left << 4) | u64::from(digit);
                State::Size
            }
            (State::Padding, b' ' | b'\t') => self.count_extension(State::Padding)?,
            (State::Padding, b';') => State::Extension,
            (State::Padding, b'\r') if self.limits.padded_sizes => State::SizeLf,
            (State::Padding, _) => return Err(ChunkFault::Size),
            (State::Extension, b'\r') => State::SizeLf,
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => {
                self.count_extension(State::Extension)?
            }
            (State::Extension, _) => return Err(ChunkFault::Extension),
            (State::SizeLf, b'\n') => match self.left {
                0 => State::TrailerStart,
                size => {
                    let left = self.limits.body_bytes.checked_sub(size);
                    self.limits.body_bytes = left.ok_or(ChunkFault::TooLarge)?;
                    State::Data
                }
            },
            (State::SizeLf, _) => return Err(ChunkFault::Size),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::SizeStart,
            (State::DataCr | State::DataLf, _) => return Err(ChunkFault::DataEnd),
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart, _) if is_token(byte) => self.count_trailer(State::TrailerName)?,
            (State::TrailerName, b':') => self.count_trailer(State::TrailerValue)?,
            (State::TrailerName, _) if is_token(byte) => self.count_trailer(State::TrailerName)?,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => {
                self.count_trailer(State::TrailerValue)?
            }
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') => State::End,
            (
                State::TrailerStart
                | State::TrailerName
                | State::TrailerValue
                | State::TrailerLf
                | State::EndLf,
                _,
            ) => {
                return Err(ChunkFault::Trailer);
            }
            // Not reached: `scan` takes data in bulk and stops at the end.
            (State::Data | State::End, _) => self.state,
        };
        Ok(next)
    }

    fn count_extension(&mut self, next: State) -> Result<State, ChunkFault> {
        self.limits.extension_bytes = self
            .limits
            .extension_bytes
            .checked_sub(1)
            .ok_or(ChunkFault::ExtensionsTooLarge)?;
        Ok(next)
    }

    fn count_trailer(&mut self, next: State) -> Result<State, ChunkFault> {
        self.limits.trailer_bytes = self
            .limits
            .trailer_bytes
            .checked_sub(1)
            .ok_or(ChunkFault::TrailersTooLarge)?;
        Ok(next)
    }
}

fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: ChunkLimits = ChunkLimits {
        body_bytes: u64::MAX,
        extension_bytes: 64,
        trailer_bytes: 64,
        padded_sizes: false,
    };

    fn whole(bytes: &[u8]) -> Result<Option<usize>, ChunkFault> {
        ChunkScanner::new(LIMITS).scan(bytes)
    }

    /// The same bytes in pieces: the end, counted from the start of the body.
    fn pieces(bytes: &[u8], sizes: &[usize]) -> Result<Option<usize>, ChunkFault> {
        let mut scanner = ChunkScanner::new(LIMITS);
        let (mut at, mut sizes) = (0, sizes.iter().cycle());
        while at < bytes.len() {
            let size = sizes
                .next()
                .map_or(1, |size| (*size).max(1))
                .min(bytes.len() - at);
            if let Some(end) = scanner.scan(&bytes[at..at + size])? {
                return Ok(Some(at + end));
            }
            at += size;
        }
        Ok(None)
    }

    #[test]
    fn bodies_end_where_they_end() {
        let table: &[(&str, Option<usize>)] = &[
            ("0\r\n\r\n", Some(5)),
            ("0\r\n\r\nHTTP/1.1 200 OK\r\n", Some(5)),
            ("3\r\nabc\r\n0\r\n\r\n", Some(13)),
            ("A;name=value\r\n0123456789\r\n0\r\nX: y\r\n\r\n", Some(37)),
            ("000000000000000a\r\n0123456789\r\n0\r\n\r\n", Some(35)),
            ("3 ;x\r\nabc\r\n0\r\n\r\n", Some(16)),
            ("3\r\nabc", None),
            ("0\r\n", None),
        ];
        for (body, end) in table {
            assert_eq!(whole(body.as_bytes()), Ok(*end), "{body:?}");
        }
    }

    #[test]
    fn malformed_bodies_are_refused() {
        let long = "x".repeat(65);
        let table: &[(&str, ChunkFault)] = &[
            ("\r\n", ChunkFault::Size),
            ("0x3\r\nabc\r\n", ChunkFault::Size),
            ("-3\r\n", ChunkFault::Size),
            ("+3\r\n", ChunkFault::Size),
            ("3\nabc\r\n", ChunkFault::Size),
            ("3\r\r\nabc", ChunkFault::Size),
            ("3 \r\nabc\r\n", ChunkFault::Size),
            ("3 3\r\n", ChunkFault::Size),
            (" 3\r\nabc\r\n", ChunkFault::Size),
            ("10000000000000000\r\n", ChunkFault::Size),
            ("00000000000000003\r\n", ChunkFault::Size),
            ("3\r\nabcd\r\n", ChunkFault::DataEnd),
            ("3\r\nabc\n0\r\n\r\n", ChunkFault::DataEnd),
            ("3\r\nabc\r0\r\n\r\n", ChunkFault::DataEnd),
            ("3;a\nb\r\nabc\r\n", ChunkFault::Extension),
            ("3;a\0b\r\nabc\r\n", ChunkFault::Extension),
            (&format!("3;{long}\r\n"), ChunkFault::ExtensionsTooLarge),
            ("0\r\n\n", ChunkFault::Trailer),
            ("0\r\n x: y\r\n\r\n", ChunkFault::Trailer),
            ("0\r\nx y\r\n\r\n", ChunkFault::Trailer),
            ("0\r\nx : y\r\n\r\n", ChunkFault::Trailer),
            ("0\r\nx: y\n\r\n", ChunkFault::Trailer),
            ("0\r\n: y\r\n\r\n", ChunkFault::Trailer),
            ("0\r\nGET / HTTP/1.1\r\n", ChunkFault::Trailer),
            (&format!("0\r\nx: {long}\r\n"), ChunkFault::TrailersTooLarge),
        ];
        for (body, fault) in table {
            assert_eq!(whole(body.as_bytes()), Err(*fault), "{body:?}");
        }
    }

    #[test]
    fn chunks_that_are_too_large_together_are_refused_before_their_data() {
        let limits = ChunkLimits {
            body_bytes: 5,
            ..LIMITS
        };
        for (bytes, end) in [
            (&b"5\r\nabcde\r\n0\r\n\r\n"[..], Ok(Some(15))),
            (b"6\r\n", Err(ChunkFault::TooLarge)),
            (b"4\r\nabcd\r\n2\r\n", Err(ChunkFault::TooLarge)),
            (b"ffffffffffffffff\r\n", Err(ChunkFault::TooLarge)),
        ] {
            assert_eq!(ChunkScanner::new(limits).scan(bytes), end);
        }
    }

    #[test]
    fn padding_is_taken_where_it_is_allowed() {
        let mut scanner = ChunkScanner::new(ChunkLimits {
            padded_sizes: true,
            ..LIMITS
        });
        assert_eq!(scanner.scan(b"3  \r\nabc\r\n0 \r\n\r\n"), Ok(Some(16)));
    }

    proptest! {
        #[test]
        fn splitting_never_changes_the_result(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
            tail in proptest::collection::vec(any::<u8>(), 0..40),
            sizes in proptest::collection::vec(1usize..12, 1..8),
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend_from_slice(format!("{:x};e=1\r\n", chunk.len()).as_bytes());
                body.extend_from_slice(chunk);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\nname: value\r\n\r\n");
            let end = body.len();
            body.extend_from_slice(&tail);
            prop_assert_eq!(whole(&body), Ok(Some(end)));
            prop_assert_eq!(pieces(&body, &sizes), Ok(Some(end)));
        }

        #[test]
        fn any_bytes_give_the_same_result_however_they_are_split(
            bytes in "[0-3a;\\r\\n :x\u{0}]{0,60}",
            sizes in proptest::collection::vec(1usize..7, 1..8),
        ) {
            prop_assert_eq!(pieces(bytes.as_bytes(), &sizes), whole(bytes.as_bytes()));
        }

        #[test]
        fn what_passes_here_passes_the_decoder_that_reads_it_next(
            body in "((1\\r\\nx|02[;]?a?\\r\\nxy|3 ;\\r\\nxyz|4[ ]?\\r\\nwxyz)\\r\\n){0,3}0{1,2}(;x)?\\r\\n(a:[ ]?b?\\r\\n){0,2}[\\r]?\\n",
            rest in "[a-c\\r\\n]{0,9}",
        ) {
            use actix_codec::Decoder as _;
            use actix_http::h1::{Codec, Message};

            let bytes = body + &rest;
            let Ok(Some(end)) = whole(bytes.as_bytes()) else { return Ok(()) };
            let mut buffer = bytes::BytesMut::from(&b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"[..]);
            buffer.extend_from_slice(bytes.as_bytes());
            let ended = actix_rt::System::new().block_on(async {
                let mut codec = Codec::default();
                loop {
                    match codec.decode(&mut buffer) {
                        Ok(Some(Message::Item(_) | Message::Chunk(Some(_)))) => {}
                        Ok(Some(Message::Chunk(None))) => break true,
                        Ok(None) | Err(_) => break false,
                    }
                }
            });
            prop_assert!(ended);
            prop_assert_eq!(buffer.len(), bytes.len() - end);
        }
    }
}
