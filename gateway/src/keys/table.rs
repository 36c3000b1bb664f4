//! [`KeyTable`]: every key, in memory, for requests to look up without a lock. The change feed writes it.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use papaya::HashMap;
use thiserror::Error;

use crate::keys::digest::DigestHasher;
use crate::keys::key::{ConsumerCell, KeyRecord};
use crate::keys::{BucketName, Consumer, ConsumerId, KeyDigest, KeyEntry, KeyId, KeyStatus, Scopes, UnixMillis};

/// All keys by digest. Look-ups take no lock, allocate nothing and never wait for a writer; writers take turns.
#[derive(Debug)]
pub struct KeyTable {
    // The look-up compares whole digests with `KeyDigest`'s own equality, which takes constant time.
    keys: HashMap<KeyDigest, Arc<KeyRecord>, DigestHasher>,
    writer: Mutex<Writer>,
    loaded: AtomicBool,
}

/// A key that the table knows, with its consumer, both as they were at one moment of the look-up.
#[derive(Clone, Debug)]
pub struct KnownKey {
    record: Arc<KeyRecord>,
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
/// finished; when it is dropped before, nothing is removed.
#[derive(Debug)]
pub struct Reload<'t> {
    table: &'t KeyTable,
    generation: u32,
}

/// What only writers need.
#[derive(Debug, Default)]
struct Writer {
    consumers: HashSet<CellById>,
    /// Every bucket name once; consumers share it.
    buckets: Vec<BucketName>,
    generation: u32,
}

/// A cell found by its consumer's id, without a second copy of the id.
#[derive(Debug)]
struct CellById(Arc<ConsumerCell>);

impl Default for KeyTable {
    fn default() -> Self {
        Self::new()
    }
}

impl KeyTable {
    /// An empty table that is not loaded.
    #[must_use]
    pub fn new() -> Self {
        Self { keys: HashMap::with_hasher(DigestHasher::default()), writer: Mutex::default(), loaded: AtomicBool::new(false) }
    }

    /// Finds the key with this digest. Lock-free; allocates nothing.
    #[must_use]
    pub fn lookup(&self, digest: &KeyDigest) -> Option<KnownKey> {
        let keys = self.keys.pin();
        let record = keys.get(digest)?;
        let consumer = record.consumer.current.load_full()?;
        Some(KnownKey { record: Arc::clone(record), consumer })
    }

    /// Applies one change; look-ups that begin afterwards see it.
    pub fn apply(&self, change: Change) -> Result<(), UnknownConsumer> {
        let mut writer = self.writer();
        let generation = writer.generation;
        match change {
            Change::Consumer(consumer) => writer.put(consumer, generation),
            Change::ConsumerRemoved(id) => self.remove_consumer(&mut writer, &id),
            Change::Key(entry) => self.put(&writer, entry, generation)?,
            Change::KeyRemoved(digest) => {
                self.keys.pin().remove(&digest);
            }
        }
        Ok(())
    }

