//! [`FeedStatus`]: how current the table is, for readiness and metrics.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How current the key table is. Written by the feed, read from anywhere without a lock.
#[derive(Debug)]
pub struct FeedStatus {
    since: Instant,
    /// Milliseconds from `since` to the last successful check, plus one; 0 is never.
    checked: AtomicU64,
    revision: AtomicI64,
}

impl FeedStatus {
    /// The status of a feed that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self { since: Instant::now(), checked: AtomicU64::new(0), revision: AtomicI64::new(0) }
    }

    /// How long ago, seen from `now`, the table was last known to be as the store; `None` when it never was.
    #[must_use]
    pub fn age(&self, now: Instant) -> Option<Duration> {
        let checked = self.checked.load(Ordering::Acquire).checked_sub(1)?;
        Some(now.saturating_duration_since(self.since + Duration::from_millis(checked)))
    }

    /// The last change that the table has; 0 before it was loaded.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision.load(Ordering::Acquire)
    }

    pub(super) fn checked(&self, now: Instant) {
        let millis = u64::try_from(now.saturating_duration_since(self.since).as_millis()).unwrap_or(u64::MAX - 1);
        self.checked.store(millis + 1, Ordering::Release);
    }

    pub(super) fn reached(&self, revision: i64) {
        self.revision.store(revision, Ordering::Release);
    }
}

impl Default for FeedStatus {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_counts_from_the_last_check() {
        let status = FeedStatus::new();
        let start = status.since;
        assert_eq!(status.age(start), None);
        status.checked(start + Duration::from_millis(10));
        assert_eq!(status.age(start + Duration::from_millis(250)), Some(Duration::from_millis(240)));
        assert_eq!(status.age(start), Some(Duration::ZERO));
    }
}
