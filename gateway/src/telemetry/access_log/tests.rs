use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex};

use super::*;
use crate::telemetry::log_writer::{LogName, finish};

/// Entry of a request with this ending.
pub(in crate::telemetry) fn ended_as(ending: Ending) -> Entry<'static> {
    Entry {
        ending,
        ..entry("/", "x")
    }
}

fn entry<'a>(path: &'a str, request_id: &'a str) -> Entry<'a> {
    Entry {
        at: UnixMillis(1_700_000_000_042),
        request_id,
        client: IpAddr::from([192, 0, 2, 1]).into(),
        method: "GET",
        path,
        status: 200,
        code: None,
        cause: None,
        route: Some("default"),
        consumer: Some("csmr_1"),
        issuer: None,
        key: Some("key_1"),
        limit: None,
        would_refuse: None,
        shadow_limit: None,
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
    let times = [
        (0, "1970-01-01T00:00:00.000Z"),
        (999, "1970-01-01T00:00:00.999Z"),
        (1_000, "1970-01-01T00:00:01.000Z"),
        (981_173_106_007, "2001-02-03T04:05:06.007Z"),
        (981_173_106_120, "2001-02-03T04:05:06.120Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
    ];
    let mut kept = TimeText::default();
    // Clocks are set back too.
    for (millis, text) in times.into_iter().chain(times.into_iter().rev()) {
        assert_eq!(kept.of(UnixMillis(millis)), text.as_bytes());
        assert_eq!(TimeText::default().of(UnixMillis(millis)), text.as_bytes());
    }
    assert_eq!(kept.of(UnixMillis(-1)), times[0].1.as_bytes());
}

/// First column of the documented table with this head.
fn documented(head: &str) -> std::collections::BTreeSet<String> {
    let text = include_str!("../../../../docs/ACCESS-LOG.md");
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
        issuer: Some("x"),
        limit: Some("x"),
        would_refuse: Some(("x", "x")),
        shadow_limit: Some("x"),
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

/// A sink that blocks until it is opened, then stores its input.
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
    // Without the age-based hand-over: the worker ends first.
    let collector = Collector {
        batch: RefCell::default(),
        writer,
    };
    collector.batch.borrow_mut().push(&entry("/last", "x"));
    drop(collector);
    thread.join().unwrap();
    assert!(gate.written().contains("/last"));
}