    /// Begins to load the whole table, the first time or again.
    #[must_use]
    pub fn reload(&self) -> Reload<'_> {
        let mut writer = self.writer();
        writer.generation = writer.generation.wrapping_add(1);
        Reload { table: self, generation: writer.generation }
    }

    /// How many keys there are, in whatever state.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether the table was ever loaded whole. Before, a key that is not found may still be good.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    fn put(&self, writer: &Writer, entry: KeyEntry, generation: u32) -> Result<(), UnknownConsumer> {
        let Some(CellById(cell)) = writer.consumers.get(&entry.consumer) else {
            return Err(UnknownConsumer { key: entry.id, consumer: entry.consumer });
        };
        let keys = self.keys.pin();
        match keys.get(&entry.digest) {
            // Loading a table anew mostly finds what is there already; it must not cost the memory twice.
            Some(record) if record.says_the_same_as(&entry) => record.seen_by(generation),
            _ => {
                let digest = entry.digest;
                keys.insert(digest, Arc::new(KeyRecord::new(entry, Arc::clone(cell), generation)));
            }
        }
        Ok(())
    }

    fn remove_consumer(&self, writer: &mut Writer, id: &ConsumerId) {
        if let Some(CellById(cell)) = writer.consumers.take(id) {
            // From here on no look-up finds any of its keys; what follows only frees their memory.
            cell.current.store(None);
            self.keys.pin().retain(|_, record| !Arc::ptr_eq(&record.consumer, &cell));
        }
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        // Each change leaves the writer's part whole at every step, so a panic elsewhere does not spoil it.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    fn put(&mut self, mut consumer: Consumer, generation: u32) {
        match self.buckets.iter().find(|bucket| **bucket == consumer.bucket) {
            Some(bucket) => consumer.bucket = bucket.clone(),
            None => self.buckets.push(consumer.bucket.clone()),
        }
        match self.consumers.get(&consumer.id) {
            Some(CellById(cell)) => {
                cell.generation.store(generation, Ordering::Relaxed);
                if cell.current.load().as_deref() != Some(&consumer) {
                    cell.current.store(Some(Arc::new(consumer)));
                }
            }
            None => {
                let cell = ConsumerCell {
                    id: consumer.id,
                    generation: AtomicU32::new(generation),
                    current: ArcSwapOption::from_pointee(consumer),
                };
                self.consumers.insert(CellById(Arc::new(cell)));
            }
        }
    }
}

impl Reload<'_> {
    /// Takes a consumer in. Consumers come before their keys.
    pub fn consumer(&mut self, consumer: Consumer) {
        self.table.writer().put(consumer, self.generation);
    }

    /// Takes a key in.
    pub fn key(&mut self, entry: KeyEntry) -> Result<(), UnknownConsumer> {
        let table = self.table;
        table.put(&table.writer(), entry, self.generation)
    }

    /// Removes what was not mentioned, and marks the table loaded.
    pub fn finish(self) {
        let mut writer = self.table.writer();
        let is_stale = |generation: &AtomicU32| generation.load(Ordering::Relaxed) < self.generation;
        writer.consumers.retain(|CellById(cell)| {
            let keep = !is_stale(&cell.generation);
            if !keep {
                cell.current.store(None);
            }
            keep
        });
        self.table.keys.pin().retain(|_, record| !is_stale(&record.generation));
        self.table.loaded.store(true, Ordering::Release);
    }
}

impl KnownKey {
    /// The key's public id.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.record.id
    }

    /// Whose key it is.
    #[must_use]
    pub fn consumer(&self) -> &Consumer {
        &self.consumer
    }

    /// Whether it is good at `now`, and if not, why.
    #[must_use]
    pub fn status(&self, now: UnixMillis) -> KeyStatus {
        self.record.status(now)
    }

    /// From when on it is refused; `None` is never.
    #[must_use]
    pub fn expires_at(&self) -> Option<UnixMillis> {
        self.record.expires_at()
    }

    /// Whether the key may do what `scope` names: its consumer may, and the key was not made for less.
    #[must_use]
    pub fn allows(&self, scope: &str) -> bool {
        self.consumer.scopes.contains(scope) && self.record.scopes.as_ref().is_none_or(|own| own.contains(scope))
    }

    /// Everything that [`allows`](Self::allows) says yes to. Allocates.
    #[must_use]
    pub fn scopes(&self) -> Scopes {
        match &self.record.scopes {
            None => self.consumer.scopes.clone(),
            Some(own) => own.within(&self.consumer.scopes),
        }
    }
}

impl Borrow<ConsumerId> for CellById {
    fn borrow(&self) -> &ConsumerId {
        &self.0.id
    }
}

impl Hash for CellById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl PartialEq for CellById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for CellById {}

#[cfg(test)]
mod tests;
