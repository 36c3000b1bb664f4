//! Process log on standard error.
//!
//! Commands write directly. `gateway serve` writes through the thread of a [`LogWriter`], so that a
//! stalled standard error blocks nothing, and rate-limits each source location: clients can cause
//! some lines.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use env_logger::{Builder, Target, WriteStyle};
use log::{Level, Log, Metadata, Record};
use serde::Serialize;

use crate::telemetry::log_writer::{LogName, LogWriter, LostLines, unlocked};

/// Default filter without `RUST_LOG`.
const DEFAULT_FILTER: &str = "info";
/// Maximum of lines per second and source location; `debug` and `trace` are not limited.
pub const MAX_LINES_PER_SECOND: u32 = 50;
/// Library that logs client errors as its own. Each of these has a line of ours.
const CLIENT_ERROR_TARGET: &str = "actix_http";

/// Maximum of lines held until the settings define the format.
const MAX_HELD: usize = 1000;

static WRITER: OnceLock<LogWriter> = OnceLock::new();
/// 0 until the settings define it.
static FORMAT: AtomicU8 = AtomicU8::new(0);
static HELD: Mutex<Vec<Held>> = Mutex::new(Vec::new());
static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

/// Format of the process log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text for people: time, level, target and message in one line.
    Text = 1,
    /// One JSON object per line: `time`, `level`, `target`, `message`.
    Json = 2,
}

/// Format of the lines; `None` until the settings define it.
fn format() -> Option<Format> {
    match FORMAT.load(Ordering::Acquire) {
        0 => None,
        2 => Some(Format::Json),
        _ => Some(Format::Text),
    }
}

/// Line that was logged before the settings were read.
struct Held {
    level: Level,
    target: String,
    message: String,
}

/// Holds a line until the format is known; returns the format if it is.
fn hold(record: &Record<'_>) -> Option<Format> {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    let format = format();
    if format.is_none() && held.len() < MAX_HELD {
        held.push(Held {
            level: record.level(),
            target: record.target().to_owned(),
            message: record.args().to_string(),
        });
    }
    format
}

/// Line as JSON.
#[derive(Serialize)]
struct JsonLine<'a> {
    time: String,
    level: &'a str,
    target: &'a str,
    message: &'a str,
}

impl JsonLine<'_> {
    fn of(at: SystemTime, level: Level, target: &str, message: &str) -> Vec<u8> {
        let line = JsonLine {
            time: humantime::format_rfc3339_millis(at).to_string(),
            level: level.as_str(),
            target,
            message,
        };
        let mut line = serde_json::to_vec(&line).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// Sets the format, and writes the lines that were held until the first call.
pub fn write_as(format: Format) {
    let held = {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that no line is held after the held lines were taken.
        FORMAT.store(format as u8, Ordering::Release);
        std::mem::take(&mut *held)
    };
    for line in held {
        log::log!(target: &line.target, line.level, "{}", line.message);
    }
}

/// Logs directly to standard error, for commands.
pub fn start_direct() {
    builder().init();
}

/// Logs through a thread, for a server. Holds lines until [`write_as`] sets the format.
///
/// # Errors
/// The system has no thread or file descriptor left.
pub fn start_queued() -> io::Result<()> {
    let (writer, _) = LogWriter::start(LogName::Process, unlocked(&io::stderr())?)?;
    let mut builder = builder();
    if std::env::var_os("RUST_LOG_STYLE").is_none() && io::stderr().is_terminal() {
        builder.write_style(WriteStyle::Always);
    }
    builder.target(Target::Pipe(Box::new(Lines(writer.clone()))));
    let _ = WRITER.set(writer);
    let logger = builder.build();
    log::set_max_level(logger.filter());
    let limited = Limited {
        logger,
        sites: Mutex::default(),
    };
    log::set_boxed_logger(Box::new(limited)).map_err(io::Error::other)
}

/// Waits until all logged lines are written, at most for `limit`.
pub fn flush(limit: Duration) {
    // No format is set if the settings could not be read.
    write_as(format().unwrap_or(Format::Text));
    if let Some(writer) = WRITER.get() {
        writer.flush(limit);
    }
}

/// Writes a line even where the log is off.
pub fn write_always(line: &str) {
    match WRITER.get() {
        Some(writer) => {
            let line = match format() {
                Some(Format::Json) => JsonLine::of(
                    SystemTime::now(),
                    Level::Error,
                    env!("CARGO_PKG_NAME"),
                    line,
                ),
                Some(Format::Text) | None => format!("{line}\n").into_bytes(),
            };
            writer.hand_over(line, 1);
        }
        None => eprintln!("{line}"),
    }
}

/// Lost-line counter, if a thread writes.
#[must_use]
pub fn lost() -> Option<Arc<LostLines>> {
    WRITER.get().map(LogWriter::lost)
}

/// Number of lines that the rate limit suppressed.
#[must_use]
pub fn suppressed() -> u64 {
    SUPPRESSED.load(Ordering::Relaxed)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    // An empty variable counts as unset.
    let set = |name| {
        std::env::var(name)
            .ok()
            .filter(|text| !text.trim().is_empty())
    };
    builder.parse_filters(set("RUST_LOG").as_deref().unwrap_or(DEFAULT_FILTER));
    if let Some(style) = set("RUST_LOG_STYLE") {
        builder.parse_write_style(&style);
    }
    builder
}

/// Queues lines for the thread.
struct Lines(LogWriter);

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.hand_over(line.to_vec(), 1);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Rate limit of one kind of line; counts the excess.
#[derive(Debug)]
pub struct AtMost {
    a_second: u32,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    begun: Option<Instant>,
    passed: u32,
    suppressed: u64,
}

impl AtMost {
    /// Allows `a_second` lines per second.
    #[must_use]
    pub const fn new(a_second: u32) -> Self {
        Self {
            a_second,
            window: Mutex::new(Window {
                begun: None,
                passed: 0,
                suppressed: 0,
            }),
        }
    }

    /// Returns the number of lines suppressed since the last one if a line may pass at `now`,
    /// otherwise `None`.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.admit(self.a_second, now)
    }
}

