//! [`WriteGuard`]: exclusive write access to the table. Its lock owns the state that only writers
//! need.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use crate::keys::id::PackedId;
use crate::keys::short_text::SharedTexts;
use crate::keys::table::consumer_record::ConsumerRecord;
use crate::keys::table::custom_ids::Entry;
use crate::keys::table::key_record::KeyRecord;
use crate::keys::table::plans::Plans;
use crate::keys::table::shards::{Batch, Keyed, Shards};
use crate::keys::table::{Change, KeyTable, UnknownConsumer};
use crate::keys::{Consumer, KeyEntry, Plan};

/// Maximum number of pending items of a load; a quarter of the table if that is more. Each batch
/// copies a shard once, and pending items occupy memory beside the ones that they replace.
const MAX_PENDING: usize = 65_536;
/// Maximum number of orphaned keys before a sweep; an eighth of the table if that is more, because
/// a sweep scans every key. Also limits the deleted consumers whose ids are kept until
/// then.
const MAX_ORPHANS: usize = 1024;

/// State that only writers need.
#[derive(Debug, Default)]
pub(super) struct Writer {
    texts: SharedTexts,
    plans: Plans,
    /// Loaded items not in the table yet.
    consumers: Batch<ConsumerRecord>,
    custom_ids: Batch<Entry>,
    keys: Batch<KeyRecord>,
    /// Deleted consumers whose keys may still wait for the sweep.
    pub(super) deleted: HashSet<PackedId>,
    /// Number of loads begun.
    loads: u64,
}

/// Exclusive write access until dropped.
#[derive(Debug)]
pub(super) struct WriteGuard<'t> {
    table: &'t KeyTable,
    writer: MutexGuard<'t, Writer>,
}

impl<'t> WriteGuard<'t> {
    /// Waits for the previous writer.
    pub(super) fn take(table: &'t KeyTable) -> Self {
        // Ignores poisoning: every step of a change leaves the writer's state consistent.
        Self {
            table,
            writer: table.writer.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Applies a change; visible to later look-ups.
    pub(super) fn apply(&mut self, change: Change) -> Result<(), UnknownConsumer> {
        self.put_pending();
        match change {
            Change::Plan(plan) => self.load_plan(plan),
            Change::PlanRemoved(name) => self.writer.plans.remove(&name),
            Change::Consumer(consumer) => {
                let record = self.consumer(consumer);
                self.put_consumer(record);
            }
            Change::ConsumerRemoved(id) => {
                if let Some(record) = self.table.consumers.remove(&id.pack()) {
                    let custom_ids = &self.table.custom_ids;
                    custom_ids
                        .entry(&record)
                        .iter()
                        .for_each(|entry| custom_ids.remove(entry));
                    self.orphan(&record);
                    if self.table.orphans().max(self.writer.deleted.len())
                        > MAX_ORPHANS.max(self.table.len() / 8)
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

    /// Adds or changes a plan.
    pub(super) fn load_plan(&mut self, mut plan: Plan) {
        plan.scopes.share(&mut self.writer.texts);
        self.writer.plans.put(plan);
    }

    /// Returns every plan.
    pub(super) fn plans(&self) -> Vec<Arc<Plan>> {
        self.writer.plans.all()
    }

    /// Adds a consumer of a load.
    pub(super) fn load_consumer(&mut self, consumer: Consumer) {
        let record = self.consumer(consumer);
        if let Some(entry) = self.table.custom_ids.entry(&record) {
            self.writer.custom_ids.push(entry);
        }
        self.writer.consumers.push(record);
        if is_full(&self.writer.consumers, &self.table.consumers) {
            self.put_consumers();
        }
    }

    /// Adds a key of a load.
    pub(super) fn load_key(&mut self, entry: KeyEntry) -> Result<(), UnknownConsumer> {
        self.put_consumers();
        let record = self.key(entry)?;
        self.writer.keys.push(record);
        if is_full(&self.writer.keys, &self.table.keys) {
            self.put_keys();
        }
        Ok(())
    }

    /// Moves the pending items of the load into the table.
    fn put_pending(&mut self) {
        self.put_consumers();
        self.put_keys();
    }

    /// Begins a load: clears every seen mark and returns the load's number.
    pub(super) fn begin_load(&mut self) -> u64 {
        self.put_pending();
        self.writer.plans.begin_load();
        self.table
            .consumers
            .for_each(|record| record.seen.set(false));
        self.table.keys.for_each(|record| record.seen.set(false));
        self.writer.loads += 1;
        self.writer.loads
    }

    /// Removes every unseen item, unless another load began after `number`.
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
            table.custom_ids.prune(&table.consumers);
            self.sweep(|record| record.seen.is_set());
            self.writer.plans.finish_load();
        }
        is_newest
    }

    /// Builds the record of `consumer` with shared attributes.
    fn consumer(&mut self, mut consumer: Consumer) -> ConsumerRecord {
        consumer.share(&mut self.writer.texts);
        let plan = consumer.plan.take();
        let plan = plan.map(|name| self.writer.plans.cell(name));
        let record = ConsumerRecord::new(consumer, plan);
        if self.writer.deleted.contains(record.key()) {
            // Former keys must not come back with their consumer.
            self.sweep(|_| true);
        }
        record
    }

    /// Builds the record of `entry` and counts it for its consumer.
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

    /// Adds or changes a consumer.
    fn put_consumer(&self, record: ConsumerRecord) {
        let (table, custom_ids) = (self.table, &self.table.custom_ids);
        let new = custom_ids.entry(&record);
        let old = table
            .consumers
            .find(record.key(), |old| custom_ids.entry(old));
        new.into_iter().for_each(|entry| custom_ids.put(entry));
        table.consumers.put(record, ConsumerRecord::replace);
        if let Some(old) = old.flatten().filter(|old| Some(*old) != new) {
            custom_ids.remove(&old);
        }
    }

    fn put_consumers(&mut self) {
        // Before the consumers, which are found by them.
        self.table.custom_ids.put_all(&mut self.writer.custom_ids);
        self.table
            .consumers
            .put_all(&mut self.writer.consumers, ConsumerRecord::replace);
    }

    fn put_keys(&mut self) {
        self.table.keys.put_all(&mut self.writer.keys, |new, old| {
            self.table.replace(new, old)
        });
    }

    /// Registers the keys of a consumer as orphans.
    fn orphan(&mut self, consumer: &ConsumerRecord) {
        if self.table.orphans() == 0 {
            // The store reported each of their keys.
            self.writer.deleted.clear();
        }
        if consumer.keys() > 0 {
            self.table
                .orphans
                .fetch_add(consumer.keys() as usize, Ordering::Relaxed);
            self.writer.deleted.insert(*consumer.key());
        }
    }

    /// Removes the orphaned keys and those that `keep` rejects.
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
    /// Returns whether `new` replaces `old`. An equal record does not: a reload mostly finds what
    /// is there and must not double the memory.
    fn replace(&self, new: &KeyRecord, old: &KeyRecord) -> bool {
        old.seen.set(true);
        self.forget(old);
        !new.has_same_content(old)
    }

    /// Uncounts a key that left the table.
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
    batch.len() >= MAX_PENDING.max(table.len() / 4)
}
