//! [`Policy`]: what the settings say about requests, as one immutable generation.

use std::sync::Arc;
use std::time::Duration;

use actix_http::header::HeaderValue;
use postern_shared::Secret;

use crate::auth::jwt::Issuers;
use crate::front::client_stream::ClientLimits;
use crate::http::cors::Cors;
use crate::http::health_path::HealthPath;
use crate::http::rate_limit_fields::LimitFields;
use crate::keys::{AddressRange, Prefix};
use crate::limits::Limits;
use crate::limits::brake::BrakeRules;
use crate::limits::concurrency::Concurrency;
use crate::limits::quota::Quotas;
use crate::proxy::Upstream;
use crate::proxy::pool::PoolSettings;
use crate::proxy::proxy_headers::ProxyHeaders;
use crate::proxy::secret_finder::SecretFinder;
use crate::proxy::whole_body::BufferRoom;
use crate::routes::Routes;
use crate::rules::RulesInForce;

/// Settings of one policy generation. A request loads it once and keeps it.
#[derive(Debug)]
pub struct Policy {
    /// Routes.
    pub routes: Routes,
    /// Limits of the routes.
    pub limits: Limits,
    /// Form in which callers are told of their limits and quotas.
    pub limit_fields: LimitFields,
    /// Upstreams: the default one, then those of the file. Routes to a single address have their
    /// own.
    pub upstreams: Vec<Arc<Upstream>>,
    /// What pages of other origins may do where no route is known.
    pub cors: Option<Arc<Cors>>,
    /// Protection space named in challenges.
    pub realm: String,
    /// Scheme and authority that clients know the gateway by; `None` takes them from requests.
    pub public_url: Option<Arc<str>>,
    /// Path of the health check for load balancers; `None` disables it.
    pub health_path: Option<HealthPath>,
    /// Prefix of the gateway's own keys.
    pub prefix: Prefix,
    /// Maximum age of the key table while the store is unreachable; `None` means any age.
    pub max_staleness: Option<Duration>,
    /// Shared secret for the origin; marked as sensitive.
    pub secret: HeaderValue,
    /// Finds the secrets of origins in a response.
    pub secret_finder: SecretFinder,
    /// Secrets that it finds: those in use, then a few that were in use before.
    pub known_secrets: Vec<Secret>,
    /// Scheme of the listener: `http` or `https`.
    pub scheme: HeaderValue,
    /// Proxies whose forwarding headers are trusted.
    pub trusted_proxies: Arc<[AddressRange]>,
    /// Proxy headers that reach the origin.
    pub proxy_headers: ProxyHeaders,
    /// Maximum size of a request body in bytes.
    pub max_body_bytes: u64,
    /// Memory for request bodies that are buffered; the same over all generations.
    pub buffers: Arc<BufferRoom>,
    /// Maximum bytes of it.
    pub max_buffered_bytes: u64,
    /// Time that a WebSocket may be silent in both directions.
    pub tunnel_idle_timeout: Duration,
    /// Limits on requests in flight.
    pub concurrency: Concurrency,
    /// Quotas.
    pub quotas: Arc<Quotas>,
    /// Issuers of tokens.
    pub issuers: Arc<Issuers>,
    /// Rules of the brake on bad keys; `None` switches it off.
    pub brake: Option<BrakeRules>,
    /// How connections to origins are opened and kept. The same allocation means the same
    /// connections.
    pub pool: Arc<PoolSettings>,
    /// Limits of connections that clients open from now on.
    pub client_limits: ClientLimits,
    /// Whether requests are written to the access log.
    pub logs_access: bool,
    /// Rules of one's own.
    pub own_rules: RulesInForce,
}

impl Policy {
    /// Iterates over all upstreams, those of single routes included.
    pub fn all_upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        let of_routes = self.routes.iter().map(|route| &route.upstream);
        of_routes.chain(&self.upstreams)
    }
}
