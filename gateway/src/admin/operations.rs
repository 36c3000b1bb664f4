//! `/healthz`, `/readyz`, and the state that the admin listener shares with the rest of the
//! gateway.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpResponse, web};
use arc_swap::ArcSwap;
use serde_json::json;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

use crate::admin::described::IN_FORCE;
use crate::admin::endpoint::{Answered, Endpoint};
use crate::admin::hosts::Hosts;
use crate::admin::idempotency::Running;
use crate::admin::openapi;
use crate::admin::problem::Problem;
use crate::auth::admin_token::{AdminToken, AdminTokens};
use crate::config::public_url::PublicUrl;
use crate::keys::{KeyTable, Prefix};
use crate::limits::brake::Brake;
use crate::pipeline::Policy;
use crate::proxy::Upstream;
use crate::reload::Reloads;
use crate::store::{FeedStatus, Store, StoreHandle};
use crate::telemetry::metrics::Metrics;

/// Maximum wait for a change to be in force. The feed takes some milliseconds, or seconds for a
/// full load.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(5);

/// State of the admin listener, shared with the rest of the gateway.
#[derive(Clone)]
pub struct Operations {
    keys: Arc<KeyTable>,
    feed: Arc<FeedStatus>,
    max_staleness: Option<Duration>,
    upstreams: Arc<dyn Fn() -> Vec<Arc<Upstream>> + Send + Sync>,
    stopping: Arc<AtomicBool>,
    access: Arc<ArcSwap<Access>>,
    reloads: Option<Arc<Reloads>>,
    policy: Option<Arc<ArcSwap<Policy>>>,
    metrics: Arc<Metrics>,
    prefix: Prefix,
    store: StoreHandle,
    running: Running,
    brake: Arc<Brake>,
}

/// Who may call, and under which names.
#[derive(Clone, Default)]
struct Access {
    tokens: Arc<AdminTokens>,
    hosts: Arc<Hosts>,
    document: Option<Arc<str>>,
    over_tls: bool,
}

impl Operations {
    /// Collects the key table, its feed status and maximum age, the upstreams, the tokens of the
    /// admin API, the prefix of new keys and the store, without which the API answers 503.
    #[must_use]
    pub fn new(
        keys: Arc<KeyTable>,
        feed: Arc<FeedStatus>,
        max_staleness: Option<Duration>,
        upstreams: impl Fn() -> Vec<Arc<Upstream>> + Send + Sync + 'static,
        tokens: &[AdminToken],
        prefix: Prefix,
        store: StoreHandle,
    ) -> Self {
        let access = Access {
            tokens: Arc::new(AdminTokens::new(tokens)),
            ..Access::default()
        };
        Self {
            keys,
            feed,
            max_staleness,
            upstreams: Arc::new(upstreams),
            stopping: Arc::default(),
            access: Arc::new(ArcSwap::from_pointee(access)),
            reloads: None,
            policy: None,
            metrics: Metrics::new(),
            prefix,
            store,
            running: Running::default(),
            brake: Arc::default(),
        }
    }

    /// Sets the brake on bad keys.
    #[must_use]
    pub fn braking_by(self, brake: &Arc<Brake>) -> Self {
        Self {
            brake: Arc::clone(brake),
            ..self
        }
    }

