//! Reaction of a daemon to each signal. Unhandled, most of them would kill it in the middle of
//! responses.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Request of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Stop after the running responses; the second time, at once.
    Stop,
    /// Reload the settings.
    Reload,
    /// Reopen the log files.
    Reopen,
    /// Nothing that a daemon does; unhandled, it would kill the process.
    Ignore,
}

/// Signals of every Unix. The runtime already ignores `SIGPIPE`, which could not be reported
/// anyway: the log may be the broken pipe.
fn common() -> [(SignalKind, &'static str, Reaction); 7] {
    [
        (SignalKind::terminate(), "SIGTERM", Reaction::Stop),
        (SignalKind::interrupt(), "SIGINT", Reaction::Stop),
        (SignalKind::quit(), "SIGQUIT", Reaction::Stop),
        (SignalKind::hangup(), "SIGHUP", Reaction::Reload),
        (SignalKind::user_defined1(), "SIGUSR1", Reaction::Reopen),
        (SignalKind::user_defined2(), "SIGUSR2", Reaction::Ignore),
        (SignalKind::alarm(), "SIGALRM", Reaction::Ignore),
    ]
}

/// Signals by number that would kill a process on Linux too.
#[cfg(target_os = "linux")]
const BY_NUMBER: [(i32, &str); 7] = [
    (16, "SIGSTKFLT"),
    (24, "SIGXCPU"),
    (25, "SIGXFSZ"),
    (26, "SIGVTALRM"),
    (27, "SIGPROF"),
    (29, "SIGIO"),
    (30, "SIGPWR"),
];
/// Real-time signals that the C library leaves to programs.
#[cfg(target_os = "linux")]
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// Receiver of every signal.
pub struct Signals(Vec<(Signal, &'static str, Reaction)>);

impl Signals {
    /// Handles the signals from now on; none of them kills the process any more.
    ///
    /// # Errors
    /// The system refuses.
    pub fn listen() -> io::Result<Self> {
        let mut all = Vec::new();
        for (kind, name, reaction) in common() {
            all.push((signal(kind)?, name, reaction));
        }
        #[cfg(target_os = "linux")]
        {
            for (number, name) in BY_NUMBER {
                let kind = SignalKind::from_raw(number);
                all.push((signal(kind)?, name, Reaction::Ignore));
            }
            for number in REAL_TIME {
                // A C library may reserve some of these.
                if let Ok(signal) = signal(SignalKind::from_raw(number)) {
                    all.push((signal, "a real-time signal", Reaction::Ignore));
                }
            }
        }
        Ok(Self(all))
    }

    /// Waits for the next signal and returns its name and its request.
    pub async fn next(&mut self) -> (&'static str, Reaction) {
        poll_fn(|cx| {
            for (signal, name, reaction) in &mut self.0 {
                if signal.poll_recv(cx).is_ready() {
                    return Poll::Ready((*name, *reaction));
                }
            }
            Poll::Pending
        })
        .await
    }
}
