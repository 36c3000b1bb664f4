//! State that the planes and the admin API share, created once per process.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::admin::metrics::MetricsPage;
use crate::admin::{Operations, Refused};
use crate::app::listener::{Served, listener, name};
use crate::app::parts::upstreams;
use crate::config::settings::Settings;
use crate::control::Duties;
use crate::front::drain::Drain;
use crate::keys::KeyTable;
use crate::limits::Memory;
use crate::limits::brake::Brake;
use crate::limits::concurrency::InFlight;
use crate::pipeline::Policy;
use crate::pipeline::in_flight::RequestsInFlight;
use crate::proxy::Upstream;
use crate::store::snapshot::SnapshotKey;
use crate::store::{FeedStatus, StoreHandle, StoreSizes};
use crate::telemetry::log_writer::LostLines;
use crate::telemetry::metrics::Metrics;
use crate::usage::ledger::LedgerStatus;

/// State that more than one part reads or writes.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) keys: Arc<KeyTable>,
    pub(super) feed: Arc<FeedStatus>,
    pub(super) upstreams: Vec<Arc<Upstream>>,
    pub(super) in_flight: Arc<RequestsInFlight>,
    pub(super) brake: Arc<Brake>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) drain: Drain,
    pub(super) limits: Arc<Memory>,
    pub(super) concurrency: Arc<InFlight>,
    certificates: Vec<Served>,
    store: StoreHandle,
    sizes: Arc<StoreSizes>,
}

impl Shared {
    /// Creates the state, with nothing loaded, open or counted; `certificates` are those of the
    /// listeners.
    pub(super) fn new(settings: &Settings, certificates: Vec<Served>) -> Self {
        let keys = KeyTable::new();
        keys.own_keys_begin_with(&settings.store.prefix);
        Self {
            keys: Arc::new(keys),
            feed: Arc::new(FeedStatus::new()),
            upstreams: upstreams(settings),
            in_flight: Arc::new(RequestsInFlight::shared(
                settings.listen.max_requests_in_flight,
                settings.listen.share_of_a_key(),
            )),
            brake: Arc::default(),
            metrics: Metrics::new(),
            drain: Drain::default(),
            limits: Memory::new(),
            concurrency: InFlight::for_requests(settings.listen.max_requests_in_flight),
            certificates,
            store: StoreHandle::default(),
            sizes: Arc::default(),
        }
    }

    /// Input of the control plane.
    pub(super) fn duties(&self, settings: &Settings, public_address: SocketAddr) -> Duties {
        Duties {
            settings: settings.store.clone(),
            store: self.store.clone(),
            snapshot_key: SnapshotKey::of(settings.origin.shared_secret.expose()),
            sizes: Arc::clone(&self.sizes),
            keys: Arc::clone(&self.keys),
            limits: Arc::clone(&self.limits),
            status: Arc::clone(&self.feed),
            name: name(public_address),
            listener: listener(public_address),
            certificates: self.certificates.clone(),
            upstreams: self.upstreams.clone(),
            origin_tls: settings.origin.tls.clone(),
            brake: Arc::clone(&self.brake),
        }
    }

    /// Input of the admin API; `over_tls` is whether its listener speaks TLS.
    pub(super) fn operations(&self, settings: &Settings, over_tls: bool) -> Operations {
        Operations::new(
            Arc::clone(&self.keys),
            Arc::clone(&self.feed),
            settings.store.max_staleness,
            self.upstreams.clone(),
            &settings.admin.tokens,
            settings.store.prefix.clone(),
            self.store.clone(),
        )
        .braking_by(&self.brake)
        .answering_to(settings.admin.hosts.iter().map(|host| host.0.as_str()))
        .reached(over_tls, settings.admin.public_url.as_ref())
    }

    /// Input of a metrics scrape.
    pub(super) fn metrics_page(
        &self,
        policy: &Policy,
        usage: Arc<LedgerStatus>,
        access_log: Option<Arc<LostLines>>,
    ) -> MetricsPage {
        let of_routes = policy.routes.iter().map(|route| &route.upstream);
        let certificates = self.certificates.iter();
        MetricsPage {
            metrics: Arc::clone(&self.metrics),
            keys: Arc::clone(&self.keys),
            feed: Arc::clone(&self.feed),
            upstreams: of_routes.chain(&self.upstreams).cloned().collect(),
            in_flight: Arc::clone(&self.in_flight),
            brake: Arc::clone(&self.brake),
            usage,
            sizes: Arc::clone(&self.sizes),
            certificates: certificates.map(|(served, _)| Arc::clone(served)).collect(),
            access_log,
            refused: Arc::new(Refused::default()),
        }
    }
}
