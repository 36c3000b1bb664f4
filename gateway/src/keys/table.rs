//! [`KeyTable`]: every key in memory, for lock-free look-ups by requests. The change feed writes
//! it.

mod consumer_record;
mod custom_ids;
mod ending;
mod foreign;
mod found_consumer;
mod key_record;
mod known_key;
mod plans;
mod seen;
mod shards;
mod tag_text;
mod writing;

pub use custom_ids::ByCustomId;
pub use ending::ENDING_WITHIN;
pub use found_consumer::{FoundConsumer, KnownConsumer};
pub use known_key::KnownKey;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use thiserror::Error;

use crate::keys::table::consumer_record::ConsumerRecord;
use crate::keys::table::custom_ids::CustomIds;
use crate::keys::table::ending::Ending;
use crate::keys::table::foreign::Foreign;
use crate::keys::table::key_record::KeyRecord;
use crate::keys::table::shards::Shards;
use crate::keys::table::writing::{WriteGuard, Writer};
use crate::keys::{Consumer, ConsumerId, KeyDigest, KeyEntry, KeyId, Plan, PlanName};

/// All keys by digest and all consumers by id. Look-ups take no lock, allocate nothing and never
/// wait for a writer; writers exclude each other.
#[derive(Debug)]
pub struct KeyTable {
    keys: Shards<KeyRecord>,
    consumers: Shards<ConsumerRecord>,
    custom_ids: CustomIds,
    orphans: AtomicUsize,
    writer: Mutex<Writer>,
    loaded: AtomicBool,
    foreign: Foreign,
    ending: Ending,
}

/// A change of the table, as the new state of one item. Applying it twice is harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The plan was added or changed.
    Plan(Plan),
    /// The plan was removed. Keys of consumers that still refer to it are unknown.
    PlanRemoved(PlanName),
    /// The consumer was added or changed.
    Consumer(Consumer),
    /// The consumer was removed together with its keys.
    ConsumerRemoved(ConsumerId),
    /// The key was added or changed.
    Key(KeyEntry),
    /// The key was removed.
    KeyRemoved(KeyDigest),
}

/// The consumer of a key is not in the table: changes were missed, and the table must be reloaded.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("key {key} belongs to consumer {consumer}, which is unknown")]
pub struct UnknownConsumer {
    key: KeyId,
    consumer: ConsumerId,
}

/// An incremental reload of the table during traffic. Finishing it removes every item that it did
/// not mention; dropping it early removes nothing. Additions and changes are visible by the end of
/// the reload.
#[derive(Debug)]
pub struct Reload<'t> {
    table: &'t KeyTable,
    number: u64,
}

impl Default for KeyTable {
    fn default() -> Self {
        Self::new()
    }
}

impl KeyTable {
    /// Creates an empty, unloaded table.
    #[must_use]
    pub fn new() -> Self {
        Self {
            keys: Shards::new(),
            consumers: Shards::new(),
            custom_ids: CustomIds::default(),
            orphans: AtomicUsize::new(0),
            writer: Mutex::default(),
            loaded: AtomicBool::new(false),
            foreign: Foreign::default(),
            ending: Ending::default(),
        }
    }

    /// Finds the key with this digest. Lock-free; allocates nothing.
    #[must_use]
    pub fn lookup(&self, digest: &KeyDigest) -> Option<KnownKey> {
        self.keys.find(digest, |key| {
            let consumer = FoundConsumer::new(self.consumers.hold(key.consumer())?)?;
            Some(KnownKey::new(key, consumer))
        })?
    }

    /// Applies a change; visible to later look-ups.
    pub fn apply(&self, change: Change) -> Result<(), UnknownConsumer> {
        WriteGuard::take(self).apply(change)
    }

    /// Begins a full load. An earlier load still in progress will remove nothing.
    #[must_use]
    pub fn reload(&self) -> Reload<'_> {
        Reload {
            table: self,
            number: WriteGuard::take(self).begin_load(),
        }
    }

    /// Returns every plan in its current state. Waits for a writer.
    #[must_use]
    pub fn plans(&self) -> Vec<Arc<Plan>> {
        WriteGuard::take(self).plans()
    }

    /// Calls `show` for every consumer in its current state, without blocking anyone.
    ///
    /// # Errors
    /// The first error of `show`, which ends the iteration.
    pub fn each_consumer<E>(
        &self,
        mut show: impl FnMut(Consumer) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut outcome = Ok(());
        self.consumers.for_each(|record| {
            if outcome.is_ok() {
                outcome = show(record.consumer());
            }
        });
        outcome
    }

    /// Calls `show` for every key, like [`each_consumer`](Self::each_consumer).
    ///
    /// # Errors
    /// The first error of `show`, which ends the iteration.
    pub fn each_key<E>(&self, mut show: impl FnMut(KeyEntry) -> Result<(), E>) -> Result<(), E> {
        let mut outcome = Ok(());
        self.keys.for_each(|record| {
            if outcome.is_ok() && self.consumers.find(record.consumer(), |_| ()).is_some() {
                outcome = show(record.entry());
            }
        });
        outcome
    }

    /// Returns the number of keys in any state.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len().saturating_sub(self.orphans())
    }

    /// Returns whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether a full load has finished. Before that, an unknown key may be valid.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    /// Number of keys of deleted consumers, waiting for the sweep and invisible to look-ups.
    fn orphans(&self) -> usize {
        self.orphans.load(Ordering::Relaxed)
    }
}

impl Reload<'_> {
    /// Adds a plan; must precede its consumers.
    pub fn plan(&mut self, plan: Plan) {
        WriteGuard::take(self.table).load_plan(plan);
    }

    /// Adds a consumer; must precede its keys.
    pub fn consumer(&mut self, consumer: Consumer) {
        WriteGuard::take(self.table).load_consumer(consumer);
    }

    /// Adds a key.
    pub fn key(&mut self, entry: KeyEntry) -> Result<(), UnknownConsumer> {
        WriteGuard::take(self.table).load_key(entry)
    }

    /// Removes every item not mentioned and marks the table loaded.
    pub fn finish(self) {
        if WriteGuard::take(self.table).finish_load(self.number) {
            self.table.loaded.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests;
