//! Common output of all logs: a bounded queue and a writer thread. Logging never blocks: a slow
//! reader costs lines, which are counted.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Queue length in messages: batches of the access log, lines of the process log.
const QUEUED: usize = 256;
/// Idle time of the queue before lost lines are reported, and the interval between reports
/// otherwise.
const DRAINED_AFTER: Duration = Duration::from_millis(100);
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// Polling interval of a bounded wait.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Log that lines belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogName {
    /// Access log: one line per request.
    Access,
    /// Process log.
    Process,
}

impl LogName {
    /// Name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Process => "process",
        }
    }
}

/// Count of the lines that one log lost to a slow reader or a failed write.
#[derive(Debug)]
pub struct LostLines {
    log: LogName,
    lost: AtomicU64,
}

impl LostLines {
    /// Log.
    #[must_use]
    pub fn log(&self) -> LogName {
        self.log
    }

    /// Number of lines.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn add(&self, lines: u64) {
        self.lost.fetch_add(lines, Ordering::Relaxed);
    }
}

enum Message {
    Lines { text: Vec<u8>, lines: u64 },
    Flush(SyncSender<()>),
}

/// Sender to a log's thread; one per worker.
#[derive(Clone)]
pub struct LogWriter {
    queue: SyncSender<Message>,
    lost: Arc<LostLines>,
}

impl LogWriter {
    /// Starts the thread, which writes to `out` until every sender is dropped.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub fn start(
        log: LogName,
        out: impl Write + Send + 'static,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (queue, messages) = sync_channel(QUEUED);
        let lost = Arc::new(LostLines {
            log,
            lost: AtomicU64::new(0),
        });
        let counted = Arc::clone(&lost);
        let thread = std::thread::Builder::new()
            .name(format!("{}-log", log.as_str()))
            .spawn(move || write_all(&messages, out, &counted))?;
        Ok((Self { queue, lost }, thread))
    }

    /// Queues whole lines; counts them as lost if the queue is full.
    pub fn hand_over(&self, text: Vec<u8>, lines: u64) {
        if self.queue.try_send(Message::Lines { text, lines }).is_err() {
            self.lost.add(lines);
        }
    }

    /// Lost-line counter, for holders that must not keep the writer open.
    #[must_use]
    pub fn lost(&self) -> Arc<LostLines> {
        Arc::clone(&self.lost)
    }

    /// Waits until all queued lines are written, at most for `limit`.
    pub fn flush(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let (done, is_done) = sync_channel(1);
        let mut message = Message::Flush(done);
        while let Err(TrySendError::Full(back)) = self.queue.try_send(message) {
            if Instant::now() >= until {
                return;
            }
            std::thread::sleep(POLL_INTERVAL);
            message = back;
        }
        let _ = is_done.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}

/// Waits for the end of a log's thread after its senders are dropped, at most for `limit`: the
/// reader may have stalled.
pub fn finish(thread: &JoinHandle<()>, limit: Duration) {
    let until = Instant::now() + limit;
    while !thread.is_finished() && Instant::now() < until {
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Duplicates `stream` without its lock: printing must not wait for a stalled write.
///
/// # Errors
/// The system has no file descriptor left.
pub fn unlocked(stream: &impl AsFd) -> io::Result<File> {
    Ok(File::from(stream.as_fd().try_clone_to_owned()?))
}

fn write_all(messages: &Receiver<Message>, mut out: impl Write, lost: &LostLines) {
    let (mut reported, mut reported_at, mut failing) = (0, Instant::now(), false);
    loop {
        let message = if lost.count() > reported {
            messages.recv_timeout(DRAINED_AFTER)
        } else {
            messages.recv().map_err(RecvTimeoutError::from)
        };
        let drained = match message {
            Ok(Message::Lines { text, lines }) => {
                let written = out.write_all(&text).and_then(|()| out.flush());
                if let Err(error) = &written {
                    lost.add(lines);
                    if !failing {
                        log::error!("the {} log cannot be written: {error}", lost.log.as_str());
                    }
                }
                failing = written.is_err();
                !failing && reported_at.elapsed() > REPORT_INTERVAL
            }
            Ok(Message::Flush(done)) => {
                let _ = done.send(());
                false
            }
            Err(RecvTimeoutError::Timeout) => !failing,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let count = lost.count();
        if drained && count > reported {
            log::warn!(
                "{} lines of the {} log were lost: it was not read fast enough",
                count - reported,
                lost.log.as_str()
            );
            (reported, reported_at) = (count, Instant::now());
        }
    }
}
