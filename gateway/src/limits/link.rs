//! State of the exchange with other gateways, for decisions and metrics.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// State of the exchange of counts. Every member is read and written on its own.
#[derive(Debug)]
pub(super) struct LinkState {
    /// Whether there is a server at all.
    is_used: AtomicBool,
    is_up: AtomicBool,
    succeeded: AtomicU64,
    failed: AtomicU64,
    waiting: AtomicU64,
    /// [`i64::MIN`] is unknown.
    ahead_millis: AtomicI64,
}

/// Numbers of the exchange, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounts {
    /// Whether counts are exchanged; `None` without a server for it.
    pub is_up: Option<bool>,
    /// Exchanges that succeeded.
    pub succeeded: u64,
    /// Exchanges that failed.
    pub failed: u64,
    /// Subjects whose counts the last round had no room for.
    pub waiting: u64,
    /// Milliseconds that the server's clock is ahead of the gateway's, if it is known.
    pub ahead: Option<i64>,
}

impl Default for LinkState {
    fn default() -> Self {
        Self {
            is_used: AtomicBool::default(),
            is_up: AtomicBool::default(),
            succeeded: AtomicU64::default(),
            failed: AtomicU64::default(),
            waiting: AtomicU64::default(),
            ahead_millis: AtomicI64::new(i64::MIN),
        }
    }
}

impl LinkState {
    /// Says that there is a server.
    pub(super) fn use_server(&self) {
        self.is_used.store(true, Ordering::Relaxed);
    }

    /// Whether counts are exchanged.
    pub(super) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    pub(super) fn set_up(&self, is_up: bool) {
        self.is_up.store(is_up, Ordering::Relaxed);
    }

    pub(super) fn count(&self, succeeded: bool) {
        let counter = if succeeded {
            &self.succeeded
        } else {
            &self.failed
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn set_waiting(&self, subjects: usize) {
        let subjects = u64::try_from(subjects).unwrap_or(u64::MAX);
        self.waiting.store(subjects, Ordering::Relaxed);
    }

    pub(super) fn set_ahead(&self, millis: i64) {
        self.ahead_millis.store(millis, Ordering::Relaxed);
    }

    /// The numbers.
    #[must_use]
    pub(super) fn counts(&self) -> LinkCounts {
        LinkCounts {
            is_up: self.is_used.load(Ordering::Relaxed).then(|| self.is_up()),
            succeeded: self.succeeded.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
            ahead: Some(self.ahead_millis.load(Ordering::Relaxed))
                .filter(|ahead| *ahead != i64::MIN),
        }
    }
}
