//! [`KeyTable`]: every key, in memory, for requests to look up without a lock. The change feed writes it.

mod consumers;
mod records;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;

use crate::keys::key::KeyRecord;
use crate::keys::table::consumers::Consumers;
use crate::keys::table::records::{Batch, Records, Usage};
use crate::keys::{Consumer, ConsumerId, KeyDigest, KeyEntry, KeyId, KeyState, KeyStatus, Scopes, UnixMillis};

/// How many keys of a load wait until they are put into the table together, if a quarter of those in the table is not
/// more. A shard is made anew once for all that wait, and what waits is held beside what it replaces.
const MOST_PENDING: usize = 65_536;

/// All keys by digest. Look-ups take no lock, allocate nothing and never wait for a writer; writers take turns.
#[derive(Debug)]
pub struct KeyTable {
    records: Records,
    writer: Mutex<Writer>,
    loaded: AtomicBool,
}

/// A key that the table knows, with its consumer, both as they were at one moment of the look-up.
#[derive(Clone, Debug)]
pub struct KnownKey {
    digest: KeyDigest,
    id: KeyId,
    state: KeyState,
    expires_at: Option<UnixMillis>,
    deprecated_at: Option<UnixMillis>,
    own_scopes: Option<Scopes>,
    consumer: Arc<Consumer>,
}

/// One change of the table: what something is now, not how it became so. Applying one twice does no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The consumer is new or other than before.
    Consumer(Consumer),
    /// The consumer is gone, and all its keys with it.
    ConsumerRemoved(ConsumerId),
    /// The key is new or other than before.
    Key(KeyEntry),
    /// The key is gone.
    KeyRemoved(KeyDigest),
}

/// A key came whose consumer the table does not know: changes were missed, and the table must be loaded anew.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("key {key} belongs to consumer {consumer}, which is not known here")]
pub struct UnknownConsumer {
    key: KeyId,
    consumer: ConsumerId,
}

/// A load of the whole table, piece by piece, while requests go on. What it does not mention is removed when it is
/// finished; when it is dropped before, nothing is removed. A key that is new or other than before is found at the latest
/// when the load is finished.
#[derive(Debug)]
pub struct Reload<'t> {
    table: &'t KeyTable,
    number: u64,
}

/// What only writers need.
#[derive(Debug, Default)]
struct Writer {
    consumers: Consumers,
    /// What a load has brought and the table does not have yet.
    pending: Batch,
    /// How many loads have begun.
    reloads: u64,
}

impl Default for KeyTable {
    fn default() -> Self {
        Self::new()
    }
}

impl KeyTable {
    /// An empty table that is not loaded.
    #[must_use]
    pub fn new() -> Self {
        Self { records: Records::new(), writer: Mutex::default(), loaded: AtomicBool::new(false) }
    }

    /// Finds the key with this digest. Lock-free; allocates nothing.
    #[must_use]
    pub fn lookup(&self, digest: &KeyDigest) -> Option<KnownKey> {
        self.records.find(digest, KnownKey::of)?
    }

    /// Applies one change; look-ups that begin afterwards see it.
    pub fn apply(&self, change: Change) -> Result<(), UnknownConsumer> {
        let mut writer = self.writer();
        self.put_pending(&mut writer);
        match change {
            Change::Consumer(consumer) => writer.consumers.put(consumer),
            Change::ConsumerRemoved(id) => {
                if let Some(cell) = writer.consumers.remove(&id) {
                    self.records.orphaned(&cell);
                }
            }
            Change::Key(entry) => {
                if let Some(record) = self.record_unless_known(&mut writer, entry)? {
                    self.records.put(record);
                }
            }
            Change::KeyRemoved(digest) => self.records.remove(&digest),
        }
        Ok(())
    }

