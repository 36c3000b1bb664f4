//! Requests that go on for long: uploads, slow answers, downloads, server-sent events, WebSockets. When what let them in is
//! withdrawn, so are they: their key ends, may not be used from where the client is any more, or loses a scope of the route.
//!
//! Each worker looks after its own. A request is entered when it first has to wait, which costs no look-up. All that are
//! entered are looked up again when the table has changed, and once a second for keys whose time is over.

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

/// How often everything is looked at although nothing was told: keys expire silently.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The least time between two looks, however often the table changes.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_millis(20);

/// The requests that a worker is in the middle of.
pub struct OpenStreams {
    keys: Arc<KeyTable>,
    places: RefCell<Places>,
    looks: Cell<Looks>,
}

/// How often a worker has looked at its requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looks(u64);

/// What a request was let in by.
#[derive(Clone, Debug)]
pub struct Admission {
    /// The key of its holder.
    pub key: KeyDigest,
    /// Where the client is.
    pub address: CallerAddress,
    /// The route that it falls under.
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

/// Looks after one request, from the first time on that it has to wait.
pub struct Watch {
    streams: Rc<OpenStreams>,
    since: Looks,
    entered: Option<OpenStream>,
}

/// A request that is entered; dropping it takes it out.
pub struct OpenStream {
    streams: Rc<OpenStreams>,
    place: usize,
}

impl OpenStreams {
    /// No request yet; they are looked up in `keys`.
    #[must_use]
    pub fn new(keys: Arc<KeyTable>) -> Self {
        Self {
            keys,
            places: RefCell::default(),
            looks: Cell::default(),
        }
    }

    /// How often all were looked at so far. To be noted before a request is let in.
    #[must_use]
    pub fn looks(&self) -> Looks {
        self.looks.get()
    }

    /// Enters a request; `waker` is woken when its `admission`, which was good after `since`, is withdrawn.
    #[must_use]
    pub fn enter(self: &Rc<Self>, admission: Admission, since: Looks, waker: Waker) -> OpenStream {
        // What changed after it was let in is told to a look, unless that look was before it is entered.
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

    /// Ends requests as what let them in is withdrawn, for ever.
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

    /// Ends those whose admission is withdrawn.
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
    /// Asks what the pipeline asks of a request that begins.
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
    /// A request whose key was looked up after `since`.
    #[must_use]
    pub fn new(streams: &Rc<OpenStreams>, since: Looks) -> Self {
        Self {
            streams: Rc::clone(streams),
            since,
            entered: None,
        }
    }

    /// Why the request, which was let in by `admission`, has to end, if it has. Otherwise `waker` is woken when it has.
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
    /// Why the request has to end, if it has. Otherwise `waker` is woken when it has.
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
        // A waker may take its task along, and that may be entered too.
        drop(places);
        drop(freed);
    }
}

#[cfg(test)]
mod tests;
