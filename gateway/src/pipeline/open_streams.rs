//! Long-lived requests: uploads, slow responses, downloads, server-sent events, WebSockets. Ends a
//! request when its admission is withdrawn: the key ended, lost a scope of the route, or may no
//! longer be used from the client's address.
//!
//! Each worker checks its own requests. A request registers when it first has to wait, which costs
//! no look-up. A sweep looks up every registered request after each change of the table, and once a
//! second for expired keys.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::auth::demand::Denial;
use crate::keys::{CallerAddress, KeyDigest, KeyTable, UnixMillis};
use crate::routes::Route;
use crate::store::FeedStatus;

/// Longest time between sweeps: keys expire without a notification.
const MAX_SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest time between sweeps, however often the table changes.
const MIN_SWEEP_INTERVAL: Duration = Duration::from_millis(20);

/// Registered requests of one worker.
pub struct OpenStreams {
    keys: Arc<KeyTable>,
    slots: RefCell<Slots>,
    generation: Cell<Generation>,
}

/// Number of sweeps so far; detects a sweep between authentication and registration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generation(u64);

/// Facts that admitted a request.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Digest of the key.
    pub key: KeyDigest,
    /// Address of the client.
    pub address: CallerAddress,
    /// Route of the request.
    pub route: Arc<Route>,
}

#[derive(Default)]
struct Slots {
    entries: Vec<Slot>,
    free: Vec<usize>,
}

enum Slot {
    Free,
    Open { admission: Admission, waker: Waker },
    Ended(Denial),
}

/// Watches one request; registers it when it first waits.
pub struct Watch {
    streams: Rc<OpenStreams>,
    since: Generation,
    entered: Option<OpenStream>,
}

/// Registration of a request; dropping it removes the request.
pub struct OpenStream {
    streams: Rc<OpenStreams>,
    slot: usize,
}

impl OpenStreams {
    /// Creates an empty registry that looks keys up in `keys`.
    #[must_use]
    pub fn new(keys: Arc<KeyTable>) -> Self {
        Self {
            keys,
            slots: RefCell::default(),
            generation: Cell::default(),
        }
    }

    /// Current generation. Callers read it before they authenticate a request.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation.get()
    }

    /// Registers a request; wakes `waker` when its `admission`, valid as of `since`, is withdrawn.
    #[must_use]
    pub fn enter(
        self: &Rc<Self>,
        admission: Admission,
        since: Generation,
        waker: Waker,
    ) -> OpenStream {
        // The next sweep sees changes since the admission, unless a sweep ran before the
        // registration.
        let withdrawn = if since == self.generation() {
            None
        } else {
            admission.withdrawn(&self.keys)
        };
        let slot = match withdrawn {
            None => Slot::Open { admission, waker },
            Some(withdrawn) => Slot::Ended(withdrawn),
        };
        let mut slots = self.slots.borrow_mut();
        let slot = match slots.free.pop() {
            Some(free) => {
                slots.entries[free] = slot;
                free
            }
            None => {
                slots.entries.push(slot);
                slots.entries.len() - 1
            }
        };
        OpenStream {
            streams: Rc::clone(self),
            slot,
        }
    }

    /// Sweeps for ever; ends requests as their admission is withdrawn.
    pub async fn watch(&self, status: &FeedStatus) -> Infallible {
        let mut reached = status.reached();
        loop {
            // The sender lives as long as `status`.
            let _ = timeout(MAX_SWEEP_INTERVAL, reached.changed()).await;
            reached.mark_unchanged();
            self.sweep();
            sleep(MIN_SWEEP_INTERVAL).await;
        }
    }

    /// Looks up every registered request and wakes those to end.
    fn sweep(&self) {
        self.generation
            .set(Generation(self.generation.get().0.wrapping_add(1)));
        for slot in &mut self.slots.borrow_mut().entries {
            if let Slot::Open { admission, waker } = slot
                && let Some(withdrawn) = admission.withdrawn(&self.keys)
            {
                waker.wake_by_ref();
                *slot = Slot::Ended(withdrawn);
            }
        }
    }
}

impl Admission {
    /// Applies the same rule as authorisation in the pipeline.
    fn withdrawn(&self, keys: &KeyTable) -> Option<Denial> {
        let Some(known) = keys.lookup(&self.key) else {
            return Some(Denial::Unknown);
        };
        let demand = &self.route.demand;
        demand
            .admits(&known, UnixMillis::now(), Some(self.address))
            .err()
    }
}

impl Watch {
    /// Watches a request that authenticated in generation `since` or later.
    #[must_use]
    pub fn new(streams: &Rc<OpenStreams>, since: Generation) -> Self {
        Self {
            streams: Rc::clone(streams),
            since,
            entered: None,
        }
    }

    /// Returns why a request with `admission` must end. While there is no reason, `waker` is woken
    /// once there is one.
    pub fn withdrawn(
        &mut self,
        admission: impl FnOnce() -> Admission,
        waker: &Waker,
    ) -> Option<Denial> {
        let enter = || self.streams.enter(admission(), self.since, waker.clone());
        self.entered.get_or_insert_with(enter).withdrawn(waker)
    }
}

impl OpenStream {
    /// Returns why the request must end. While there is no reason, `waker` is woken once there is
    /// one.
    #[must_use]
    pub fn withdrawn(&self, waker: &Waker) -> Option<Denial> {
        match &mut self.streams.slots.borrow_mut().entries[self.slot] {
            Slot::Ended(withdrawn) => Some(*withdrawn),
            Slot::Open { waker: known, .. } => {
                known.clone_from(waker);
                None
            }
            Slot::Free => None,
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut slots = self.streams.slots.borrow_mut();
        let freed = std::mem::replace(&mut slots.entries[self.slot], Slot::Free);
        slots.free.push(self.slot);
        // Dropping a waker can drop its task, which may itself be registered.
        drop(slots);
        drop(freed);
    }
}

#[cfg(test)]
mod tests;
