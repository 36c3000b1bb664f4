//! [`KeyTable`]: every key, in memory, for requests to look up without a lock. The change feed writes it.

mod consumer_record;
mod ending;
mod foreign;
mod key_record;
mod known_key;
mod seen;
mod shards;
mod writing;

pub use ending::ENDING_WITHIN;
pub use known_key::{KnownConsumer, KnownKey};

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use thiserror::Error;

use crate::keys::table::consumer_record::ConsumerRecord;
use crate::keys::table::ending::Ending;
use crate::keys::table::foreign::Foreign;
use crate::keys::table::key_record::KeyRecord;
use crate::keys::table::shards::Shards;
use crate::keys::table::writing::{Turn, Writer};
use crate::keys::{Consumer, ConsumerId, KeyDigest, KeyEntry, KeyId};

/// All keys by digest, and all consumers by id. Look-ups take no lock, allocate nothing and never wait for a writer;
/// writers take turns.
#[derive(Debug)]
pub struct KeyTable {
    keys: Shards<KeyRecord>,
    consumers: Shards<ConsumerRecord>,
    orphans: AtomicUsize,
    writer: Mutex<Writer>,
    loaded: AtomicBool,
    foreign: Foreign,
    ending: Ending,
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

impl Default for KeyTable {
    fn default() -> Self {
        Self::new()
    }
}

impl KeyTable {
    /// An empty table that is not loaded.
    #[must_use]
    pub fn new() -> Self {
        Self {
            keys: Shards::new(),
            consumers: Shards::new(),
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
            Some(KnownKey::new(key, self.consumers.hold(key.consumer())?))
        })?
    }

    /// Applies one change; look-ups that begin afterwards see it.
    pub fn apply(&self, change: Change) -> Result<(), UnknownConsumer> {
        Turn::take(self).apply(change)
    }

    /// Begins to load the whole table, the first time or again. A load that began before and goes on removes nothing.
    #[must_use]
    pub fn reload(&self) -> Reload<'_> {
        Reload {
            table: self,
            number: Turn::take(self).begin_load(),
        }
    }

    /// Shows every consumer, as it is at the moment of its turn. Nobody waits for it.
    ///
    /// # Errors
    /// The first of `show`, which is not asked again then.
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

    /// Shows every key, as [`each_consumer`](Self::each_consumer) does.
    ///
    /// # Errors
    /// The first of `show`, which is not asked again then.
    pub fn each_key<E>(&self, mut show: impl FnMut(KeyEntry) -> Result<(), E>) -> Result<(), E> {
        let mut outcome = Ok(());
        self.keys.for_each(|record| {
            if outcome.is_ok() && self.consumers.find(record.consumer(), |_| ()).is_some() {
                outcome = show(record.entry());
            }
        });
        outcome
    }

    /// How many keys there are, in whatever state.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len().saturating_sub(self.orphans())
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

    /// How many keys have lost their consumer, and wait to be swept out. No look-up finds them.
    fn orphans(&self) -> usize {
        self.orphans.load(Ordering::Relaxed)
    }
}

impl Reload<'_> {
    /// Takes a consumer in. Consumers come before their keys.
    pub fn consumer(&mut self, consumer: Consumer) {
        Turn::take(self.table).load_consumer(consumer);
    }

    /// Takes a key in.
    pub fn key(&mut self, entry: KeyEntry) -> Result<(), UnknownConsumer> {
        Turn::take(self.table).load_key(entry)
    }

    /// Removes what was not mentioned, and marks the table loaded.
    pub fn finish(self) {
        if Turn::take(self.table).finish_load(self.number) {
            self.table.loaded.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests;
