//! What a worker thread serves requests with: the policy in force, the keys, connections to origins, and where it tells what it did.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::header::HeaderValue;
use arc_swap::ArcSwap;

use crate::front::drain::Drain;
use crate::http::health_path::HealthPath;
use crate::http::request_id::RequestIds;
use crate::keys::{AddressRange, KeyTable, Prefix};
use crate::pipeline::in_flight::RequestsInFlight;
use crate::pipeline::open_streams::OpenStreams;
use crate::proxy::pool::OriginPool;
use crate::proxy::proxy_headers::ProxyHeaders;
use crate::proxy::secret_finder::SecretFinder;
use crate::routes::Routes;
use crate::store::FeedStatus;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::tally::Tally;

/// What holds for every request that begins while it is in force. A request loads it once and keeps it.
#[derive(Debug)]
pub struct Policy {
    /// The routes.
    pub routes: Routes,
    /// The protection space named in challenges.
    pub realm: String,
    /// The path by which load balancers ask whether requests are taken; `None` is no such path.
    pub health_path: Option<HealthPath>,
    /// What our own keys begin with.
    pub prefix: Prefix,
    /// How old the table of keys may get while the store is away; `None` is any age.
    pub max_staleness: Option<Duration>,
    /// The proof for the origin; marked as sensitive.
    pub secret: HeaderValue,
    /// Finds it in what an origin answers.
    pub secret_finder: SecretFinder,
    /// What clients speak to the listener: `http` or `https`.
    pub scheme: HeaderValue,
    /// Proxies whose forwarding headers are believed.
    pub trusted_proxies: Vec<AddressRange>,
    /// Which of the headers by which proxies speak reach the origin.
    pub proxy_headers: ProxyHeaders,
    /// Most bytes of a request body.
    pub max_body_bytes: u64,
    /// How long a WebSocket may be silent in both directions.
    pub tunnel_idle_timeout: Duration,
}

/// What a worker thread serves requests with.
pub struct Worker {
    /// The policy in force.
    pub policy: Arc<ArcSwap<Policy>>,
    /// Every key, in memory.
    pub keys: Arc<KeyTable>,
    /// How current they are.
    pub feed: Arc<FeedStatus>,
    /// The requests in flight over all workers.
    pub in_flight: Arc<RequestsInFlight>,
    /// Connections to origins.
    pub origins: OriginPool,
    /// Where requests are recorded.
    pub access_log: AccessLog,
    /// Where they are counted.
    pub tally: Tally,
    /// Requests that go on, to be ended with their keys.
    pub streams: Rc<OpenStreams>,
    /// Ids for requests that come without one.
    pub request_ids: RequestIds,
    /// Whether connections are to end with their next answer.
    pub drain: Drain,
}

impl Worker {
    /// Whether the keys are loaded, and no older than they may be.
    #[must_use]
    pub fn is_current(&self, policy: &Policy) -> bool {
        let is_stale = policy
            .max_staleness
            .is_some_and(|most| self.feed.is_older_than(most));
        self.keys.is_loaded() && !is_stale
    }
}
