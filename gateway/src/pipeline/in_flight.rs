//! The requests in flight over all workers, and the most there may be, of all callers and of each: one more is refused at once,
//! and none waits.

mod shares;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use self::shares::{Place, Shares};
use crate::keys::KeyDigest;

/// How many requests are in flight, and how many may be.
#[derive(Debug)]
pub struct RequestsInFlight {
    now: AtomicUsize,
    most: usize,
    share: usize,
    without_key: AtomicUsize,
    by_key: Shares,
}

/// One request in flight, until this is dropped.
#[derive(Debug)]
pub struct Permit {
    requests: Arc<RequestsInFlight>,
    charged: Charged,
}

/// In whose share a request is counted.
#[derive(Clone, Copy, Debug)]
enum Charged {
    Nobody,
    WithoutKey,
    Key(Place),
}

impl RequestsInFlight {
    /// None, of at most `most`, all of which one caller may have.
    #[must_use]
    pub fn up_to(most: usize) -> Self {
        Self::shared(most, most)
    }

    /// None, of at most `most`; each key may have `share` of them, and so may all requests without a key together.
    #[must_use]
    pub fn shared(most: usize, share: usize) -> Self {
        Self {
            now: AtomicUsize::new(0),
            most,
            share,
            without_key: AtomicUsize::new(0),
            by_key: Shares::for_requests(most),
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
        let permit = Permit {
            requests: Arc::clone(self),
            charged: Charged::Nobody,
        };
        (before < self.most).then_some(permit)
    }
}

impl Permit {
    /// Counts the request in the share of its key, or of those without one, too; whether there was room. Once a request.
    ///
    /// Neither locks nor allocates: one line of memory is read, and one word of it is written here and at the end.
    #[must_use]
    pub fn charge(&mut self, key: Option<&KeyDigest>) -> bool {
        let requests = &self.requests;
        // Nobody could have more than all of them.
        if requests.share >= requests.most {
            return true;
        }
        let charged = match key {
            None => {
                let before = requests.without_key.fetch_add(1, Ordering::Relaxed);
                if before >= requests.share {
                    requests.without_key.fetch_sub(1, Ordering::Relaxed);
                    return false;
                }
                Charged::WithoutKey
            }
            Some(key) => match requests.by_key.enter(key, requests.share) {
                Ok(place) => place.map_or(Charged::Nobody, Charged::Key),
                Err(shares::Full) => return false,
            },
        };
        self.charged = charged;
        true
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        match self.charged {
            Charged::Nobody => {}
            Charged::WithoutKey => {
                self.requests.without_key.fetch_sub(1, Ordering::Relaxed);
            }
            Charged::Key(place) => self.requests.by_key.leave(place),
        }
        self.requests.now.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> KeyDigest {
        KeyDigest::of(name.as_bytes())
    }

    #[test]
    fn each_key_has_its_share_and_so_have_those_without_one() {
        let requests = Arc::new(RequestsInFlight::shared(20, 5));
        let (greedy, other) = (key("greedy"), key("other"));
        for whose in [Some(&greedy), None] {
            let mut held: Vec<Permit> = Vec::new();
            for _ in 0..5 {
                let mut permit = requests.enter().unwrap();
                assert!(permit.charge(whose));
                held.push(permit);
            }
            let mut refused = requests.enter().unwrap();
            assert!(!refused.charge(whose), "the sixth of {whose:?}");
            assert!(requests.enter().unwrap().charge(Some(&other)));
            drop(refused);
            assert_eq!(requests.now(), 5);
            held.pop();
            assert!(
                requests.enter().unwrap().charge(whose),
                "one has ended: there is room again"
            );
        }
        assert_eq!(requests.now(), 0);
        assert_eq!(requests.without_key.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_share_of_everything_is_no_share() {
        let requests = Arc::new(RequestsInFlight::up_to(2));
        let one = key("one");
        let mut permits: Vec<Permit> = (0..2).filter_map(|_| requests.enter()).collect();
        assert!(permits.iter_mut().all(|permit| permit.charge(Some(&one))));
        assert!(requests.enter().is_none());
    }
}
