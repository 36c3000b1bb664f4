//! Control plane: a thread with its own runtime that keeps current whatever requests read. The data
//! plane never waits for it.

pub mod issuer_keys;
mod limit_resets;
mod presence;
mod snapshots;
mod upkeep;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use thiserror::Error;
use tokio::sync::{oneshot, watch as channel};
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

use crate::config::settings::StoreSettings;
use crate::control::issuer_keys::SavedKeys;
use crate::control::presence::{announce, announce_once, count_gateways};
use crate::control::snapshots::{restore, save};
use crate::control::upkeep::{count_ending, exchange_counts, measure, prune, sweep};
use crate::front::certificates::Certificates;
use crate::front::watch;
use crate::keys::{EntropyError, KeyTable, UnixMillis};
use crate::limits::Memory;
use crate::limits::brake::{self, Brake};
use crate::limits::fleet::CountExchange;
use crate::limits::quota::QuotaMemory;
use crate::panics::{catch_panic, supervise};
use crate::pipeline::Policy;
use crate::proxy::upstream::health::{self, Checked};
use crate::store::snapshot::SnapshotKey;
use crate::store::{
    FeedStatus, GatewayId, Presence, Store, StoreError, StoreHandle, StoreSizes, attend_unused,
    follow,
};
use crate::usage::ledger::Ledger;
use crate::usage::quota_use;

/// Delay before an unreachable store is tried again: the first, and the longest.
const RETRY_DELAY: Duration = Duration::from_millis(250);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);
/// Timeout of the farewell to the store.
const FAREWELL: Duration = Duration::from_secs(1);

/// The control thread. [`stop`](Self::stop) ends it; dropping this leaves it running until the
/// process ends.
pub struct ControlPlane {
    stop: channel::Sender<()>,
    thread: JoinHandle<()>,
}

/// The control plane did not start.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The store can be opened neither now nor later.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system has no randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The system has no thread left.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Input of the control plane.
pub struct Duties {
    /// Store settings.
    pub settings: StoreSettings,
    /// Receives the store once it is open.
    pub store: StoreHandle,
    /// Key that authenticates the snapshot; follows the shared secret.
    pub snapshot_key: Arc<ArcSwap<SnapshotKey>>,
    /// Row counts of the store.
    pub sizes: Arc<StoreSizes>,
    /// Table that follows the store.
    pub keys: Arc<KeyTable>,
    /// Cells of the limits.
    pub limits: Arc<Memory>,
    /// Cells of the quotas.
    pub quotas: Arc<QuotaMemory>,
    /// Exchange of their counts with other gateways; `None` without a server for it.
    pub exchange: Option<CountExchange>,
    /// Freshness of the table.
    pub status: Arc<FeedStatus>,
    /// Name of this gateway, for other gateways and the command line.
    pub name: String,
    /// Listener id; a predecessor with the same listener is known to be gone.
    pub listener: Option<String>,
    /// Certificates of the listeners.
    pub certificates: Vec<Arc<Certificates>>,
    /// Current policy, with the upstreams whose targets are checked.
    pub policy: Arc<ArcSwap<Policy>>,
    /// Hash of the settings in force.
    pub config_hash: Arc<ArcSwap<String>>,
    /// Reports each new policy.
    pub generations: channel::Receiver<u64>,
    /// Failures by address.
    pub brake: Arc<Brake>,
}

impl ControlPlane {
    /// Starts the thread, which also runs `ledger`. Returns once the store is open or found
    /// unreachable.
    ///
    /// # Errors
    /// The store can never be opened: not a database, a newer schema, or a wrong password.
    pub async fn start(ledger: Ledger, duties: Duties) -> Result<Self, ControlError> {
        let (stop, mut stopped) = channel::channel(());
        let presence = Presence {
            id: GatewayId::generate()?,
            name: duties.name.clone(),
            started_at: UnixMillis::now(),
            max_staleness: duties.settings.max_staleness,
            listener: duties.listener.clone(),
            config_hash: Arc::clone(&duties.config_hash),
        };
        let (tried, first_try) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    let store = duties.store.clone();
                    let id = presence.id.clone();
                    let ledger = tokio::spawn(ledger.keep(store.clone(), stopped.clone()));
                    tokio::select! {
                        done = duties.attend(presence, tried) => match done {
                            Ok(never) => match never {},
                            // The first attempt has reported the error.
                            Err(NotOpened) => return,
                        },
                        _ = stopped.changed() => {}
                    }
                    if let Some(store) = store.get() {
                        // Without the farewell, the store notices the silence instead.
                        let _ = timeout(FAREWELL, store.leave(&id)).await;
                        // The workers' last counts are written before the store closes.
                        let _ = ledger.await;
                        store.close().await;
                    }
                });
            })?;
        first_try
            .await
            .map_err(|_| io::Error::other("the control thread ended"))??;
        Ok(Self { stop, thread })
    }

    /// Stops the thread and waits for it.
    pub fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

/// The first attempt failed for good; [`ControlPlane::start`] has the reason.
struct NotOpened;

