//! [`Seen`]: the mark of what a load has mentioned.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the load that is going on has seen something. New things have it. Only writers look, and they take turns.
#[derive(Debug)]
pub(super) struct Seen(AtomicBool);

impl Seen {
    pub(super) fn set(&self, is_seen: bool) {
        self.0.store(is_seen, Ordering::Relaxed);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Seen {
    fn default() -> Self {
        Self(AtomicBool::new(true))
    }
}

impl Clone for Seen {
    fn clone(&self) -> Self {
        Self(AtomicBool::new(self.is_set()))
    }
}
