//! Access log: one JSON object per line and request, written when the response has ended.
//!
//! Workers buffer lines in memory and hand them over in batches; one thread writes them. A slow
//! reader costs lines, which are counted, and never delays a request. Headers and queries are not
//! logged: both carry secrets.

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

use crate::http::client_address::write_caller_address;
use crate::keys::{CallerAddress, UnixMillis};
use crate::telemetry::log_writer::LogWriter;

/// Batch size that triggers a hand-over.
const BATCH_BYTES: usize = 32 * 1024;
/// Batch age that triggers a hand-over.
const BATCH_AGE: Duration = Duration::from_millis(100);

/// Destination of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    /// Standard output.
    Stdout,
    /// None.
    Off,
}

/// End of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The connection took the whole response.
    Complete,
    /// The client left before the end of the response.
    ClientGone,
    /// The origin's body ended early.
    OriginTruncated,
    /// A time limit of the gateway cut the response off; the cause names it.
    TimeLimit,
    /// The key or the token ended during the response, which was cut off.
    KeyEnded,
    /// The gateway's own code panicked during the response.
    Panicked,
}

impl Ending {
    fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientGone => "client_gone",
            Self::OriginTruncated => "origin_truncated",
            Self::TimeLimit => "time_limit",
            Self::KeyEnded => "key_ended",
            Self::Panicked => "internal_error",
        }
    }
}

/// Fields of a line.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// Arrival time.
    pub at: UnixMillis,
    /// Request id.
    pub request_id: &'a str,
    /// Client address.
    pub client: CallerAddress,
    /// Method; empty where no request could be parsed.
    pub method: &'a str,
    /// Path without the query; empty where no request could be parsed.
    pub path: &'a str,
    /// Status of the response.
    pub status: u16,
    /// Code of the refusal, if the gateway answered itself.
    pub code: Option<&'a str>,
    /// Cause of a failure, for the operator only.
    pub cause: Option<&'a str>,
    /// Route, once known.
    pub route: Option<&'a str>,
    /// Consumer id, once known.
    pub consumer: Option<&'a str>,
    /// Issuer of the token, once it is verified.
    pub issuer: Option<&'a str>,
    /// Key id, once known.
    pub key: Option<&'a str>,
    /// Code and cause of the refusal that there would have been, on a route that only observes.
    pub would_refuse: Option<(&'a str, &'a str)>,
    /// Limit that denied the request.
    pub limit: Option<&'a str>,
    /// Limit that would have denied the request if it were enforced.
    pub shadow_limit: Option<&'a str>,
    /// Request body bytes read.
    pub bytes_in: u64,
    /// Response body bytes that the connection took.
    pub bytes_out: u64,
    /// Time from the request head to the end of the response.
    pub duration: Duration,
    /// Time from sending the request to the origin's response head.
    pub origin_wait: Option<Duration>,
    /// End of the response.
    pub ending: Ending,
}

/// Line buffer of one worker.
#[derive(Clone)]
pub struct AccessLog(Option<Rc<Collector>>);

struct Collector {
    batch: RefCell<Batch>,
    writer: LogWriter,
}

#[derive(Default)]
struct Batch {
    lines: Vec<u8>,
    count: u64,
    time: TimeText,
    /// Whether a task will hand the batch over.
    hand_over_planned: bool,
}

impl AccessLog {
    /// Creates a log that discards everything.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// Creates the log of one worker over `writer`.
    #[must_use]
    pub fn new(writer: LogWriter) -> Self {
        Self(Some(Rc::new(Collector {
            batch: RefCell::default(),
            writer,
        })))
    }

    /// Adds the line of a request.
    pub fn record(&self, entry: &Entry<'_>) {
        let Some(collector) = &self.0 else { return };
        let mut batch = collector.batch.borrow_mut();
        batch.push(entry);
        if batch.lines.len() >= BATCH_BYTES {
            let (lines, count) = batch.take();
            drop(batch);
            collector.writer.hand_over(lines, count);
        } else if !batch.hand_over_planned {
            batch.hand_over_planned = true;
            drop(batch);
            let collector = Rc::clone(collector);
            actix_rt::spawn(async move {
                actix_rt::time::sleep(BATCH_AGE).await;
                let (lines, count) = {
                    let mut batch = collector.batch.borrow_mut();
                    batch.hand_over_planned = false;
                    batch.take()
                };
                if count > 0 {
                    collector.writer.hand_over(lines, count);
                }
            });
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let (lines, count) = self.batch.get_mut().take();
        if count > 0 {
            self.writer.hand_over(lines, count);
        }
    }
}

impl Batch {
    fn take(&mut self) -> (Vec<u8>, u64) {
        let next = Vec::with_capacity(self.lines.len().next_power_of_two().min(BATCH_BYTES + 1024));
        (
            std::mem::replace(&mut self.lines, next),
            std::mem::take(&mut self.count),
        )
    }

