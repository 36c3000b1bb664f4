//! Control-plane side: collects the workers' counts and writes them to the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::keys::adoption::{AdoptionCounts, AdoptionKey};
use crate::keys::{KeyUsage, UnixMillis};
use crate::limits::quota::{QuotaDelta, QuotaMemory};
use crate::panics::catch_panic;
use crate::store::{GatewayId, Store, StoreError, StoreHandle, UsageBatch};
use crate::usage::UsagePage;
use crate::usage::adoption::Adoption;
use crate::usage::meter::UsageSender;
use crate::usage::quota_use;

/// Interval between writes. With the meters' quarter of a second and the write itself, the delay
/// stays below a second.
const WRITE_INTERVAL: Duration = Duration::from_millis(500);
/// Delay after a failed write.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Rows per transaction, which bounds the waiting time of other writers.
const ROWS_PER_TRANSACTION: usize = 2_000;
/// Maximum of pairs of key and hour that wait for an unreachable store, about 100 MB.
const MAX_PENDING: usize = 1_000_000;
/// Interval between removals of what quotas need no more.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);
/// Timeout for the workers' last counts, and again for writing them.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
const LAST_WRITE: Duration = Duration::from_secs(6);

/// Collects usage and writes it to the store.
///
/// A batch that the store refused or did not confirm is sent again, unchanged, under its number and
/// before any other: so it is counted once.
#[derive(Debug)]
pub struct Ledger {
    pages: UnboundedReceiver<UsagePage>,
    pending: UsagePage,
    max_pending: usize,
    status: Arc<LedgerStatus>,
    failing: bool,
    /// Id of this run of the gateway, made at the first write.
    writer: Option<String>,
    /// Number of batches so far.
    batches: i64,
    /// Batch not yet confirmed.
    unsent: Arc<Batch>,
    quotas: Arc<QuotaMemory>,
    adoption: Arc<Adoption>,
    next_sweep: Instant,
}

/// Counts that are written together.
#[derive(Debug, Default)]
struct Batch {
    usage: Vec<KeyUsage>,
    quotas: Vec<QuotaDelta>,
    adoption: Vec<(AdoptionKey, AdoptionCounts)>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.usage.is_empty() && self.quotas.is_empty() && self.adoption.is_empty()
    }
}

/// State of the ledger, written by it and readable anywhere without a lock.
#[derive(Debug, Default)]
pub struct LedgerStatus {
    pending: AtomicU64,
    failures: AtomicU64,
    lost: AtomicU64,
}

