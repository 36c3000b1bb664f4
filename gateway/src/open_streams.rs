//! Responses that go on for long: downloads, server-sent events, WebSockets. When a key ends, so does what its holder
//! still receives.
//!
//! Each worker looks after its own. A response is entered when it first has nothing to send, so that one that is there
//! at once costs nothing. All that are entered are looked up again when the table has changed, and once a second for
//! keys whose time is over.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::keys::{KeyDigest, KeyStatus, KeyTable, UnixMillis};
use crate::store::FeedStatus;

/// How often everything is looked at although nothing was told: keys expire silently.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The least time between two looks, however often the table changes.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_millis(20);

/// The responses that a worker is in the middle of.
#[derive(Default)]
pub struct OpenStreams {
    places: RefCell<Places>,
}

#[derive(Default)]
struct Places {
    places: Vec<Place>,
    free: Vec<usize>,
}

enum Place {
    Free,
    Open { key: KeyDigest, waker: Waker },
    Ended(KeyStatus),
}

/// A response that is entered; dropping it takes it out.
pub struct OpenStream {
    streams: Rc<OpenStreams>,
    place: usize,
}

impl OpenStreams {
    /// Enters a response to the holder of `key`; `waker` is woken when the key ends.
    #[must_use]
    pub fn enter(self: &Rc<Self>, key: KeyDigest, waker: Waker) -> OpenStream {
        let mut places = self.places.borrow_mut();
        let open = Place::Open { key, waker };
        let place = match places.free.pop() {
            Some(place) => {
                places.places[place] = open;
                place
            }
            None => {
                places.places.push(open);
                places.places.len() - 1
            }
        };
        OpenStream { streams: Rc::clone(self), place }
    }

    /// Ends responses as their keys end, for ever.
    pub async fn watch(self: Rc<Self>, keys: Arc<KeyTable>, status: Arc<FeedStatus>) -> Infallible {
        let mut revisions = status.revisions();
        loop {
            // The sender lives as long as `status`.
            let _ = timeout(LOOK_EVERY, revisions.changed()).await;
            revisions.mark_unchanged();
            self.end_where(|key| match keys.lookup(key) {
                Some(known) => Some(known.status(UnixMillis::now())).filter(|status| *status != KeyStatus::Active),
                // Its consumer was deleted.
                None => Some(KeyStatus::Revoked),
            });
            sleep(LOOK_AT_MOST_EVERY).await;
        }
    }

    /// Ends those whose key `has_ended`.
    fn end_where(&self, has_ended: impl Fn(&KeyDigest) -> Option<KeyStatus>) {
        for place in &mut self.places.borrow_mut().places {
            if let Place::Open { key, waker } = place
                && let Some(status) = has_ended(key)
            {
                waker.wake_by_ref();
                *place = Place::Ended(status);
            }
        }
    }
}

impl OpenStream {
    /// What has become of the key, if it is good no more. Otherwise `waker` is woken when it ends.
    #[must_use]
    pub fn ended(&self, waker: &Waker) -> Option<KeyStatus> {
        match &mut self.streams.places.borrow_mut().places[self.place] {
            Place::Ended(status) => Some(*status),
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
        places.places[self.place] = Place::Free;
        places.free.push(self.place);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn only_the_streams_of_the_key_end_and_are_woken() {
        let streams = Rc::new(OpenStreams::default());
        let (mine, other) = (KeyDigest::of(b"mine"), KeyDigest::of(b"other"));
        let wakers: Vec<Arc<Counter>> = (0..3).map(|_| Arc::default()).collect();
        let waker = |number: usize| Waker::from(Arc::clone(&wakers[number]));
        let entered: Vec<OpenStream> =
            [mine, other, mine].into_iter().enumerate().map(|(number, key)| streams.enter(key, waker(number))).collect();
        assert_eq!(entered[0].ended(&waker(0)), None);
        streams.end_where(|key| (*key == mine).then_some(KeyStatus::Revoked));
        let ended: Vec<_> = entered.iter().enumerate().map(|(number, stream)| stream.ended(&waker(number))).collect();
        assert_eq!(ended, [Some(KeyStatus::Revoked), None, Some(KeyStatus::Revoked)]);
        let woken: Vec<_> = wakers.iter().map(|counter| counter.0.load(Ordering::Relaxed)).collect();
        assert_eq!(woken, [1, 0, 1]);
    }

    #[test]
    fn a_place_is_used_again() {
        let streams = Rc::new(OpenStreams::default());
        let key = KeyDigest::of(b"mine");
        for _ in 0..100 {
            let first = streams.enter(key, Waker::noop().clone());
            let second = streams.enter(key, Waker::noop().clone());
            drop(first);
            drop(second);
        }
        assert_eq!(streams.places.borrow().places.len(), 2);
        streams.end_where(|_| Some(KeyStatus::Revoked));
        assert_eq!(streams.enter(key, Waker::noop().clone()).ended(Waker::noop()), None);
    }
}
