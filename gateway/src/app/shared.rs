//! State that the planes and the admin API share, created once per process.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::admin::metrics::MetricsPage;
use crate::admin::{Operations, Refused};
use crate::app::listener::{listener, name};
use crate::config::settings::Settings;
use crate::control::Duties;
use crate::front::certificates::Certificates;
use crate::front::drain::Drain;
use crate::keys::KeyTable;
use crate::limits::Memory;
use crate::limits::brake::Brake;
use crate::limits::fleet::CountExchange;
use crate::pipeline::Policy;
use crate::pipeline::in_flight::RequestsInFlight;
use crate::reload::{Reloads, hash};
use crate::store::snapshot::SnapshotKey;
use crate::store::{FeedStatus, StoreHandle, StoreSizes};
use crate::telemetry::log_writer::LostLines;
use crate::telemetry::metrics::Metrics;
use crate::usage::adoption::Adoption;
use crate::usage::ledger::LedgerStatus;

/// State that more than one part reads or writes.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) keys: Arc<KeyTable>,
    pub(super) feed: Arc<FeedStatus>,
    pub(super) policy: Arc<ArcSwap<Policy>>,
    pub(super) reloads: Arc<Reloads>,
    /// Hash of the settings in force, for other gateways and the command line.
    pub(super) config_hash: Arc<ArcSwap<String>>,
    pub(super) in_flight: Arc<RequestsInFlight>,
    pub(super) brake: Arc<Brake>,
    pub(super) adoption: Arc<Adoption>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) drain: Drain,
    pub(super) limits: Arc<Memory>,
    /// Of the public listener, then of the admin listener.
    pub(super) certificates: [Option<Arc<Certificates>>; 2],
    pub(super) snapshot_key: Arc<ArcSwap<SnapshotKey>>,
    store: StoreHandle,
    sizes: Arc<StoreSizes>,
}

impl Shared {
    /// Creates the state, with nothing loaded, open or counted; `certificates` are those of the
    /// listeners, public and admin.
    pub(super) fn new(
        settings: &Settings,
        policy: Policy,
        certificates: [Option<Arc<Certificates>>; 2],
    ) -> Self {
        let keys = KeyTable::new();
        keys.own_keys_begin_with(&settings.store.prefix);
        Self {
            keys: Arc::new(keys),
            feed: Arc::new(FeedStatus::new()),
            config_hash: Arc::new(ArcSwap::from_pointee(hash(&settings.effective))),
            reloads: Reloads::new(hash(&settings.effective), settings.effective.clone()),
            in_flight: Arc::new(RequestsInFlight::shared(
                settings.listen.max_requests_in_flight,
                settings.listen.share_of_a_key(),
            )),
            brake: Arc::default(),
            adoption: Arc::default(),
            metrics: Metrics::new(),
            drain: Drain::default(),
            limits: Arc::clone(policy.limits.memory()),
            policy: Arc::new(ArcSwap::from_pointee(policy)),
            certificates,
            snapshot_key: Arc::new(ArcSwap::from_pointee(snapshot_key(settings))),
            store: StoreHandle::default(),
            sizes: Arc::default(),
        }
    }

    /// Input of the control plane.
    pub(super) fn duties(&self, settings: &Settings, public_address: SocketAddr) -> Duties {
        Duties {
            settings: settings.store.clone(),
            store: self.store.clone(),
            snapshot_key: Arc::clone(&self.snapshot_key),
            sizes: Arc::clone(&self.sizes),
            keys: Arc::clone(&self.keys),
            limits: Arc::clone(&self.limits),
            quotas: Arc::clone(self.policy.load().quotas.memory()),
            exchange: settings.valkey.clone().map(|server| {
                let every = settings.limits.terms.sync_every;
                CountExchange::new(server, Arc::clone(&self.limits), every)
            }),
            status: Arc::clone(&self.feed),
            name: name(public_address),
            listener: listener(public_address),
            certificates: self.certificates.iter().flatten().cloned().collect(),
            policy: Arc::clone(&self.policy),
            config_hash: Arc::clone(&self.config_hash),
            generations: self.reloads.generations(),
            brake: Arc::clone(&self.brake),
        }
    }

    /// Input of the admin API; `over_tls` is whether its listener speaks TLS.
    pub(super) fn operations(&self, settings: &Settings, over_tls: bool) -> Operations {
        let policy = Arc::clone(&self.policy);
        Operations::new(
            Arc::clone(&self.keys),
            Arc::clone(&self.feed),
            settings.store.max_staleness,
            move || policy.load().upstreams.clone(),
            &settings.admin.tokens,
            settings.store.prefix.clone(),
            self.store.clone(),
        )
        .braking_by(&self.brake)
        .answering_to(settings.admin.hosts.iter().map(|host| host.0.as_str()))
        .reached(over_tls, settings.admin.public_url.as_ref())
        .reloading(Arc::clone(&self.reloads))
        .deciding_by(Arc::clone(&self.policy), &self.metrics)
    }

    /// Input of a metrics scrape.
    pub(super) fn metrics_page(
        &self,
        usage: Arc<LedgerStatus>,
        access_log: Option<Arc<LostLines>>,
    ) -> MetricsPage {
        MetricsPage {
            metrics: Arc::clone(&self.metrics),
            keys: Arc::clone(&self.keys),
            feed: Arc::clone(&self.feed),
            policy: Arc::clone(&self.policy),
            reloads: Arc::clone(&self.reloads),
            in_flight: Arc::clone(&self.in_flight),
            brake: Arc::clone(&self.brake),
            usage,
            sizes: Arc::clone(&self.sizes),
            certificates: self.certificates.iter().flatten().cloned().collect(),
            access_log,
            refused: Arc::new(Refused::default()),
        }
    }
}

/// Key of the snapshot under these settings.
pub(super) fn snapshot_key(settings: &Settings) -> SnapshotKey {
    SnapshotKey::of(settings.origin.shared_secret.expose())
}