impl LedgerStatus {
    /// Pairs of key and hour that wait to be written.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.pending.load(Ordering::Relaxed)
    }

    /// Number of failed writes.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Requests whose usage was dropped because too much was waiting.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Ledger {
    /// Creates an empty ledger and the sender for its meters.
    #[must_use]
    pub fn new() -> (UsageSender, Self) {
        Self::keeping(Arc::default(), Arc::default())
    }

    /// Creates a ledger that keeps `quotas` too, and writes what `adoption` counts.
    #[must_use]
    pub fn keeping(quotas: Arc<QuotaMemory>, adoption: Arc<Adoption>) -> (UsageSender, Self) {
        let (sender, pages) = unbounded_channel();
        let (pending, status) = (UsagePage::default(), Arc::default());
        let ledger = Self {
            pages,
            pending,
            max_pending: MAX_PENDING,
            status,
            failing: false,
            writer: None,
            batches: 0,
            unsent: Arc::default(),
            quotas,
            adoption,
            next_sweep: Instant::now(),
        };
        (UsageSender(sender), ledger)
    }

    /// State of the ledger.
    #[must_use]
    pub fn status(&self) -> Arc<LedgerStatus> {
        Arc::clone(&self.status)
    }

    /// Writes to `store`, once open, until `stopped` changes; then writes the rest once every meter
    /// is dropped.
    pub async fn keep(mut self, store: StoreHandle, mut stopped: watch::Receiver<()>) {
        // A panic loses the batch being written and nothing that follows.
        while let Err(panicked) = catch_panic(self.attend(&store, &mut stopped)).await {
            log::error!("writing usage ended in {panicked} and restarts");
            sleep(RETRY_DELAY).await;
        }
        self.finish(store.get()).await;
    }

    async fn attend(&mut self, store: &StoreHandle, stopped: &mut watch::Receiver<()>) {
        let mut next_write = Instant::now();
        loop {
            tokio::select! {
                page = self.pages.recv() => match page {
                    Some(page) => self.collect(page),
                    None => return,
                },
                () = self.adoption.news() => {}
                // Also without usage: other gateways and operators change quotas.
                () = sleep_until(next_write), if self.has_work() => {
                    let begun = Instant::now();
                    let written = match store.get() {
                        Some(store) => self.write(store).await,
                        None => false,
                    };
                    next_write = if written { begun + WRITE_INTERVAL } else { Instant::now() + RETRY_DELAY };
                }
                _ = stopped.changed() => return,
            }
        }
    }

    fn has_work(&self) -> bool {
        !self.pending.is_empty()
            || !self.unsent.is_empty()
            || self.quotas.is_used()
            || self.adoption.is_changed()
    }

    async fn finish(mut self, store: Option<&Store>) {
        let deadline = Instant::now() + SHUTDOWN_TIMEOUT;
        while let Ok(Some(page)) = timeout_at(deadline, self.pages.recv()).await {
            self.collect(page);
        }
        let deadline = Instant::now() + LAST_WRITE;
        let written = match store {
            Some(store) => timeout_at(deadline, self.write(store)).await == Ok(true),
            None => {
                self.pending.is_empty()
                    && self.unsent.is_empty()
                    && self.quotas.take_deltas(1).is_empty()
                    && !self.adoption.is_changed()
            }
        };
        if !written {
            log::error!(
                "usage of the last seconds is lost: the store did not take it before the stop"
            );
        }
    }

    fn collect(&mut self, page: UsagePage) {
        page.into_iter().for_each(|row| self.add(&row));
        self.publish_pending(0);
    }

    fn add(&mut self, row: &KeyUsage) {
        if self.pending.len() < self.max_pending || self.pending.has(row.key, row.hour) {
            self.pending.add(row);
        } else if self
            .status
            .lost
            .fetch_add(row.counts.requests, Ordering::Relaxed)
            == 0
        {
            log::error!(
                "dropping usage: {} pairs of key and hour are waiting for the store",
                self.max_pending
            );
        }
    }

    /// Writes all pending usage and returns whether the store took it. Usage that it refused is
    /// pending again.
    async fn write(&mut self, store: &Store) -> bool {
        if let Err(error) = self.write_all(store).await {
            self.publish_pending(0);
            self.report_failure(&error);
            return false;
        }
        self.publish_pending(0);
        if std::mem::take(&mut self.failing) {
            log::info!("usage is written to the store again");
        }
        true
    }

    async fn write_all(&mut self, store: &Store) -> Result<(), StoreError> {
        let writer = match &self.writer {
            Some(writer) => writer.clone(),
            None => self
                .writer
                .insert(GatewayId::generate()?.to_string())
                .clone(),
        };
        // The unsent batch has the last number.
        self.write_batch(store, &writer, 0).await?;
        let rows = std::mem::take(&mut self.pending).into_sorted();
        let mut parts = rows.chunks(ROWS_PER_TRANSACTION);
        let mut written = 0;
        loop {
            let part = parts.next().unwrap_or_default();
            let quotas = self.quotas.take_deltas(ROWS_PER_TRANSACTION);
            let adoption = self.adoption.take(ROWS_PER_TRANSACTION);
            if part.is_empty() && quotas.is_empty() && adoption.is_empty() {
                break;
            }
            written += part.len();
            let left = rows.get(written..).unwrap_or_default();
            self.batches += 1;
            self.unsent = Arc::new(Batch {
                usage: part.to_vec(),
                quotas,
                adoption,
            });
            if let Err(error) = self.write_batch(store, &writer, left.len()).await {
                left.iter().for_each(|row| self.add(row));
                return Err(error);
            }
        }
        self.read_quotas(store).await
    }

    /// Reads what other gateways and operators changed. Every batch is confirmed.
    async fn read_quotas(&mut self, store: &Store) -> Result<(), StoreError> {
        let now = UnixMillis::now();
        quota_use::read(store, &self.quotas, now).await?;
        if Instant::now() >= self.next_sweep {
            self.next_sweep = Instant::now() + SWEEP_INTERVAL;
            self.quotas.sweep(now);
        }
        Ok(())
    }

    /// Collects while it writes: the store may be slow, and pages must not pile up.
    async fn write_batch(
        &mut self,
        store: &Store,
        writer: &str,
        left: usize,
    ) -> Result<(), StoreError> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let (number, batch) = (self.batches, Arc::clone(&self.unsent));
        let counted = UsageBatch { writer, number };
        let (usage, quotas, adoption) = (&batch.usage, &batch.quotas, &batch.adoption);
        let written = store.add_counts(counted, usage, quotas, adoption);
        let mut written = std::pin::pin!(written);
        let mut meters_are_there = true;
        loop {
            tokio::select! {
                biased;
                written = &mut written => {
                    if written.is_ok() {
                        self.quotas.confirm(&batch.quotas);
                        self.unsent = Arc::default();
                    }
                    return written;
                }
                page = self.pages.recv(), if meters_are_there => match page {
                    Some(page) => {
                        page.into_iter().for_each(|row| self.add(&row));
                        self.publish_pending(left);
                    }
                    None => meters_are_there = false,
                },
            }
        }
    }

    fn publish_pending(&self, being_written: usize) {
        self.status.pending.store(
            (self.pending.len() + self.unsent.usage.len() + being_written) as u64,
            Ordering::Relaxed,
        );
    }

    fn report_failure(&mut self, error: &StoreError) {
        self.status.failures.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(&mut self.failing, true) {
            log::warn!("cannot write usage to the store, accumulating it in memory: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Hour, KeyId, UnixMillis, UsageCounts};

    #[test]
    fn what_waits_for_the_store_is_bounded_and_what_is_dropped_is_counted() {
        let (_sender, mut ledger) = Ledger::new();
        ledger.max_pending = 2;
        let keys = [(); 3].map(|()| KeyId::generate().unwrap());
        let usage = |key, at| KeyUsage {
            key,
            hour: Hour::of(UnixMillis(at)),
            counts: UsageCounts {
                requests: 5,
                ..UsageCounts::default()
            },
            last_used_at: None,
        };
        // A key that is present already continues to be counted.
        for (key, at) in [
            (keys[0], 0),
            (keys[1], 0),
            (keys[0], 1),
            (keys[2], 0),
            (keys[0], Hour::MILLIS),
        ] {
            ledger.add(&usage(key, at));
        }
        ledger.publish_pending(0);
        let status = ledger.status();
        assert_eq!((status.pending(), status.lost()), (2, 10));
        let requests: u64 = ledger
            .pending
            .into_sorted()
            .iter()
            .map(|row| row.counts.requests)
            .sum();
        assert_eq!(requests, 15);
    }
}
