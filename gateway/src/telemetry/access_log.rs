//! The access log: one JSON object a line for each request, written when its response has ended.
//!
//! Workers collect lines in memory and hand them over in batches; one thread writes them. A reader that does not keep
//! up costs lines, which are counted, and never a request its time. No header and no query is logged: both carry
//! secrets.

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

use crate::http::client_address::write_caller_address;
use crate::keys::CallerAddress;
use crate::telemetry::log_writer::LogWriter;

/// A batch is handed over when it has this many bytes …
const BATCH_BYTES: usize = 32 * 1024;
/// … or is this old.
const BATCH_AGE: Duration = Duration::from_millis(100);

/// Where lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    /// Standard output.
    Stdout,
    /// Nowhere.
    Off,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The whole response was handed to the connection.
    Complete,
    /// The client was gone before the end of the response.
    ClientGone,
    /// The origin broke off in the middle of the body.
    OriginTruncated,
    /// A time limit of the gateway ended the response in the middle; the cause names it.
    TimeLimit,
    /// The key ended in the middle of the response, and the response with it.
    KeyEnded,
    /// The gateway's own code panicked in the middle of the response.
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

/// What a line says.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// When the request arrived.
    pub at: SystemTime,
    /// Its id.
    pub request_id: &'a str,
    /// The client as the gateway believes it.
    pub client: CallerAddress,
    /// The method; empty where no request could be read.
    pub method: &'a str,
    /// The path without the query; empty where no request could be read.
    pub path: &'a str,
    /// The status of the response.
    pub status: u16,
    /// The code of the refusal, when the gateway answered itself.
    pub code: Option<&'a str>,
    /// The cause of a failure, for the operator alone.
    pub cause: Option<&'a str>,
    /// The route, once it is known.
    pub route: Option<&'a str>,
    /// The consumer's id, once it is known.
    pub consumer: Option<&'a str>,
    /// The key's id, once it is known.
    pub key: Option<&'a str>,
    /// Bytes of the request's body that were read.
    pub bytes_in: u64,
    /// Bytes of the response's body that were handed to the connection.
    pub bytes_out: u64,
    /// From the request's head to the end of the response.
    pub duration: Duration,
    /// From sending the request to the head of the origin's answer.
    pub origin_wait: Option<Duration>,
    /// How the response ended.
    pub ending: Ending,
}

/// Collects the lines of one worker.
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
    /// A task is waiting to hand the batch over.
    hand_over_planned: bool,
}

impl AccessLog {
    /// A log that keeps nothing.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// A worker's log over `writer`.
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
        push_time(lines, entry.at);
        lines.extend_from_slice(b"\",\"request_id\":");
        push_text(lines, entry.request_id);
        // An address, a number and a closed list of words need no escaping.
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
            (",\"key\":", entry.key),
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

/// A JSON string. Control characters, and those that end a line for some reader, are escaped, so that a request is
/// one line whatever it contains.
fn push_text(lines: &mut Vec<u8>, text: &str) {
    lines.push(b'"');
    // Without a way out before the end, so that the compiler looks at many bytes at a time.
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

/// Writes a moment in RFC 3339, in UTC with milliseconds.
fn push_time(lines: &mut Vec<u8>, at: SystemTime) {
    let at = OffsetDateTime::from(at.max(UNIX_EPOCH));
    let (hour, minute, second, millis) = at.to_hms_milli();
    let mut text = *b"0000-00-00T00:00:00.000Z";
    for (end, mut number) in [
        (4, u16::try_from(at.year()).unwrap_or(9999)),
        (7, u8::from(at.month()).into()),
        (10, at.day().into()),
        (13, hour.into()),
        (16, minute.into()),
        (19, second.into()),
        (23, millis),
    ] {
        for digit in text.iter_mut().take(end).rev() {
            if number == 0 {
                break;
            }
            *digit += (number % 10) as u8;
            number /= 10;
        }
    }
    lines.extend_from_slice(&text);
}

#[cfg(test)]
pub(super) mod tests;
