//! The requests in flight over all workers, and the most there may be: one more is refused at once, and none waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many requests are in flight, and how many may be.
#[derive(Debug)]
pub struct RequestsInFlight {
    now: AtomicUsize,
    most: usize,
}

/// One request in flight, until this is dropped.
#[derive(Debug)]
pub struct Permit(Arc<RequestsInFlight>);

impl RequestsInFlight {
    /// None, of at most `most`.
    #[must_use]
    pub fn up_to(most: usize) -> Self {
        Self {
            now: AtomicUsize::new(0),
            most,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn now(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    /// Counts one more, if there may be one more.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> Option<Permit> {
        let before = self.now.fetch_add(1, Ordering::Relaxed);
        // Made first, so that one that is too many is taken back.
        let permit = Permit(Arc::clone(self));
        (before < self.most).then_some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}
