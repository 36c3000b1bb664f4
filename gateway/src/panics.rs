//! What is left of a panic: where it was. It is a fault of this program, and costs the request that met it and no other; a
//! duty of the background that meets one is taken up again.
//!
//! Its message may hold what a client sent, or a secret, so it is repeated only where it stands in the source as it is.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep};

use crate::telemetry::process_log;

/// From a panic to the next try: the first time, and at most. A duty that has gone well for longer than that begins anew.
const TAKEN_UP_AFTER: Duration = Duration::from_millis(100);
const TAKEN_UP_AT_LEAST_EVERY: Duration = Duration::from_secs(5);

thread_local! {
    /// Where the last panic of the thread was, until somebody asks.
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A panic that was caught.
#[derive(Debug, PartialEq, Eq)]
pub struct Panicked {
    place: Option<String>,
}

/// Makes every panic of the process be told in one line of the log, in place of the message that Rust would print.
pub fn install_hook() {
    panic::set_hook(Box::new(tell));
}

/// Runs `future` to its end, or to its panic. What it was in the middle of changing stays as it is: nothing that outlives it may
/// depend on more than its own parts being whole.
///
/// # Errors
/// It panicked.
pub fn caught<T>(future: impl Future<Output = T>) -> impl Future<Output = Result<T, Panicked>> {
    // No `async fn`: it would hold the future twice, as its argument and as what it awaits.
    AssertUnwindSafe(future)
        .catch_unwind()
        .map(|ran| ran.map_err(Panicked::new))
}

/// Runs what `begin` makes, and again whenever it panics, until it ends; `duty` is what the log calls it.
pub async fn kept_up<T>(duty: &str, mut begin: impl AsyncFnMut() -> T) -> T {
    let mut wait = TAKEN_UP_AFTER;
    loop {
        let begun = Instant::now();
        let panicked = match caught(begin()).await {
            Ok(ended) => return ended,
            Err(panicked) => panicked,
        };
        log::error!("{duty} ended in {panicked}, and is taken up again");
        if begun.elapsed() > TAKEN_UP_AT_LEAST_EVERY {
            wait = TAKEN_UP_AFTER;
        }
        sleep(wait).await;
        wait = (wait * 2).min(TAKEN_UP_AT_LEAST_EVERY);
    }
}

/// As [`caught`], for what needs no waiting.
///
/// # Errors
/// It panicked.
pub fn caught_in<T>(call: impl FnOnce() -> T) -> Result<T, Panicked> {
    panic::catch_unwind(AssertUnwindSafe(call)).map_err(Panicked::new)
}

impl Panicked {
    /// The one of this thread that was last. Its `message` is given up, see the module.
    fn new(message: Box<dyn Any + Send>) -> Self {
        drop(message);
        Self { place: LAST.take() }
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "a panic at {place}"),
            // Somebody else's hook is installed, and has told.
            None => f.write_str("a panic"),
        }
    }
}

fn tell(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
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
    let line = format!("a panic at {place}, in the thread {thread:?}: {message}{backtrace}");
    if log::log_enabled!(log::Level::Error) {
        log::error!("{line}");
    } else {
        // Before there is a log, and where it is off: a fault of the program is never passed over.
        process_log::say(&format!("gateway: {line}"));
    }
    LAST.set(Some(place));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_rt::test]
    async fn a_duty_that_panics_goes_on_with_what_it_had() {
        let mut rounds = Vec::new();
        let ended = kept_up("the duty", async || {
            rounds.push(rounds.len());
            tokio::task::yield_now().await;
            assert!(rounds.len() > 2, "not yet");
            "done"
        });
        assert_eq!(ended.await, "done");
        assert_eq!(rounds, [0, 1, 2]);
    }
}