    /// Begins to load the whole table, the first time or again. A load that began before and goes on removes nothing.
    #[must_use]
    pub fn reload(&self) -> Reload<'_> {
        let mut writer = self.writer();
        writer.reloads += 1;
        writer.pending = Batch::default();
        writer.consumers.forget_seen();
        self.records.for_each(|record| record.set_seen(false));
        Reload { table: self, number: writer.reloads }
    }

    /// Every consumer, as they are at this moment.
    #[must_use]
    pub fn consumers(&self) -> Vec<Arc<Consumer>> {
        self.writer().consumers.all()
    }

    /// Shows every key, as it is at the moment of its turn. Nobody waits for it.
    ///
    /// # Errors
    /// The first of `show`, which is not asked again then.
    pub fn each_key<E>(&self, mut show: impl FnMut(KeyEntry) -> Result<(), E>) -> Result<(), E> {
        let mut outcome = Ok(());
        self.records.for_each(|record| {
            if let (Ok(()), Some(entry)) = (&outcome, record.entry()) {
                outcome = show(entry);
            }
        });
        outcome
    }

    /// How many keys there are, in whatever state.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the table was ever loaded whole. Before, a key that is not found may still be good.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    /// The record of `entry`. `None` when the table has it already: loading anew mostly finds what is there, and must not
    /// cost the memory twice.
    fn record_unless_known(&self, writer: &mut Writer, mut entry: KeyEntry) -> Result<Option<KeyRecord>, UnknownConsumer> {
        if let Some(scopes) = &mut entry.scopes {
            writer.consumers.share(scopes);
        }
        let Some(cell) = writer.consumers.find(&entry.consumer) else {
            return Err(UnknownConsumer { key: entry.id, consumer: entry.consumer });
        };
        let is_known = self.records.find(&entry.digest, |record| {
            let is_same = record.says_the_same_as(&entry, cell);
            if is_same {
                record.set_seen(true);
            }
            is_same
        });
        Ok((is_known != Some(true)).then(|| KeyRecord::new(entry, Arc::clone(cell))))
    }

    /// Puts into the table what a load has brought so far.
    fn put_pending(&self, writer: &mut Writer) {
        let usage = if self.is_loaded() { Usage::Requests } else { Usage::Nobody };
        self.records.put_all(&mut writer.pending, usage);
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        // Each change leaves the writer's part whole at every step, so a panic elsewhere does not spoil it.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reload<'_> {
    /// Takes a consumer in. Consumers come before their keys.
    pub fn consumer(&mut self, consumer: Consumer) {
        self.table.writer().consumers.put(consumer);
    }

    /// Takes a key in.
    pub fn key(&mut self, entry: KeyEntry) -> Result<(), UnknownConsumer> {
        let mut writer = self.table.writer();
        if let Some(record) = self.table.record_unless_known(&mut writer, entry)? {
            writer.pending.push(record);
            if writer.pending.len() >= MOST_PENDING.max(self.table.len() / 4) {
                self.table.put_pending(&mut writer);
            }
        }
        Ok(())
    }

    /// Removes what was not mentioned, and marks the table loaded.
    pub fn finish(self) {
        let mut writer = self.table.writer();
        if writer.reloads != self.number {
            return;
        }
        self.table.put_pending(&mut writer);
        let records = &self.table.records;
        for cell in writer.consumers.remove_unseen() {
            records.orphaned(&cell);
        }
        records.retain(|record| record.is_seen() && !record.consumer.is_empty());
        self.table.loaded.store(true, Ordering::Release);
    }
}

impl KnownKey {
    /// The key as it is now; `None` when its consumer was deleted.
    fn of(record: &KeyRecord) -> Option<Self> {
        let consumer = record.consumer.current.load_full()?;
        Some(Self {
            digest: record.digest,
            id: record.id(),
            state: record.state(),
            expires_at: record.expires_at(),
            deprecated_at: record.deprecated_at(),
            own_scopes: record.own_scopes().cloned(),
            consumer,
        })
    }

    /// What it is looked up by.
    #[must_use]
    pub fn digest(&self) -> &KeyDigest {
        &self.digest
    }

    /// The key's public id.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// Whose key it is.
    #[must_use]
    pub fn consumer(&self) -> &Consumer {
        &self.consumer
    }

    /// Whether it is good at `now`, and if not, why.
    #[must_use]
    pub fn status(&self, now: UnixMillis) -> KeyStatus {
        KeyStatus::of(self.state, self.expires_at, now)
    }

    /// From when on it is refused; `None` is never.
    #[must_use]
    pub fn expires_at(&self) -> Option<UnixMillis> {
        self.expires_at
    }

    /// Since when the key is to be replaced by another; `None` is not.
    #[must_use]
    pub fn deprecated_at(&self) -> Option<UnixMillis> {
        self.deprecated_at
    }

    /// Whether the key may do what `scope` names: its consumer may, and the key was not made for less.
    #[must_use]
    pub fn allows(&self, scope: &str) -> bool {
        self.consumer.scopes.contains(scope) && self.own_scopes.as_ref().is_none_or(|own| own.contains(scope))
    }

    /// Whether the key may be used from `address`, the client's as the gateway knows it.
    #[must_use]
    pub fn allows_address(&self, address: IpAddr) -> bool {
        self.consumer.allowed_ips.contains(address)
    }

    /// Everything that [`allows`](Self::allows) says yes to. Allocates only where the key has scopes of its own.
    #[must_use]
    pub fn scopes(&self) -> Scopes {
        match &self.own_scopes {
            None => self.consumer.scopes.clone(),
            Some(own) => own.within(&self.consumer.scopes),
        }
    }
}

#[cfg(test)]
mod tests;
