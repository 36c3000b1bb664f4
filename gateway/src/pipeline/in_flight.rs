//! Limits the requests in flight over all workers, in total and per caller. Excess requests are
//! refused at once; none waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits::shares::{Full, Shares, Slot};

/// Count of the requests in flight, and their limit.
#[derive(Debug)]
pub struct RequestsInFlight {
    now: AtomicUsize,
    most: usize,
    share: usize,
    without_key: AtomicUsize,
    by_key: Shares,
}

/// Permit of one request in flight; dropping it releases the count.
#[derive(Debug)]
pub struct Permit {
    requests: Arc<RequestsInFlight>,
    charged: Charged,
}

/// Share that a request is charged to.
#[derive(Clone, Copy, Debug)]
enum Charged {
    Nobody,
    WithoutKey,
    Key(Slot),
}

impl RequestsInFlight {
    /// Limits the total to `most`; one caller may use all of it.
    #[must_use]
    pub fn up_to(most: usize) -> Self {
        Self::shared(most, most)
    }

    /// Limits the total to `most` and each key to `share`. All anonymous requests together have one
    /// share.
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

    /// Number of requests in flight.
    #[must_use]
    pub fn now(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    /// Takes a permit; `None` at the limit.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> Option<Permit> {
        let before = self.now.fetch_add(1, Ordering::Relaxed);
        // Created before the check, so that its drop undoes an excess count.
        let permit = Permit {
            requests: Arc::clone(self),
            charged: Charged::Nobody,
        };
        (before < self.most).then_some(permit)
    }
}

impl Permit {
    /// Charges the request, once, to the share of its key or to the anonymous share. Returns
    /// whether there was room. `key` is the bits that tell the caller apart.
    ///
    /// Neither locks nor allocates: reads one cache line, and writes one word of it now and one at
    /// the end.
    #[must_use]
    pub fn charge(&mut self, key: Option<u64>) -> bool {
        let requests = &self.requests;
        // A share as large as the total needs no count.
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
                Ok(slot) => slot.map_or(Charged::Nobody, Charged::Key),
                Err(Full) => return false,
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
            Charged::Key(slot) => self.requests.by_key.leave(slot),
        }
        self.requests.now.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> u64 {
        crate::keys::KeyDigest::of(name.as_bytes()).leading_bits()
    }

    #[test]
    fn each_key_has_its_share_and_so_have_those_without_one() {
        let requests = Arc::new(RequestsInFlight::shared(20, 5));
        let (greedy, other) = (key("greedy"), key("other"));
        for whose in [Some(greedy), None] {
            let mut held: Vec<Permit> = Vec::new();
            for _ in 0..5 {
                let mut permit = requests.enter().unwrap();
                assert!(permit.charge(whose));
                held.push(permit);
            }
            let mut refused = requests.enter().unwrap();
            assert!(!refused.charge(whose), "the sixth of {whose:?}");
            assert!(requests.enter().unwrap().charge(Some(other)));
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
        assert!(permits.iter_mut().all(|permit| permit.charge(Some(one))));
        assert!(requests.enter().is_none());
    }
}