impl Window {
    fn admit(&mut self, a_second: u32, now: Instant) -> Option<u64> {
        let is_over = self
            .begun
            .is_none_or(|begun| now.duration_since(begun) >= Duration::from_secs(1));
        if is_over {
            (self.begun, self.passed) = (Some(now), 0);
        }
        if self.passed < a_second {
            self.passed += 1;
            Some(std::mem::take(&mut self.suppressed))
        } else {
            self.suppressed += 1;
            SUPPRESSED.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

/// Logger that limits each source location to [`MAX_LINES_PER_SECOND`] lines.
struct Limited {
    logger: env_logger::Logger,
    sites: Mutex<HashMap<u64, Window>>,
}

impl Limited {
    fn write(&self, format: Format, record: &Record<'_>) {
        match (format, WRITER.get()) {
            (Format::Json, Some(writer)) => {
                let message = record.args().to_string();
                let line =
                    JsonLine::of(SystemTime::now(), record.level(), record.target(), &message);
                writer.hand_over(line, 1);
            }
            (Format::Json, None) | (Format::Text, _) => self.logger.log(record),
        }
    }

    fn admit(&self, record: &Record<'_>) -> Option<u64> {
        if record.level() >= Level::Debug {
            return Some(0);
        }
        let mut site = DefaultHasher::new();
        (record.module_path(), record.line(), record.target()).hash(&mut site);
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        sites
            .entry(site.finish())
            .or_default()
            .admit(MAX_LINES_PER_SECOND, Instant::now())
    }
}

/// Effective level of a record.
fn level_of(metadata: &Metadata<'_>) -> Level {
    if metadata.target().starts_with(CLIENT_ERROR_TARGET) {
        metadata.level().max(Level::Debug)
    } else {
        metadata.level()
    }
}

impl Log for Limited {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let metadata = Metadata::builder()
            .target(metadata.target())
            .level(level_of(metadata))
            .build();
        self.logger.enabled(&metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let Some(format) = format().or_else(|| hold(record)) else {
            return;
        };
        let mut here = Record::builder();
        here.level(level_of(record.metadata()))
            .target(record.target())
            .module_path(record.module_path())
            .file(record.file())
            .line(record.line())
            .args(*record.args());
        match self.admit(&here.build()) {
            None => {}
            Some(0) => self.write(format, &here.build()),
            Some(more) => self.write(
                format,
                &here
                    .args(format_args!(
                        "{} ({more} more like it were not logged)",
                        record.args()
                    ))
                    .build(),
            ),
        }
    }

    fn flush(&self) {
        self.logger.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_lines_pass_in_a_second_and_the_rest_are_counted() {
        let limit = AtMost::new(2);
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let passed = [0, 10, 20, 999, 1000, 1001, 1002, 2500].map(|millis| limit.admit(at(millis)));
        assert_eq!(
            passed,
            [
                Some(0),
                Some(0),
                None,
                None,
                Some(2),
                Some(0),
                None,
                Some(1)
            ]
        );
    }

    #[test]
    fn a_line_of_json_is_one_line_whatever_is_logged() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_042);
        let line = JsonLine::of(
            at,
            Level::Warn,
            "postern_gateway::pipeline::record",
            "a\n\"b\" \u{1b}[0m",
        );
        assert_eq!(
            String::from_utf8(line).unwrap(),
            concat!(
                r#"{"time":"2023-11-14T22:13:20.042Z","level":"WARN","target":"postern_gateway::pipeline::record","#,
                r#""message":"a\n\"b\" \u001b[0m"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn what_clients_send_is_no_error_of_the_process() {
        for (target, level, here) in [
            ("actix_http::h1::dispatcher", Level::Error, Level::Debug),
            ("actix_http::h1::dispatcher", Level::Trace, Level::Trace),
            (
                "postern_gateway::pipeline::record",
                Level::Error,
                Level::Error,
            ),
            ("actix_server::accept", Level::Error, Level::Error),
        ] {
            let metadata = Metadata::builder().target(target).level(level).build();
            assert_eq!(level_of(&metadata), here, "{target}");
        }
    }
}