    /// Adds accepted host names.
    #[must_use]
    pub fn answering_to<'h>(self, hosts: impl IntoIterator<Item = &'h str>) -> Self {
        let access = Access::clone(&self.access.load());
        self.access.store(Arc::new(Access {
            hosts: Arc::new(Hosts::default().and(hosts)),
            ..access
        }));
        self
    }

    /// Sets whether the listener speaks TLS, and its public URL.
    #[must_use]
    pub fn reached(self, over_tls: bool, public_url: Option<&PublicUrl>) -> Self {
        let access = Access::clone(&self.access.load());
        let mut hosts = Hosts::clone(&access.hosts);
        if over_tls {
            hosts = hosts.over_tls();
        }
        if let Some(url) = public_url {
            hosts = hosts.reached_at(url);
        }
        self.access.store(Arc::new(Access {
            hosts: Arc::new(hosts),
            document: public_url.map(|url| Arc::from(openapi::text(Some(url)))),
            over_tls,
            ..access
        }));
        self
    }

    /// Adds the readings of the settings.
    #[must_use]
    pub fn reloading(self, reloads: Arc<Reloads>) -> Self {
        Self {
            reloads: Some(reloads),
            ..self
        }
    }

    /// Adds the policy of the data plane, and its metrics.
    #[must_use]
    pub fn deciding_by(self, policy: Arc<ArcSwap<Policy>>, metrics: &Arc<Metrics>) -> Self {
        Self {
            policy: Some(policy),
            metrics: Arc::clone(metrics),
            ..self
        }
    }

    /// Returns the metrics of the data plane.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Returns the current policy of the data plane.
    pub(super) fn policy(&self) -> Option<Arc<Policy>> {
        self.policy.as_ref().map(|policy| policy.load_full())
    }

    /// Puts other tokens and names in force at once.
    pub fn admit_as<'h>(
        &self,
        tokens: &[AdminToken],
        hosts: impl IntoIterator<Item = &'h str>,
        public_url: Option<&PublicUrl>,
    ) {
        let over_tls = self.access.load().over_tls;
        let mut accepted = Hosts::default().and(hosts);
        if over_tls {
            accepted = accepted.over_tls();
        }
        if let Some(url) = public_url {
            accepted = accepted.reached_at(url);
        }
        self.access.store(Arc::new(Access {
            tokens: Arc::new(AdminTokens::new(tokens)),
            hosts: Arc::new(accepted),
            document: public_url.map(|url| Arc::from(openapi::text(Some(url)))),
            over_tls,
        }));
    }

    /// Returns the readings of the settings, if there are any.
    pub(super) fn reloads(&self) -> Option<&Reloads> {
        self.reloads.as_deref()
    }

    /// Returns the document with the public URL, if configured.
    pub(super) fn document(&self) -> Option<Arc<str>> {
        self.access.load().document.clone()
    }

    /// Marks the gateway as not ready for new work.
    pub fn begin_stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Returns whether the gateway stops.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Returns the key table, unless it was never loaded or is too old.
    pub(super) fn current_keys(&self) -> Option<&KeyTable> {
        let stale = self
            .max_staleness
            .is_some_and(|most| self.feed.is_older_than(most));
        (self.keys.is_loaded() && !stale).then_some(&*self.keys)
    }

    /// Returns the key table, however old.
    pub(super) fn keys(&self) -> &KeyTable {
        &self.keys
    }

    /// Returns the brake on bad keys.
    pub(super) fn brake(&self) -> &Brake {
        &self.brake
    }

    pub(super) fn tokens(&self) -> Arc<AdminTokens> {
        Arc::clone(&self.access.load().tokens)
    }

    pub(super) fn hosts(&self) -> Arc<Hosts> {
        Arc::clone(&self.access.load().hosts)
    }

    pub(super) fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// Runs `act` on the store and waits until its revision is in force on this gateway. The only
    /// access to the store, so that no operation can skip the wait.
    ///
    /// If the table is not up to date in time, the answer has [`IN_FORCE`] `false`, and a 200
    /// becomes 202. A creation stays 201, because its key is shown only once.
    pub(super) async fn with_store(&self, act: impl AsyncFnOnce(Store) -> Answered) -> Answered {
        let store = self
            .store
            .get()
            .ok_or_else(Problem::store_unavailable)?
            .for_one_call();
        let mut response = act(store.clone()).await?;
        let Some(written) = store.written() else {
            return Ok(response);
        };
        let is_in_force = self.feed.reaches(written, FOLLOWS_WITHIN).await;
        let told = if is_in_force { "true" } else { "false" };
        response.headers_mut().insert(
            HeaderName::from_static(IN_FORCE),
            HeaderValue::from_static(told),
        );
        if !is_in_force && response.status() == StatusCode::OK {
            *response.status_mut() = StatusCode::ACCEPTED;
        }
        Ok(response)
    }

    pub(super) fn running(&self) -> &Running {
        &self.running
    }
}

/// Returns the operations for health and readiness.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let health = || web::route().to(async || HttpResponse::Ok().json(json!({ "status": "ok" })));
    vec![
        Endpoint::open("/healthz", health())
            .named("health", "operations", "Check liveness")
            .answers(
                200,
                "The process is running.",
                "Health",
                Schema::from(status(&["ok"])),
            ),
        Endpoint::open("/readyz", web::route().to(ready))
            .named("readiness", "operations", "Check readiness")
            .described("Number of keys, age of the key table, and current failure of the store.")
            .answers(
                200,
                "The gateway is ready.",
                "Readiness",
                Schema::from(status(&["ready", "loading", "stale", "stopping"])),
            )
            .answers(
                503,
                "Not ready yet, or stopping.",
                "Readiness",
                Schema::from(status(&["ready", "loading", "stale", "stopping"])),
            ),
    ]
}

/// Reports readiness, the number of keys and the age of the table: while the store is away,
/// requests continue with the known keys.
async fn ready(operations: web::Data<Operations>) -> HttpResponse {
    let stopping = operations.is_stopping();
    let stale = operations
        .max_staleness
        .is_some_and(|most| operations.feed.is_older_than(most));
    let (status, code) = match (stopping, operations.keys.is_loaded(), stale) {
        (true, _, _) => ("stopping", StatusCode::SERVICE_UNAVAILABLE),
        (false, false, _) => ("loading", StatusCode::SERVICE_UNAVAILABLE),
        (false, true, true) => ("stale", StatusCode::SERVICE_UNAVAILABLE),
        (false, true, false) => ("ready", StatusCode::OK),
    };
    // Informational: a failing origin must not make the gateway unready for other routes.
    let upstreams: Vec<serde_json::Value> = (operations.upstreams)()
        .iter()
        .map(|upstream| tell(upstream))
        .collect();
    let age = operations
        .feed
        .age(Instant::now())
        .map(|age| age.as_secs_f64());
    HttpResponse::build(code).json(json!({
        "status": status,
        "keys": operations.keys.len(),
        "store_age_seconds": age,
        "store_revision": operations.feed.revision(),
        "store_fault": operations.feed.fault().map(|fault| fault.row().word),
        "upstreams": upstreams,
        "settings": operations.reloads.as_deref().map(tell_settings),
    }))
}

/// Which settings are in force. A refused file leaves the gateway ready: otherwise one bad file
/// would stop a whole fleet.
fn tell_settings(reloads: &Reloads) -> serde_json::Value {
    let last = reloads.last();
    json!({
        "generation": reloads.running().generation,
        "last_reload": if last.problems.is_empty() { "ok" } else { "refused" },
        "restart_required": last.restart_required,
    })
}

fn tell(upstream: &Upstream) -> serde_json::Value {
    let targets = upstream.targets().iter();
    let targets = targets
        .map(|target| json!({ "target": target.to_string(), "state": target.state().as_str() }));
    json!({ "name": upstream.name(), "targets": targets.collect::<Vec<_>>() })
}

fn status(words: &[&str]) -> ObjectBuilder {
    let word = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(words.iter().copied()));
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("status", word)
        .required("status")
}
