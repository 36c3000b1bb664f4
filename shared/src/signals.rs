//! What a daemon does with each signal that it is sent. Left alone, most of them would kill it, and cut what it is answering.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// To stop once what runs is answered; a second time, at once.
    Stop,
    /// To read the settings again.
    Reload,
    /// To open the files of logs again.
    Reopen,
    /// Nothing that a daemon has: it would kill the process all the same.
    Ignore,
}

/// The signals that every Unix has. `SIGPIPE` is ignored by the runtime already, and cannot be told of: the log may be the pipe.
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

/// Those by number, which kill a process of Linux too.
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
/// The real-time signals that the C library leaves to programs.
#[cfg(target_os = "linux")]
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// Every signal that a daemon is sent, from now on.
pub struct Signals(Vec<(Signal, &'static str, Reaction)>);

impl Signals {
    /// Takes the signals over; none of them kills the process any more.
    ///
    /// # Errors
    /// The system does not let it.
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
                // A C library may keep some of these to itself.
                if let Ok(signal) = signal(SignalKind::from_raw(number)) {
                    all.push((signal, "a real-time signal", Reaction::Ignore));
                }
            }
        }
        Ok(Self(all))
    }

    /// The next one: its name, and what it asks for.
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
