//! The short way of an answer: a head that needs no map, because its lines pass as they came or not
//! at all.
//!
//! It takes only what is plain: an answer that is whole, has a length, and asks nothing of the
//! gateway. Everything else goes over a map of headers ([`answer`](crate::proxy::answer),
//! [`headers::for_client`]). A test holds both to the same outcome.

use actix_http::StatusCode;
use actix_http::header::HeaderName;

use crate::front::dispatcher::ReadyLines;
use crate::proxy::headers::{self, Fate};
use crate::proxy::secret_finder::SecretFinder;
use crate::proxy::vary;
use crate::wire::head::{fields, split_first_line};

/// Room for the lines of nearly every answer, beside the origin's own.
const OUR_BYTES: usize = 128;

/// Longest name of a plain header.
const MAX_NAME_BYTES: usize = 64;

/// Head of an answer whose lines are ready for the client.
#[derive(Debug)]
pub struct PlainHead {
    /// Status; final, and one of an answer with a body.
    pub status: StatusCode,
    /// Lines that pass, and `Vary`.
    pub lines: ReadyLines,
}

/// Reads the head of a whole answer; `None` if it is not plain.
pub type PlainFn<'a> = dyn Fn(&[u8]) -> Option<PlainHead> + 'a;

/// What decides whether an answer is plain.
#[derive(Clone, Copy)]
pub struct PlainRules<'a> {
    /// Finds the shared secret.
    pub secret: &'a SecretFinder,
    /// Headers of the request that the answer varies by.
    pub vary: &'a [HeaderName],
    /// Whether the origin's address is removed from `Location`.
    pub rewrites_location: bool,
}

impl PlainRules<'_> {
    /// Returns the head for the client; `None` if the answer is not plain. `head` is one of
    /// HTTP/1.1 that the guarded stream has let pass, of an answer with `Content-Length`.
    #[must_use]
    pub fn read(&self, head: &[u8]) -> Option<PlainHead> {
        let (line, rest) = split_first_line(head);
        let status = StatusCode::from_bytes(line.get(9..12)?).ok()?;
        let mut lines = ReadyLines::with_capacity(rest.len() + OUR_BYTES);
        let mut vary = Vec::new();
        for field in fields(rest) {
            let field = field.ok()?;
            let mut space = [0; MAX_NAME_BYTES];
            let name = space.get_mut(..field.name.len())?;
            name.copy_from_slice(field.name);
            name.make_ascii_lowercase();
            let name = str::from_utf8(name).ok()?;
            match headers::fate(name, field.value, self.secret) {
                Fate::Passes => {}
                Fate::Stays if name == "connection" => {
                    let keeps = |option: &[u8]| option.eq_ignore_ascii_case(b"keep-alive");
                    if !field.members().all(keeps) {
                        return None;
                    }
                    continue;
                }
                Fate::Stays => continue,
                Fate::Hidden | Fate::Leaks => return None,
            }
            match name {
                // The gateway's own.
                "content-length" | "x-request-id" => {}
                "vary" => vary.push(field.value),
                "location" | "content-location" if self.rewrites_location => return None,
                // The origin's own take the place of ours.
                name if name.starts_with("x-ratelimit-") => return None,
                // Streams of events are counted by their type.
                "content-type" if is_event_stream(field.value) => return None,
                _ => lines.push(field.name, field.value),
            }
        }
        if vary.is_empty() {
            lines.push_names(b"vary", self.vary);
        } else if let Some(merged) = vary::merged(&vary, self.vary) {
            lines.push(b"vary", &merged);
        } else {
            vary.iter().for_each(|value| lines.push(b"vary", value));
        }
        Some(PlainHead { status, lines })
    }
}

fn is_event_stream(media_type: &[u8]) -> bool {
    const EVENTS: &[u8] = b"text/event-stream";
    let begin = media_type.get(..EVENTS.len());
    begin.is_some_and(|begin| begin.eq_ignore_ascii_case(EVENTS))
}
