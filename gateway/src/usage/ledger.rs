//! The control plane's side: collects what the workers counted, and writes it to the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::keys::KeyUsage;
use crate::panics::caught;
use crate::store::{GatewayId, Store, StoreError, StoreHandle, UsageBatch};
use crate::usage::UsagePage;
use crate::usage::meter::UsageSender;

/// From one write to the next. With the meters' quarter of a second and the write itself that stays below a second.
const WRITE_EVERY: Duration = Duration::from_millis(500);
/// From a write that failed to the next one.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Rows of one transaction: other writers wait for no more than these.
const ROWS_AT_ONCE: usize = 2_000;
/// Most pairs of key and hour that wait for a store that is away, some 100 MB.
const MOST_PENDING: usize = 1_000_000;
/// How long the ledger waits for the last counts of the workers, and how long for their being written.
const LAST_COUNTS: Duration = Duration::from_secs(3);
const LAST_WRITE: Duration = Duration::from_secs(6);

/// Collects usage and writes it to the store.
///
/// A batch that the store did not take, or of which it did not say so, is sent again as it was and under its number, before
/// any other: so it is counted once.
#[derive(Debug)]
pub struct Ledger {
    pages: UnboundedReceiver<UsagePage>,
    pending: UsagePage,
    most_pending: usize,
    status: Arc<LedgerStatus>,
    failing: bool,
    /// Which run of a gateway this is; made when it writes first.
    writer: Option<String>,
    /// Batches that were made up so far.
    batches: i64,
    /// The batch that was not taken yet.
    unsent: Vec<KeyUsage>,
}

/// How the ledger is doing. Written by it, read from anywhere without a lock.
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

    /// Writes that failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Requests whose usage was dropped, because too much was waiting already.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Ledger {
    /// An empty ledger, and where meters hand over to.
    #[must_use]
    pub fn new() -> (UsageSender, Self) {
        let (sender, pages) = unbounded_channel();
        let (pending, status) = (UsagePage::default(), Arc::default());
        let ledger = Self {
            pages,
            pending,
            most_pending: MOST_PENDING,
            status,
            failing: false,
            writer: None,
            batches: 0,
            unsent: Vec::new(),
        };
        (UsageSender(sender), ledger)
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> Arc<LedgerStatus> {
        Arc::clone(&self.status)
    }

    /// Writes to `store`, once it is open, until `stopped` changes, and then what is left once every meter is gone.
    pub async fn keep(mut self, store: StoreHandle, mut stopped: watch::Receiver<()>) {
        // What was being written when it panicked is lost; what comes after is not.
        while let Err(panicked) = caught(self.attend(&store, &mut stopped)).await {
            log::error!("writing usage ended in {panicked}, and is taken up again");
            sleep(RETRY_AFTER).await;
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
                () = sleep_until(next_write), if !self.pending.is_empty() || !self.unsent.is_empty() => {
                    let begun = Instant::now();
                    let written = match store.get() {
                        Some(store) => self.write(store).await,
                        None => false,
                    };
                    next_write = if written { begun + WRITE_EVERY } else { Instant::now() + RETRY_AFTER };
                }
                _ = stopped.changed() => return,
            }
        }
    }

    async fn finish(mut self, store: Option<&Store>) {
        let deadline = Instant::now() + LAST_COUNTS;
        while let Ok(Some(page)) = timeout_at(deadline, self.pages.recv()).await {
            self.collect(page);
        }
        let deadline = Instant::now() + LAST_WRITE;
        let written = match store {
            Some(store) => timeout_at(deadline, self.write(store)).await == Ok(true),
            None => self.pending.is_empty() && self.unsent.is_empty(),
        };
        if !written {
            log::error!(
                "usage of the last seconds is lost: the store did not take it before the stop"
            );
        }
    }

    fn collect(&mut self, page: UsagePage) {
        page.into_iter().for_each(|row| self.add(&row));
        self.tell_pending(0);
    }

    fn add(&mut self, row: &KeyUsage) {
        if self.pending.len() < self.most_pending || self.pending.has(row.key, row.hour) {
            self.pending.add(row);
        } else if self
            .status
            .lost
            .fetch_add(row.counts.requests, Ordering::Relaxed)
            == 0
        {
            log::error!(
                "usage is being lost: {} pairs of key and hour are waiting for the store",
                self.most_pending
            );
        }
    }

    /// Writes all that is pending; whether the store took it. What it did not take is pending again.
    async fn write(&mut self, store: &Store) -> bool {
        if let Err(error) = self.write_all(store).await {
            self.tell_pending(0);
            self.tell_failing(&error);
            return false;
        }
        self.tell_pending(0);
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
        // Whatever is unsent has the number of the last batch.
        self.write_batch(store, &writer, 0).await?;
        let rows = std::mem::take(&mut self.pending).into_sorted();
        for (index, part) in rows.chunks(ROWS_AT_ONCE).enumerate() {
            let left = rows.get((index + 1) * ROWS_AT_ONCE..).unwrap_or_default();
            self.batches += 1;
            self.unsent = part.to_vec();
            if let Err(error) = self.write_batch(store, &writer, left.len()).await {
                left.iter().for_each(|row| self.add(row));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Goes on collecting meanwhile: the store may keep us waiting for as long as it likes, and pages must not pile up.
    async fn write_batch(
        &mut self,
        store: &Store,
        writer: &str,
        left: usize,
    ) -> Result<(), StoreError> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let (number, rows) = (self.batches, self.unsent.clone());
        let mut written = std::pin::pin!(store.add_usage(UsageBatch { writer, number }, &rows));
        let mut meters_are_there = true;
        loop {
            tokio::select! {
                biased;
                written = &mut written => {
                    if written.is_ok() {
                        self.unsent.clear();
                    }
                    return written;
                }
                page = self.pages.recv(), if meters_are_there => match page {
                    Some(page) => {
                        page.into_iter().for_each(|row| self.add(&row));
                        self.tell_pending(left);
                    }
                    None => meters_are_there = false,
                },
            }
        }
    }

    fn tell_pending(&self, being_written: usize) {
        self.status.pending.store(
            (self.pending.len() + self.unsent.len() + being_written) as u64,
            Ordering::Relaxed,
        );
    }

    fn tell_failing(&mut self, error: &StoreError) {
        self.status.failures.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(&mut self.failing, true) {
            log::warn!("usage cannot be written to the store; it adds up in memory: {error}");
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
        ledger.most_pending = 2;
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
        // A key goes on to be counted where it is there already.
        for (key, at) in [
            (keys[0], 0),
            (keys[1], 0),
            (keys[0], 1),
            (keys[2], 0),
            (keys[0], Hour::MILLIS),
        ] {
            ledger.add(&usage(key, at));
        }
        ledger.tell_pending(0);
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
