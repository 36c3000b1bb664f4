//! [`SeenMark`]: marks entries that the current load has mentioned.

use std::sync::atomic::{AtomicBool, Ordering};

/// Mark of the current load; new entries start with it. Only writers read it, one at a time.
#[derive(Debug)]
pub(super) struct SeenMark(AtomicBool);

impl SeenMark {
    pub(super) fn set(&self, is_seen: bool) {
        self.0.store(is_seen, Ordering::Relaxed);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for SeenMark {
    fn default() -> Self {
        Self(AtomicBool::new(true))
    }
}

impl Clone for SeenMark {
    fn clone(&self) -> Self {
        Self(AtomicBool::new(self.is_set()))
    }
}
