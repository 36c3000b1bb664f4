//! State of a worker thread: the current policy, the key table, connections to origins, log and
//! counters.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::header::HeaderValue;
use arc_swap::ArcSwap;

use crate::front::drain::Drain;
use crate::http::health_path::HealthPath;
use crate::http::request_id::RequestIds;
use crate::keys::{AddressRange, KeyTable, Prefix};
use crate::limits::Limits;
use crate::limits::brake::{Brake, BrakeRules};
use crate::limits::concurrency::Concurrency;
use crate::pipeline::in_flight::RequestsInFlight;
use crate::pipeline::open_streams::OpenStreams;
use crate::proxy::pool::OriginPool;
use crate::proxy::proxy_headers::ProxyHeaders;
use crate::proxy::secret_finder::SecretFinder;
use crate::routes::Routes;
use crate::store::FeedStatus;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::tally::Tally;

/// Settings of one policy generation. A request loads it once and keeps it.
#[derive(Debug)]
pub struct Policy {
    /// Routes.
    pub routes: Routes,
    /// Limits of the routes.
    pub limits: Limits,
    /// Protection space named in challenges.
    pub realm: String,
    /// Path of the health check for load balancers; `None` disables it.
    pub health_path: Option<HealthPath>,
    /// Prefix of the gateway's own keys.
    pub prefix: Prefix,
    /// Maximum age of the key table while the store is unreachable; `None` means any age.
    pub max_staleness: Option<Duration>,
    /// Shared secret for the origin; marked as sensitive.
    pub secret: HeaderValue,
    /// Finds the shared secret in an origin's response.
    pub secret_finder: SecretFinder,
    /// Scheme of the listener: `http` or `https`.
    pub scheme: HeaderValue,
    /// Proxies whose forwarding headers are trusted.
    pub trusted_proxies: Vec<AddressRange>,
    /// Proxy headers that reach the origin.
    pub proxy_headers: ProxyHeaders,
    /// Maximum size of a request body in bytes.
    pub max_body_bytes: u64,
    /// Time that a WebSocket may be silent in both directions.
    pub tunnel_idle_timeout: Duration,
    /// Limits on requests in flight.
    pub concurrency: Concurrency,
    /// Rules of the brake on bad keys; `None` switches it off.
    pub brake: Option<BrakeRules>,
}

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
    /// Connections to origins.
    pub origins: OriginPool,
    /// Access log.
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

impl Worker {
    /// Whether the key table is loaded and within its maximum age.
    #[must_use]
    pub fn is_current(&self, policy: &Policy) -> bool {
        let is_stale = policy
            .max_staleness
            .is_some_and(|most| self.feed.is_older_than(most));
        self.keys.is_loaded() && !is_stale
    }
}
