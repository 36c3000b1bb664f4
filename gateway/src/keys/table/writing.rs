//! [`Turn`]: one writer's turn at the table. What only writers need is behind the lock that gives it.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use crate::keys::id::PackedId;
use crate::keys::short_text::SharedTexts;
use crate::keys::table::consumer_record::ConsumerRecord;
use crate::keys::table::key_record::KeyRecord;
use crate::keys::table::shards::{Batch, Keyed, Shards};
use crate::keys::table::{Change, KeyTable, UnknownConsumer};
use crate::keys::{Consumer, KeyEntry};

/// How many things of a load wait until they are put into the table together, if a quarter of those in the table is not
/// more. A shard is made anew once for all that wait, and what waits is held beside what it replaces.
const MOST_PENDING: usize = 65_536;
/// Keys of deleted consumers are swept out once there are this many, or an eighth of all: one sweep looks at every key. The
/// same for the consumers themselves, whose ids are kept until then.
const MOST_ORPHANS: usize = 1024;

/// What only writers need.
#[derive(Debug, Default)]
pub(super) struct Writer {
    texts: SharedTexts,
    /// What a load has brought and the table does not have yet.
    consumers: Batch<ConsumerRecord>,
    keys: Batch<KeyRecord>,
    /// Consumers that were deleted while the table had keys of theirs, some of which may wait to be swept out.
    pub(super) deleted: HashSet<PackedId>,
    /// How many loads have begun.
    loads: u64,
}

/// The right to write, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'t> {
    table: &'t KeyTable,
    writer: MutexGuard<'t, Writer>,
}

impl<'t> Turn<'t> {
    /// Waits for the writer before.
    pub(super) fn take(table: &'t KeyTable) -> Self {
        // Each change leaves the writer's part whole at every step, so a panic elsewhere does not spoil it.
        Self {
            table,
            writer: table.writer.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Has look-ups that begin afterwards see a change.
    pub(super) fn apply(&mut self, change: Change) -> Result<(), UnknownConsumer> {
        self.put_pending();
        match change {
            Change::Consumer(consumer) => {
                let record = self.consumer(consumer);
                self.table.consumers.put(record, ConsumerRecord::replace);
            }
            Change::ConsumerRemoved(id) => {
                if let Some(record) = self.table.consumers.remove(&id.pack()) {
                    self.orphan(&record);
                    if self.table.orphans().max(self.writer.deleted.len())
                        > MOST_ORPHANS.max(self.table.len() / 8)
                    {
                        self.sweep(|_| true);
                    }
                }
            }
            Change::Key(entry) => {
                let record = self.key(entry)?;
                self.table
                    .keys
                    .put(record, |new, old| self.table.replace(new, old));
            }
            Change::KeyRemoved(digest) => {
                if let Some(record) = self.table.keys.remove(&digest) {
                    self.table.forget(&record);
                }
            }
        }
        Ok(())
    }

    /// Takes a consumer of a load in.
    pub(super) fn load_consumer(&mut self, consumer: Consumer) {
        let record = self.consumer(consumer);
        self.writer.consumers.push(record);
        if is_full(&self.writer.consumers, &self.table.consumers) {
            self.put_consumers();
        }
    }

    /// Takes a key of a load in.
    pub(super) fn load_key(&mut self, entry: KeyEntry) -> Result<(), UnknownConsumer> {
        self.put_consumers();
        let record = self.key(entry)?;
        self.writer.keys.push(record);
        if is_full(&self.writer.keys, &self.table.keys) {
            self.put_keys();
        }
        Ok(())
    }

    /// Puts into the table what a load has brought so far.
    fn put_pending(&mut self) {
        self.put_consumers();
        self.put_keys();
    }

    /// Begins a load: nothing counts as seen any more. Returns its number.
    pub(super) fn begin_load(&mut self) -> u64 {
        self.put_pending();
        self.table
            .consumers
            .for_each(|record| record.seen.set(false));
        self.table.keys.for_each(|record| record.seen.set(false));
        self.writer.loads += 1;
        self.writer.loads
    }

    /// Removes everything that was not seen, if no other load began since the one with this number.
    pub(super) fn finish_load(&mut self, number: u64) -> bool {
        let is_newest = self.writer.loads == number;
        if is_newest {
            let table = self.table;
            self.put_pending();
            table.consumers.retain(|record| {
                if !record.seen.is_set() {
                    self.orphan(record);
                }
                record.seen.is_set()
            });
            self.sweep(|record| record.seen.is_set());
        }
        is_newest
    }

    /// The record of `consumer`, which shares with others what they have in common.
    fn consumer(&mut self, mut consumer: Consumer) -> ConsumerRecord {
        consumer.share(&mut self.writer.texts);
        let record = ConsumerRecord::new(consumer);
        if self.writer.deleted.contains(record.key()) {
            // What is left of its former keys must not come back with it.
            self.sweep(|_| true);
        }
        record
    }

    /// The record of `entry`, which counts as its consumer's from now on.
    fn key(&mut self, mut entry: KeyEntry) -> Result<KeyRecord, UnknownConsumer> {
        if let Some(scopes) = &mut entry.scopes {
            scopes.share(&mut self.writer.texts);
        }
        let unknown = UnknownConsumer {
            key: entry.id,
            consumer: entry.consumer,
        };
        let record = KeyRecord::new(entry);
        self.table
            .consumers
            .find(record.consumer(), ConsumerRecord::count_key)
            .map(|()| record)
            .ok_or(unknown)
    }

    fn put_consumers(&mut self) {
        self.table
            .consumers
            .put_all(&mut self.writer.consumers, ConsumerRecord::replace);
    }

    fn put_keys(&mut self) {
        self.table.keys.put_all(&mut self.writer.keys, |new, old| {
            self.table.replace(new, old)
        });
    }

    /// Takes notice that the keys of a consumer have lost it.
    fn orphan(&mut self, consumer: &ConsumerRecord) {
        if self.table.orphans() == 0 {
            // The store told of each of their keys.
            self.writer.deleted.clear();
        }
        if consumer.keys() > 0 {
            self.table
                .orphans
                .fetch_add(consumer.keys() as usize, Ordering::Relaxed);
            self.writer.deleted.insert(*consumer.key());
        }
    }

    /// Removes the keys that have no consumer any more, and those for which `keep` says no.
    fn sweep(&mut self, keep: impl Fn(&KeyRecord) -> bool) {
        let deleted = std::mem::take(&mut self.writer.deleted);
        self.table.keys.retain(|record| {
            let is_kept = keep(record) && !deleted.contains(record.consumer());
            if !is_kept {
                self.table.forget(record);
            }
            is_kept
        });
    }
}

impl KeyTable {
    /// Whether `new` takes the place of `old`. Not if it says the same: loading anew mostly finds what is there, and must
    /// not cost the memory twice.
    fn replace(&self, new: &KeyRecord, old: &KeyRecord) -> bool {
        old.seen.set(true);
        self.forget(old);
        !new.says_the_same_as(old)
    }

    /// Counts a key out that is in the table no more.
    fn forget(&self, key: &KeyRecord) {
        let consumer = self
            .consumers
            .find(key.consumer(), ConsumerRecord::forget_key);
        if consumer.is_none() {
            self.orphans.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn is_full<T: Keyed>(batch: &Batch<T>, table: &Shards<T>) -> bool {
    batch.len() >= MOST_PENDING.max(table.len() / 4)
}
