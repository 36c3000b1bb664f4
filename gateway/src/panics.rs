//! Panic handling: a panic costs only the request that met it, and a background duty is restarted.
//! The log gets the source location.
//!
//! The message may contain client data or a secret, so it is logged only if it is a literal of the
//! source.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep};

use crate::telemetry::process_log;

/// Delay before a restart: the first, and the longest. A duty that ran well for longer than that
/// starts over with the first.
const MIN_RESTART_DELAY: Duration = Duration::from_millis(100);
const MAX_RESTART_DELAY: Duration = Duration::from_secs(5);

thread_local! {
    /// Location of the thread's last panic, until taken.
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panic that was caught.
#[derive(Debug, PartialEq, Eq)]
pub struct Panicked {
    location: Option<String>,
}

/// Replaces Rust's panic output by one log line per panic.
pub fn install_hook() {
    panic::set_hook(Box::new(report));
}

/// Runs `future` to completion or to its panic. A panic leaves partial changes behind, so whatever
/// outlives the future must not depend on their consistency.
///
/// # Errors
/// The future panicked.
pub fn catch_panic<T>(
    future: impl Future<Output = T>,
) -> impl Future<Output = Result<T, Panicked>> {
    // No `async fn`, which would store the future twice: as its argument and as what it awaits.
    AssertUnwindSafe(future)
        .catch_unwind()
        .map(|ran| ran.map_err(Panicked::new))
}

/// Runs the future of `begin` and restarts it after each panic, until it completes; `duty` is its
/// name in the log.
pub async fn supervise<T>(duty: &str, mut begin: impl AsyncFnMut() -> T) -> T {
    let mut wait = MIN_RESTART_DELAY;
    loop {
        let begun = Instant::now();
        let panicked = match catch_panic(begin()).await {
            Ok(ended) => return ended,
            Err(panicked) => panicked,
        };
        log::error!("{duty} ended in {panicked} and restarts");
        if begun.elapsed() > MAX_RESTART_DELAY {
            wait = MIN_RESTART_DELAY;
        }
        sleep(wait).await;
        wait = (wait * 2).min(MAX_RESTART_DELAY);
    }
}

/// Like [`catch_panic`], for synchronous code.
///
/// # Errors
/// The call panicked.
pub fn catch_panic_sync<T>(call: impl FnOnce() -> T) -> Result<T, Panicked> {
    panic::catch_unwind(AssertUnwindSafe(call)).map_err(Panicked::new)
}

impl Panicked {
    /// Takes the location of this thread's last panic. Discards `message`, see the module.
    fn new(message: Box<dyn Any + Send>) -> Self {
        drop(message);
        Self {
            location: LAST.take(),
        }
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Some(location) => write!(f, "a panic at {location}"),
            // Another hook is installed and has reported it.
            None => f.write_str("a panic"),
        }
    }
}

fn report(info: &PanicHookInfo<'_>) {
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("without a name");
    let message = match info.payload().downcast_ref::<&'static str>() {
        Some(literal) => *literal,
        None => "(its message is not shown: it may hold what must not be logged)",
    };
    let backtrace = Backtrace::capture();
    let backtrace = if backtrace.status() == BacktraceStatus::Captured {
        format!("\n{backtrace}")
    } else {
        String::new()
    };
    let line = format!("a panic at {location}, in the thread {thread:?}: {message}{backtrace}");
    if log::log_enabled!(log::Level::Error) {
        log::error!("{line}");
    } else {
        // Also without a log, or with the log off: a program fault is never silent.
        process_log::write_always(&format!("gateway: {line}"));
    }
    LAST.set(Some(location));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_rt::test]
    async fn a_duty_that_panics_goes_on_with_what_it_had() {
        let mut rounds = Vec::new();
        let ended = supervise("the duty", async || {
            rounds.push(rounds.len());
            tokio::task::yield_now().await;
            assert!(rounds.len() > 2, "not yet");
            "done"
        });
        assert_eq!(ended.await, "done");
        assert_eq!(rounds, [0, 1, 2]);
    }
}
