//! The time as one wake-up of a task sees it: read once, however often it is asked for.
//!
//! A small request asks a dozen times. Whoever polls a task for a connection does it within
//! [`in_one_reading`]; elsewhere [`now`] reads the clock each time.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

thread_local! {
    static READING: Cell<Reading> = const { Cell::new(Reading::Outside) };
}

#[derive(Clone, Copy)]
enum Reading {
    /// Nobody says how long a reading holds.
    Outside,
    /// In a wake-up that has not asked yet.
    Unread,
    At(Instant),
}

/// Runs `wake_up`, in which the clock is read at most once. It is to be short: one poll.
pub(crate) fn in_one_reading<T>(wake_up: impl FnOnce() -> T) -> T {
    /// Also when `wake_up` panics.
    struct Restore(Reading);

    impl Drop for Restore {
        fn drop(&mut self) {
            READING.set(self.0);
        }
    }

    let _restore = Restore(READING.replace(Reading::Unread));
    wake_up()
}

/// The time of the present wake-up, or the present time.
pub(crate) fn now() -> Instant {
    match READING.get() {
        Reading::At(now) => now,
        Reading::Outside => Instant::now(),
        Reading::Unread => {
            let now = Instant::now();
            READING.set(Reading::At(now));
            now
        }
    }
}

/// How long ago `begun` was, by [`now`].
pub(crate) fn since(begun: std::time::Instant) -> Duration {
    now().into_std().saturating_duration_since(begun)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stands_still_within_a_wake_up_and_nowhere_else() {
        let pass = || std::thread::sleep(Duration::from_millis(2));
        let before = now();
        pass();
        let (first, second) = in_one_reading(|| {
            let first = now();
            pass();
            (first, now())
        });
        assert!(before < first && first == second);
        assert!(second < now());
        assert!(second < in_one_reading(now));
    }
}
