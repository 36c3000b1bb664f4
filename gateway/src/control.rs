//! Control plane: a thread with its own runtime that keeps current whatever requests read. The data
//! plane never waits for it.

pub mod issuer_keys;
mod limit_resets;

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
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::config::settings::StoreSettings;
use crate::control::issuer_keys::SavedKeys;
use crate::front::certificates::Certificates;
use crate::front::watch;
use crate::keys::{EntropyError, KeyTable, UnixMillis};
use crate::limits::brake::{self, Brake};
use crate::limits::fleet::CountExchange;
use crate::limits::quota::QuotaMemory;
use crate::limits::{Memory, UnsharedWarning};
use crate::panics::{catch_panic, supervise};
use crate::pipeline::Policy;
use crate::proxy::upstream::health::{self, Checked};
use crate::store::snapshot::{self, Origin, SnapshotKey};
use crate::store::{
    FeedStatus, GatewayId, Keep, Presence, Reached, Store, StoreError, StoreHandle, StoreSizes,
    attend_unused, follow,
};
use crate::usage::ledger::Ledger;
use crate::usage::quota_use;

/// Delay before an unreachable store is tried again: the first, and the longest.
const RETRY_DELAY: Duration = Duration::from_millis(250);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);
/// Interval of the heartbeats while nobody waits for this gateway; also its upper bound, whatever
/// the maximum table age is.
const HEARTBEAT: Duration = Duration::from_secs(5);
const MIN_HEARTBEAT: Duration = Duration::from_millis(50);
/// Interval between snapshots while the table changes, and while it does not.
const MIN_SAVE_INTERVAL: Duration = Duration::from_secs(5);
/// Shortest and longest interval between counts of the keys that expire soon.
const MIN_COUNT_INTERVAL: Duration = Duration::from_secs(1);
const MAX_COUNT_INTERVAL: Duration = Duration::from_secs(60);
const MAX_SAVE_INTERVAL: Duration = Duration::from_secs(60);
/// Interval of the retention sweep, and its first delay after the start.
const PRUNE_INTERVAL: Duration = Duration::from_hours(1);
const FIRST_PRUNE_DELAY: Duration = Duration::from_secs(1);
/// Interval between counts of the store's rows.
const MEASURE_INTERVAL: Duration = Duration::from_mins(5);
/// Delay after a failed count.
const MEASURE_RETRY_DELAY: Duration = Duration::from_secs(10);
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

/// Counts the keys that expire soon: after loading, after changes and periodically, using at most a
/// hundredth of the time.
async fn count_ending(keys: &Arc<KeyTable>, status: &FeedStatus) -> Infallible {
    let mut reached = status.reached();
    loop {
        if !keys.is_loaded() {
            sleep(MIN_COUNT_INTERVAL).await;
            continue;
        }
        reached.mark_unchanged();
        let (begun, counted) = (Instant::now(), Arc::clone(keys));
        // On a blocking thread: a million keys take a while.
        let counted =
            tokio::task::spawn_blocking(move || counted.count_ending(UnixMillis::now())).await;
        if let Err(error) = counted {
            log::warn!("cannot count the keys that expire soon: {error}");
        }
        let wait = (begun.elapsed() * 100).clamp(MIN_COUNT_INTERVAL, MAX_COUNT_INTERVAL);
        sleep(wait).await;
        let _ = timeout(MAX_COUNT_INTERVAL - wait, reached.changed()).await;
    }
}

/// Removes the cells of limits whose subjects are idle.
async fn sweep(limits: &Arc<Memory>) -> Infallible {
    loop {
        let limits = Arc::clone(limits);
        // On a blocking thread: a million cells take a while.
        let swept = tokio::task::spawn_blocking(move || limits.sweep()).await;
        sleep(swept.unwrap_or(MIN_COUNT_INTERVAL)).await;
    }
}

/// Exchanges the counts of the limits with other gateways, where there is a server for it.
async fn exchange_counts(exchange: Option<&CountExchange>) -> Infallible {
    match exchange {
        Some(exchange) => exchange.keep().await,
        None => std::future::pending().await,
    }
}