impl Duties {
    async fn attend(
        self,
        presence: Presence,
        tried: oneshot::Sender<Result<(), StoreError>>,
    ) -> Result<Infallible, NotOpened> {
        let Self {
            settings,
            store,
            snapshot_key,
            sizes,
            keys,
            limits,
            quotas,
            exchange,
            status,
            name: _,
            listener: _,
            certificates,
            policy,
            config_hash: _,
            generations,
            brake,
        } = self;
        let saved_keys = settings.snapshot.as_deref();
        let saved_keys =
            saved_keys.map(|snapshot| SavedKeys::beside(snapshot, Arc::clone(&snapshot_key)));
        // Before any request is admitted.
        issuer_keys::restore(&policy, saved_keys.as_ref());
        let certificates = join_all(certificates.into_iter().map(async |served| {
            let follow = async || watch::follow(Arc::clone(&served)).await;
            supervise("watching the certificate files", follow).await
        }));
        let certificates = async {
            // None of them ends; without any, there is nothing to watch.
            let _: Vec<Infallible> = certificates.await;
            std::future::pending::<Infallible>().await
        };
        let follow_store = async {
            let mut restored = None;
            for remark in settings.url.remarks() {
                log::info!("store.url: {remark}");
            }
            let may_start_without = || {
                restore(
                    &settings,
                    &snapshot_key.load(),
                    &keys,
                    &status,
                    &mut restored,
                )
            };
            let opened = open(&settings, tried, may_start_without).await?;
            // Before any request is admitted, and before the ledger writes: else each start would
            // give every quota anew, until the first look at the store.
            if let Err(error) = quota_use::read(&opened, &quotas, UnixMillis::now()).await {
                log::warn!("cannot read the use of quotas yet: {error}");
            }
            store.opened(opened.clone());
            // Before any request is admitted: a command that waits for all gateways has to know of
            // this one.
            let _ = catch_panic(announce_once(&opened, &presence, &status, 0, &mut true)).await;
            if let Err(error) = opened.succeed(&presence).await {
                log::warn!("cannot remove gateways that listened here before: {error}");
            }
            tokio::select! {
                never = follow(opened.clone(), Arc::clone(&keys), Arc::clone(&status), restored) => match never {},
                never = supervise("announcing this gateway", async || announce(&opened, &presence, &status, generations.clone()).await) => match never {},
                never = supervise("counting the gateways", async || count_gateways(&opened, &limits, &policy).await) => match never {},
                never = supervise("following resets of limits", async || limit_resets::follow(&opened, &policy, &status).await) => match never {},
                never = supervise("saving the snapshot", async || save(&settings, &snapshot_key, &keys, &status).await) => match never {},
                never = supervise("deleting rows beyond their retention", async || prune(&opened, settings.keep).await) => match never {},
                never = supervise("looking for unused keys", async || attend_unused(&opened, &sizes).await) => match never {},
                never = supervise("measuring the store", async || measure(&opened, &sizes).await) => match never {},
            }
        };
        let checked = || {
            let policy = policy.load();
            Checked {
                upstreams: policy.upstreams.clone(),
                tls: policy.pool.tls.clone(),
            }
        };
        let check = async || health::watch(checked, generations.clone()).await;
        let count = async || count_ending(&keys, &status).await;
        let tell = async || brake::watch(&brake).await;
        let sweep = async || sweep(&limits).await;
        let exchange = async || exchange_counts(exchange.as_ref()).await;
        let keep_issuers = async || {
            let keeping = issuer_keys::keep(&policy, generations.clone(), saved_keys.as_ref());
            LocalSet::new().run_until(keeping).await
        };
        tokio::select! {
            outcome = follow_store => outcome,
            never = supervise("watching the brake", tell) => match never {},
            never = supervise("counting keys that expire soon", count) => match never {},
            never = supervise("removing idle cells of the limits", sweep) => match never {},
            never = supervise("sharing the limits", exchange) => match never {},
            never = supervise("keeping the keys of issuers current", keep_issuers) => match never {},
            never = supervise("checking the targets of upstreams", check) => match never {},
            never = certificates => match never {},
        }
    }
}

/// Opens the store, retrying for ever once the first attempt has shown that it can work, or that
/// the gateway `may_start_without` it.
async fn open(
    settings: &StoreSettings,
    tried: oneshot::Sender<Result<(), StoreError>>,
    may_start_without: impl FnOnce() -> bool,
) -> Result<Store, NotOpened> {
    let mut may_start_without = Some(may_start_without);
    let (mut tried, mut wait, mut told) = (Some(tried), RETRY_DELAY, String::new());
    loop {
        let error = match supervise("opening the store", async || {
            Store::open(&settings.url).await
        })
        .await
        {
            Ok(store) => {
                if !told.is_empty() {
                    log::info!("the store is open");
                }
                if let Some(tried) = tried {
                    let _ = tried.send(Ok(()));
                }
                return Ok(store);
            }
            Err(error) => error,
        };
        let cause = error.to_string();
        if let Some(tried) = tried.take() {
            let may_start = may_start_without
                .take()
                .is_some_and(|may_start| may_start())
                || error.may_pass();
            if !may_start {
                let _ = tried.send(Err(error));
                return Err(NotOpened);
            }
            let _ = tried.send(Ok(()));
        }
        if cause != told {
            log::error!("cannot open the store, retrying: {cause}");
            told = cause;
        }
        sleep(wait).await;
        wait = (wait * 2).min(MAX_RETRY_DELAY);
    }
}
