//! [`CustomIds`]: the consumers that have an id of the team's own system, by that id.
//!
//! An entry is 24 bytes and only says where to look: the consumer itself says whether it has the
//! id. Writers add an entry before its consumer is visible and remove it afterwards, so a look-up
//! sees each consumer under its id at every moment.

use std::hash::{BuildHasher as _, RandomState};

use crate::keys::id::PackedId;
use crate::keys::table::consumer_record::ConsumerRecord;
use crate::keys::table::found_consumer::FoundConsumer;
use crate::keys::table::shards::{Batch, Held, Key, Keyed, Shards};
use crate::keys::{BucketName, KeyTable};

/// Consumers by custom id.
#[derive(Debug)]
pub(super) struct CustomIds {
    entries: Shards<Entry>,
    seed: RandomState,
}

/// A consumer with a custom id of this hash. Several buckets may have the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    hash: u64,
    consumer: PackedId,
}

/// Result of a look-up by custom id.
#[derive(Clone, Debug)]
pub enum ByCustomId {
    /// No consumer has the id.
    Nobody,
    /// The only consumer with the id, or the only one in the buckets that were asked for.
    One(FoundConsumer),
    /// Consumers of several buckets have the id, or the plan of the only one is not there.
    Unclear,
}

impl Default for CustomIds {
    fn default() -> Self {
        Self {
            entries: Shards::new(),
            seed: RandomState::new(),
        }
    }
}

impl CustomIds {
    /// Returns the entry of a consumer; `None` if it has no custom id.
    pub(super) fn entry(&self, consumer: &ConsumerRecord) -> Option<Entry> {
        Some(Entry {
            hash: self.seed.hash_one(consumer.custom_id()?.as_str()),
            consumer: *consumer.key(),
        })
    }

    /// Adds an entry.
    pub(super) fn put(&self, entry: Entry) {
        self.entries.put(entry, |_, _| false);
    }

    /// Adds all of `batch`.
    pub(super) fn put_all(&self, batch: &mut Batch<Entry>) {
        self.entries.put_all(batch, |_, _| false);
    }

    /// Removes an entry.
    pub(super) fn remove(&self, entry: &Entry) {
        self.entries.remove(entry);
    }

    /// Removes the entries that are not those of a consumer of the table.
    pub(super) fn prune(&self, consumers: &Shards<ConsumerRecord>) {
        self.entries.retain(|entry| {
            let current = consumers.find(&entry.consumer, |record| self.entry(record));
            current.flatten().as_ref() == Some(entry)
        });
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

impl KeyTable {
    /// Finds the consumer with this custom id. Custom ids are unique in a bucket only: of several
    /// consumers it is the one in `buckets`, if there is just one. Takes no lock; allocates
    /// nothing.
    #[must_use]
    pub fn consumer_by_custom_id(&self, custom_id: &str, buckets: &[BucketName]) -> ByCustomId {
        let mut all = Only::default();
        let mut in_buckets = Only::default();
        let hash = self.custom_ids.seed.hash_one(custom_id);
        self.custom_ids.entries.for_each_of_hash(hash, |entry| {
            let Some(consumer) = self.consumers.hold(&entry.consumer) else {
                return;
            };
            if consumer
                .custom_id()
                .is_none_or(|id| id.as_str() != custom_id)
            {
                return;
            }
            if buckets.contains(&consumer.bucket) {
                in_buckets.add(consumer.clone());
            }
            all.add(consumer);
        });
        let found = match (all, in_buckets) {
            (Only::None, _) => return ByCustomId::Nobody,
            (Only::One(consumer), _) | (Only::Several, Only::One(consumer)) => consumer,
            (Only::Several, Only::None | Only::Several) => return ByCustomId::Unclear,
        };
        FoundConsumer::new(found).map_or(ByCustomId::Unclear, ByCustomId::One)
    }
}

/// The only consumer, if there is one.
#[derive(Default)]
enum Only {
    #[default]
    None,
    One(Held<ConsumerRecord>),
    Several,
}

impl Only {
    fn add(&mut self, consumer: Held<ConsumerRecord>) {
        *self = match self {
            Self::None => Self::One(consumer),
            Self::One(_) | Self::Several => Self::Several,
        };
    }
}

impl Key for Entry {
    fn hash(&self) -> u64 {
        self.hash
    }

    fn as_bytes(&self) -> &[u8] {
        self.consumer.as_bytes()
    }
}

impl Keyed for Entry {
    type Key = Self;

    fn key(&self) -> &Self {
        self
    }
}

#[cfg(test)]
mod tests;
