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
pub(super) mod tests {
    use std::net::IpAddr;
    use std::sync::{Arc, Condvar, Mutex};

    use super::*;
    use crate::telemetry::log_writer::{LogName, finish};

    /// The entry of a request that ended so.
    pub(in crate::telemetry) fn ended_as(ending: Ending) -> Entry<'static> {
        Entry {
            ending,
            ..entry("/", "x")
        }
    }

    fn entry<'a>(path: &'a str, request_id: &'a str) -> Entry<'a> {
        Entry {
            at: UNIX_EPOCH + Duration::from_millis(1_700_000_000_042),
            request_id,
            client: IpAddr::from([192, 0, 2, 1]).into(),
            method: "GET",
            path,
            status: 200,
            code: None,
            cause: None,
            route: Some("default"),
            consumer: Some("csmr_1"),
            key: Some("key_1"),
            bytes_in: 0,
            bytes_out: 28,
            duration: Duration::from_micros(1234),
            origin_wait: Some(Duration::from_micros(1000)),
            ending: Ending::Complete,
        }
    }

    fn line(entry: &Entry<'_>) -> String {
        let mut batch = Batch::default();
        batch.push(entry);
        String::from_utf8(batch.lines).unwrap()
    }

    #[test]
    fn a_line_says_what_happened() {
        assert_eq!(
            line(&entry("/protected", "abc")),
            concat!(
                r#"{"time":"2023-11-14T22:13:20.042Z","request_id":"abc","client":"192.0.2.1","method":"GET","path":"/protected","#,
                r#""status":200,"route":"default","consumer":"csmr_1","key":"key_1","bytes_in":0,"bytes_out":28,"duration_us":1234,"#,
                r#""origin_wait_us":1000,"ending":"complete"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn times_are_of_rfc_3339() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (981_173_106_007, "2001-02-03T04:05:06.007Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ] {
            let mut line = Vec::new();
            push_time(&mut line, UNIX_EPOCH + Duration::from_millis(millis));
            assert_eq!(String::from_utf8(line).unwrap(), text);
        }
    }

    /// The first column of the table whose head begins with this.
    fn documented(head: &str) -> std::collections::BTreeSet<String> {
        let text = include_str!("../../../docs/ACCESS-LOG.md");
        let table = text.split_once(head).unwrap().1;
        table
            .lines()
            .skip(2)
            .map_while(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(name, _)| name.to_owned())
            .collect()
    }

    #[test]
    fn every_field_cause_and_ending_is_documented_and_no_other() {
        let full = Entry {
            code: Some("x"),
            cause: Some("x"),
            ..entry("/", "x")
        };
        let parsed: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&line(&full)).unwrap();
        assert_eq!(documented("| field |"), parsed.keys().cloned().collect());
        let causes = crate::auth::cause::Cause::NAMES.map(str::to_owned);
        assert_eq!(documented("| `cause` | what was sent |"), causes.into());
        let endings = [
            Ending::Complete,
            Ending::ClientGone,
            Ending::OriginTruncated,
            Ending::TimeLimit,
            Ending::KeyEnded,
            Ending::Panicked,
        ];
        let endings = endings.map(|ending| ending.as_str().to_owned());
        assert_eq!(documented("| `ending` | when |"), endings.into());
    }

    #[test]
    fn a_client_that_is_not_known_is_said_to_be_unknown() {
        let unknown = Entry {
            client: CallerAddress::Unknown,
            ..entry("/", "abc")
        };
        assert!(line(&unknown).contains(r#""client":"unknown""#));
    }

    #[test]
    fn whatever_a_request_contains_it_is_one_line_of_json() {
        for path in [
            "/a\"b",
            "/a\\b",
            "/a\r\nb",
            "/\u{1b}[31m",
            "/\u{85}\u{2028}é",
            "/\u{1f600}",
            "/\u{7f}\0",
        ] {
            let line = line(&entry(path, "x"));
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert!(
                line.trim_end()
                    .bytes()
                    .all(|byte| (b' '..=b'~').contains(&byte)),
                "{line}"
            );
            let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(parsed["path"], path);
        }
    }

    /// A sink that waits until it is opened, and then keeps what it is given.
    #[derive(Clone, Default)]
    struct Gate(Arc<Gated>);

    #[derive(Default)]
    struct Gated {
        open: Mutex<bool>,
        opened: Condvar,
        written: Mutex<Vec<u8>>,
    }

    impl Gate {
        fn open(&self) {
            *self.0.open.lock().unwrap() = true;
            self.0.opened.notify_all();
        }

        fn written(&self) -> String {
            String::from_utf8(self.0.written.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            drop(
                self.0
                    .opened
                    .wait_while(self.0.open.lock().unwrap(), |open| !*open)
                    .unwrap(),
            );
            self.0.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[actix_rt::test]
    async fn a_reader_that_does_not_keep_up_costs_lines_which_are_counted_and_not_time() {
        let gate = Gate::default();
        let (writer, thread) = LogWriter::start(LogName::Access, gate.clone()).unwrap();
        let log = AccessLog::new(writer.clone());
        let path = format!("/{}", "a".repeat(BATCH_BYTES));
        let total = 300;
        for _ in 0..total {
            log.record(&entry(&path, "x"));
        }
        let counted = writer.lost();
        let lost = counted.count();
        assert!((1..=50).contains(&lost), "{lost}");
        gate.open();
        drop((log, writer));
        thread.join().unwrap();
        let written = gate.written().lines().count() as u64;
        assert_eq!(written + lost, total);
    }

    #[actix_rt::test]
    async fn a_log_that_nobody_reads_does_not_hold_up_the_end() {
        let (writer, thread) = LogWriter::start(LogName::Access, Gate::default()).unwrap();
        AccessLog::new(writer.clone()).record(&entry("/", "x"));
        let begun = std::time::Instant::now();
        writer.flush(Duration::from_millis(50));
        drop(writer);
        finish(&thread, Duration::from_millis(50));
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(!thread.is_finished());
    }

    #[actix_rt::test]
    async fn what_is_collected_is_written_when_the_worker_ends() {
        let gate = Gate::default();
        gate.open();
        let (writer, thread) = LogWriter::start(LogName::Access, gate.clone()).unwrap();
        // Without the task that hands over by age: the worker ends first.
        let collector = Collector {
            batch: RefCell::default(),
            writer,
        };
        collector.batch.borrow_mut().push(&entry("/last", "x"));
        drop(collector);
        thread.join().unwrap();
        assert!(gate.written().contains("/last"));
    }
}
