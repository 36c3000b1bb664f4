//! State of a worker thread: the current policy, the key table, connections to origins, log and
//! counters.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::front::drain::Drain;
use crate::http::request_id::RequestIds;
use crate::keys::KeyTable;
use crate::limits::brake::Brake;
use crate::pipeline::in_flight::RequestsInFlight;
use crate::pipeline::open_streams::OpenStreams;
pub use crate::pipeline::policy::Policy;
use crate::proxy::pool::{OriginPool, PoolSettings};
use crate::store::FeedStatus;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::tally::Tally;
use crate::usage::adoption::Adoption;

/// State that a worker thread serves requests with.
pub struct Worker {
    /// Current policy.
    pub policy: Arc<ArcSwap<Policy>>,
    /// Table of all keys.
    pub keys: Arc<KeyTable>,
    /// Freshness of the key table.
    pub feed: Arc<FeedStatus>,
    /// Requests in flight over all workers.
    pub in_flight: Arc<RequestsInFlight>,
    /// Failures by address, over all workers and generations of the policy.
    pub brake: Arc<Brake>,
    /// Who comes to routes that only observe, over all workers.
    pub adoption: Arc<Adoption>,
    /// Connections to origins.
    pub origins: Origins,
    /// Access log, where the policy wants one.
    pub access_log: AccessLog,
    /// Counters.
    pub tally: Tally,
    /// Long-lived requests, which end with their keys.
    pub streams: Rc<OpenStreams>,
    /// Generates request ids.
    pub request_ids: RequestIds,
    /// Whether connections close after their next response.
    pub drain: Drain,
}

/// Connections of a worker to origins under the current settings of the pool.
pub struct Origins {
    current: RefCell<(Arc<PoolSettings>, Rc<OriginPool>)>,
}

impl Origins {
    /// Starts with `pool`, which has these settings.
    #[must_use]
    pub fn new(settings: Arc<PoolSettings>, pool: OriginPool) -> Self {
        Self {
            current: RefCell::new((settings, Rc::new(pool))),
        }
    }

    /// Returns the pool with these settings. Other settings than last time make a new pool; the old
    /// one closes once its last request has ended.
    #[must_use]
    pub fn with(&self, settings: &Arc<PoolSettings>) -> Rc<OriginPool> {
        let mut current = self.current.borrow_mut();
        if !Arc::ptr_eq(&current.0, settings) {
            let pool = OriginPool::new(PoolSettings::clone(settings));
            *current = (Arc::clone(settings), Rc::new(pool));
        }
        Rc::clone(&current.1)
    }
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origins").finish_non_exhaustive()
    }
}

impl Worker {
    /// Access log of a request under `policy`.
    #[must_use]
    pub fn access_log(&self, policy: &Policy) -> AccessLog {
        if policy.logs_access {
            self.access_log.clone()
        } else {
            AccessLog::off()
        }
    }

    /// Whether the key table is loaded and within its maximum age.
    #[must_use]
    pub fn is_current(&self, policy: &Policy) -> bool {
        let is_stale = policy
            .max_staleness
            .is_some_and(|most| self.feed.is_older_than(most));
        self.keys.is_loaded() && !is_stale
    }
}