/// Tells the limits how many gateways are live. While the store is away, the last known number
/// holds. Warns once where limits that do not know of other gateways meet some.
async fn count_gateways(store: &Store, limits: &Memory, policy: &ArcSwap<Policy>) -> Infallible {
    let mut warning = UnsharedWarning::default();
    loop {
        if let Ok(gateways) = store.gateways().await {
            let live = gateways.iter().filter(|gateway| gateway.live).count();
            limits.set_live_gateways(u32::try_from(live).unwrap_or(u32::MAX));
            if warning.is_due(policy.load().limits.mode(), live) {
                log::warn!(
                    "limits.mode is \"local\" and {live} gateways are live: each allows every limit in full; \"split\" shares them"
                );
            }
        }
        sleep(HEARTBEAT).await;
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

/// Fills the table from a usable snapshot, if any.
fn restore(
    settings: &StoreSettings,
    key: &SnapshotKey,
    keys: &KeyTable,
    status: &FeedStatus,
    restored: &mut Option<Origin>,
) -> bool {
    let Some(path) = &settings.snapshot else {
        return false;
    };
    let (location, now) = (settings.url.to_string(), UnixMillis::now());
    match snapshot::restore(path, key, keys, &location, now) {
        Ok(Some(found)) => {
            let age = humantime::format_duration(Duration::from_secs(found.age.as_secs()));
            log::warn!(
                "starting with {} keys from the snapshot {}, which is {age} old",
                found.keys,
                path.display()
            );
            status.restored(found.origin.revision, found.age);
            *restored = Some(found.origin);
            true
        }
        Ok(None) => false,
        Err(error) => {
            log::warn!("the snapshot {} is not used: {error}", path.display());
            false
        }
    }
}

/// State of the snapshot file.
struct Saved {
    revision: i64,
    known_at: UnixMillis,
}

/// Whether the table has to be saved, given its revision and the time `known_at` when it last
/// matched the store. Never while the store is unreachable, so that the next start sees the true
/// age.
fn is_due(saved: Option<&Saved>, revision: i64, known_at: UnixMillis) -> bool {
    saved.is_none_or(|saved| {
        // Absolute difference: the machine's clock may have been set back.
        let between = Duration::from_millis(known_at.0.abs_diff(saved.known_at.0));
        saved.revision != revision || between >= MAX_SAVE_INTERVAL
    })
}

/// Saves the table periodically if it changed or is confirmed as current.
async fn save(
    settings: &StoreSettings,
    key: &ArcSwap<SnapshotKey>,
    keys: &Arc<KeyTable>,
    status: &FeedStatus,
) -> Infallible {
    let Some(path) = settings.snapshot.clone() else {
        return std::future::pending().await;
    };
    let (mut reached, mut saved) = (status.reached(), None::<Saved>);
    loop {
        let Reached {
            revision,
            of,
            turns,
        } = reached.borrow_and_update().clone();
        // Read before the table: the table may be newer than this time, never older.
        let known_at = status
            .known_at(UnixMillis::now())
            .filter(|known_at| is_due(saved.as_ref(), revision, *known_at));
        if let (true, Some(known_at), Some(of)) = (keys.is_loaded(), known_at, of) {
            let origin = Origin {
                store: of.store.to_string(),
                location: settings.url.to_string(),
                revision,
                mark: of.mark.to_string(),
            };
            let (to, key, keys) = (path.clone(), key.load_full(), Arc::clone(keys));
            // On a blocking thread: changes must not wait for the disk.
            match tokio::task::spawn_blocking(move || {
                snapshot::save(&to, &key, &keys, &origin, known_at)
            })
            .await
            {
                // The file may mix two histories.
                Ok(Ok(())) if reached.borrow().turns != turns => {
                    let _ = std::fs::remove_file(&path);
                    saved = None;
                }
                Ok(Ok(())) => saved = Some(Saved { revision, known_at }),
                Ok(Err(error)) => log::warn!("the snapshot cannot be saved: {error}"),
                Err(error) => log::warn!("the snapshot was not saved: {error}"),
            }
        }
        sleep(MIN_SAVE_INTERVAL).await;
        if saved
            .as_ref()
            .is_some_and(|saved| saved.revision == reached.borrow().revision)
        {
            let _ = timeout(MAX_SAVE_INTERVAL, reached.changed()).await;
        }
    }
}

/// Periodically deletes rows beyond their retention.
async fn prune(store: &Store, keep: Keep) -> Infallible {
    if keep == Keep::default() {
        return std::future::pending().await;
    }
    sleep(FIRST_PRUNE_DELAY).await;
    loop {
        match store.prune(keep).await {
            Ok((0, 0)) => {}
            Ok((audit, usage)) => {
                log::info!(
                    "deleted {audit} rows of the audit and {usage} of usage beyond their retention"
                );
            }
            Err(error) => log::warn!("cannot delete rows beyond their retention: {error}"),
        }
        sleep(PRUNE_INTERVAL).await;
    }
}

/// Periodically counts the rows of the store.
async fn measure(store: &Store, sizes: &StoreSizes) -> Infallible {
    loop {
        let wait = match store.measure(sizes).await {
            Ok(()) => MEASURE_INTERVAL,
            Err(error) => {
                log::debug!("cannot count the rows of the store: {error}");
                MEASURE_RETRY_DELAY
            }
        };
        sleep(wait).await;
    }
}

/// Periodically announces this gateway and its progress to the store: at once if somebody waits,
/// otherwise with the next heartbeat. Many gateways would otherwise write more often than all
/// administrators.
async fn announce(
    store: &Store,
    presence: &Presence,
    status: &FeedStatus,
    mut generations: channel::Receiver<u64>,
) -> Infallible {
    let (mut reached, mut awaited) = (status.reached(), status.awaited());
    let (mut succeeded, mut confirmed, mut announced_to) = (true, 0, None);
    // The silence must be noticed before the table is too old.
    let heartbeat = presence
        .max_staleness
        .map_or(HEARTBEAT, |most| (most / 3).clamp(MIN_HEARTBEAT, HEARTBEAT));
    let mut beat = Instant::now() + heartbeat;
    loop {
        let (revision, of) = position_in(&reached.borrow_and_update(), store);
        let wanted = *awaited.borrow_and_update();
        let is_waited_for = wanted > confirmed && revision >= wanted;
        // After a change of file or history, the last announcement is void.
        if !is_waited_for && of == announced_to {
            // The senders live as long as `status`.
            let is_news = tokio::select! {
                () = sleep_until(beat) => false,
                _ = reached.changed() => true,
                _ = awaited.changed() => true,
                // New settings have another hash.
                Ok(()) = generations.changed() => false,
            };
            if is_news {
                continue;
            }
        }
        let (revision, of) = position_in(&reached.borrow(), store);
        if announce_once(store, presence, status, revision, &mut succeeded).await {
            (confirmed, announced_to) = (revision, of);
        } else {
            sleep(RETRY_DELAY).await;
        }
        beat = Instant::now() + heartbeat;
    }
}

/// The table's position in the history of `store`, with the file or server that the position
/// belongs to; 0 while the table follows another one.
fn position_in(reached: &Reached, store: &Store) -> (i64, Option<(u64, u64)>) {
    let of = reached.of.as_ref().map(|of| of.generation);
    match of.filter(|generation| *generation == store.generation()) {
        Some(generation) => (reached.revision, Some((generation, reached.turns))),
        None => (0, None),
    }
}

/// Announces to the store and returns whether that succeeded; logs the first of several failures.
async fn announce_once(
    store: &Store,
    presence: &Presence,
    status: &FeedStatus,
    revision: i64,
    succeeded: &mut bool,
) -> bool {
    // Taken before the store's own time: the gateway must not trust the store for longer than
    // others do.
    let begun = std::time::Instant::now();
    match store.announce(presence, revision).await {
        Ok(()) => {
            status.announced(begun);
            *succeeded = true;
        }
        Err(error) => {
            if std::mem::replace(succeeded, false) {
                log::warn!("cannot announce this gateway to the store: {error}");
            }
        }
    }
    *succeeded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_saved_again_only_when_the_store_was_heard_of_since() {
        let saved = Saved {
            revision: 7,
            known_at: UnixMillis(1_000_000),
        };
        for (saved, revision, known_at, due) in [
            (None, 7, 1_000_000, true),
            // The store is unreachable: the last contact stays the last, however much time passes.
            (Some(&saved), 7, 1_000_000, false),
            (Some(&saved), 7, 1_000_001, false),
            (Some(&saved), 7, 1_059_999, false),
            (Some(&saved), 7, 1_060_000, true),
            (Some(&saved), 8, 1_000_000, true),
            (Some(&saved), 7, 900_000, true),
        ] {
            assert_eq!(
                is_due(saved, revision, UnixMillis(known_at)),
                due,
                "{revision} {known_at}"
            );
        }
    }
}