    fn push(&mut self, entry: &Entry<'_>) {
        let lines = &mut self.lines;
        lines.extend_from_slice(b"{\"time\":\"");
        lines.extend_from_slice(self.time.of(entry.at));
        lines.extend_from_slice(b"\",\"request_id\":");
        push_text(lines, entry.request_id);
        // An address, a number and fixed words need no escaping.
        lines.extend_from_slice(b",\"client\":\"");
        write_caller_address(entry.client, lines);
        lines.extend_from_slice(b"\",\"method\":");
        push_text(lines, entry.method);
        lines.extend_from_slice(b",\"path\":");
        push_text(lines, entry.path);
        push_number(lines, ",\"status\":", u64::from(entry.status));
        for (name, text) in [
            (",\"code\":", entry.code),
            (",\"cause\":", entry.cause),
            (",\"route\":", entry.route),
            (",\"consumer\":", entry.consumer),
            (",\"issuer\":", entry.issuer),
            (",\"key\":", entry.key),
            (
                ",\"would_refuse\":",
                entry.would_refuse.map(|(code, _)| code),
            ),
            (
                ",\"would_refuse_cause\":",
                entry.would_refuse.map(|(_, cause)| cause),
            ),
            (",\"limit\":", entry.limit),
            (",\"shadow_limit\":", entry.shadow_limit),
        ] {
            if let Some(text) = text {
                lines.extend_from_slice(name.as_bytes());
                push_text(lines, text);
            }
        }
        push_number(lines, ",\"bytes_in\":", entry.bytes_in);
        push_number(lines, ",\"bytes_out\":", entry.bytes_out);
        push_number(lines, ",\"duration_us\":", micros(entry.duration));
        if let Some(wait) = entry.origin_wait {
            push_number(lines, ",\"origin_wait_us\":", micros(wait));
        }
        lines.extend_from_slice(b",\"ending\":\"");
        lines.extend_from_slice(entry.ending.as_str().as_bytes());
        lines.extend_from_slice(b"\"}\n");
        self.count += 1;
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn push_number(lines: &mut Vec<u8>, name: &str, number: u64) {
    lines.extend_from_slice(name.as_bytes());
    lines.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Writes a JSON string. Escapes control characters and Unicode line separators, so that a request
/// is always one line.
fn push_text(lines: &mut Vec<u8>, text: &str) {
    lines.push(b'"');
    // No early exit, so that the compiler vectorizes the loop.
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\');
    if text
        .bytes()
        .fold(true, |plain, byte| plain & is_plain(byte))
    {
        lines.extend_from_slice(text.as_bytes());
    } else {
        for character in text.chars() {
            match character {
                '"' | '\\' => lines.extend_from_slice(&[b'\\', character as u8]),
                ' '..='~' => lines.push(character as u8),
                _ => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        let _ = write!(lines, "\\u{unit:04x}");
                    }
                }
            }
        }
    }
    lines.push(b'"');
}

/// Writes times in RFC 3339, UTC, with milliseconds. Keeps the text of the last second, which most
/// lines share.
struct TimeText {
    second: i64,
    text: [u8; 24],
}

impl Default for TimeText {
    fn default() -> Self {
        Self {
            second: 0,
            text: *b"1970-01-01T00:00:00.000Z",
        }
    }
}

impl TimeText {
    fn of(&mut self, at: UnixMillis) -> &[u8] {
        let passed = at.0.max(0);
        let (second, millis) = (passed / 1000, passed % 1000);
        if second != self.second {
            self.second = second;
            self.text = text_of(at);
        }
        let [.., hundreds, tens, ones, _] = &mut self.text;
        for (digit, number) in [
            (hundreds, millis / 100),
            (tens, millis / 10),
            (ones, millis),
        ] {
            *digit = b'0' + (number % 10) as u8;
        }
        &self.text
    }
}

/// Text of the second that `at` lies in.
fn text_of(at: UnixMillis) -> [u8; 24] {
    let at = OffsetDateTime::from(SystemTime::from(at));
    let mut text = *b"0000-00-00T00:00:00.000Z";
    for (end, mut number) in [
        (4, u16::try_from(at.year()).unwrap_or(9999)),
        (7, u8::from(at.month()).into()),
        (10, at.day().into()),
        (13, at.hour().into()),
        (16, at.minute().into()),
        (19, at.second().into()),
    ] {
        for digit in text.iter_mut().take(end).rev() {
            if number == 0 {
                break;
            }
            *digit += (number % 10) as u8;
            number /= 10;
        }
    }
    text
}

#[cfg(test)]
pub(super) mod tests;
