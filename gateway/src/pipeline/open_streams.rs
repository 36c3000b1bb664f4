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
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Shortest time between sweeps, however often the table changes.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_millis(20);

/// Registered requests of one worker.
pub struct OpenStreams {
    keys: Arc<KeyTable>,
    places: RefCell<Places>,
    looks: Cell<Looks>,
}

/// Number of sweeps so far; detects a sweep between authentication and registration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looks(u64);

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
struct Places {
    places: Vec<Place>,
    free: Vec<usize>,
}

enum Place {
    Free,
    Open { admission: Admission, waker: Waker },
    Ended(Denial),
}

/// Watches one request; registers it when it first waits.
pub struct Watch {
    streams: Rc<OpenStreams>,
    since: Looks,
    entered: Option<OpenStream>,
}

/// Registration of a request; dropping it removes the request.
pub struct OpenStream {
    streams: Rc<OpenStreams>,
    place: usize,
}

impl OpenStreams {
    /// Creates an empty registry that looks keys up in `keys`.
    #[must_use]
    pub fn new(keys: Arc<KeyTable>) -> Self {
        Self {
            keys,
            places: RefCell::default(),
            looks: Cell::default(),
        }
    }

    /// Current generation. Callers read it before they authenticate a request.
    #[must_use]
    pub fn looks(&self) -> Looks {
        self.looks.get()
    }

    /// Registers a request; wakes `waker` when its `admission`, valid as of `since`, is withdrawn.
    #[must_use]
    pub fn enter(self: &Rc<Self>, admission: Admission, since: Looks, waker: Waker) -> OpenStream {
        // The next sweep sees changes since the admission, unless a sweep ran before the
        // registration.
        let withdrawn = if since == self.looks() {
            None
        } else {
            admission.withdrawn(&self.keys)
        };
        let place = match withdrawn {
            None => Place::Open { admission, waker },
            Some(withdrawn) => Place::Ended(withdrawn),
        };
        let mut places = self.places.borrow_mut();
        let place = match places.free.pop() {
            Some(free) => {
                places.places[free] = place;
                free
            }
            None => {
                places.places.push(place);
                places.places.len() - 1
            }
        };
        OpenStream {
            streams: Rc::clone(self),
            place,
        }
    }

    /// Sweeps for ever; ends requests as their admission is withdrawn.
    pub async fn watch(&self, status: &FeedStatus) -> Infallible {
        let mut reached = status.reached();
        loop {
            // The sender lives as long as `status`.
            let _ = timeout(LOOK_EVERY, reached.changed()).await;
            reached.mark_unchanged();
            self.look();
            sleep(LOOK_AT_MOST_EVERY).await;
        }
    }

    /// Looks up every registered request and wakes those to end.
    fn look(&self) {
        self.looks.set(Looks(self.looks.get().0.wrapping_add(1)));
        for place in &mut self.places.borrow_mut().places {
            if let Place::Open { admission, waker } = place
                && let Some(withdrawn) = admission.withdrawn(&self.keys)
            {
                waker.wake_by_ref();
                *place = Place::Ended(withdrawn);
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
    pub fn new(streams: &Rc<OpenStreams>, since: Looks) -> Self {
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
        match &mut self.streams.places.borrow_mut().places[self.place] {
            Place::Ended(withdrawn) => Some(*withdrawn),
            Place::Open { waker: known, .. } => {
                known.clone_from(waker);
                None
            }
            Place::Free => None,
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut places = self.streams.places.borrow_mut();
        let freed = std::mem::replace(&mut places.places[self.place], Place::Free);
        places.free.push(self.place);
        // Dropping a waker can drop its task, which may itself be registered.
        drop(places);
        drop(freed);
    }
}

#[cfg(test)]
mod tests;
