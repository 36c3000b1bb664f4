//! [`ConsumerRecord`]: a consumer in the table.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::keys::id::PackedId;
use crate::keys::table::seen::SeenMark;
use crate::keys::table::shards::Keyed;
use crate::keys::{
    AllowedIps, BucketName, CallerAddress, Consumer, ConsumerId, ConsumerName, CustomId, Metadata,
    Scopes,
};

/// A consumer in the table. Rare attributes sit behind a pointer: every key may have its own
/// consumer.
#[derive(Debug)]
pub(super) struct ConsumerRecord {
    id: PackedId,
    pub(super) seen: SeenMark,
    /// Number of keys in the table and in a pending batch. Only writers read it, one at a time.
    keys: AtomicU32,
    pub(super) bucket: BucketName,
    pub(super) name: ConsumerName,
    pub(super) scopes: Scopes,
    rare: Option<Box<Rare>>,
}

/// Attributes that few consumers have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rare {
    custom_id: Option<CustomId>,
    metadata: Option<Metadata>,
    allowed_ips: AllowedIps,
}

impl ConsumerRecord {
    /// Builds the record of `consumer`, without keys and marked as seen by the current load.
    pub(super) fn new(consumer: Consumer) -> Self {
        let Consumer {
            id,
            bucket,
            name,
            custom_id,
            metadata,
            scopes,
            allowed_ips,
        } = consumer;
        let is_rare = custom_id.is_some() || metadata.is_some() || !allowed_ips.is_empty();
        Self {
            id: id.pack(),
            seen: SeenMark::default(),
            keys: AtomicU32::new(0),
            bucket,
            name,
            scopes,
            rare: is_rare.then(|| {
                Box::new(Rare {
                    custom_id,
                    metadata,
                    allowed_ips,
                })
            }),
        }
    }

    pub(super) fn id(&self) -> ConsumerId {
        ConsumerId::unpack(self.id)
    }

    pub(super) fn custom_id(&self) -> Option<&CustomId> {
        self.rare.as_ref()?.custom_id.as_ref()
    }

    pub(super) fn metadata(&self) -> Option<&Metadata> {
        self.rare.as_ref()?.metadata.as_ref()
    }

    /// Returns whether the keys may be used from `address`.
    pub(super) fn allows_address(&self, address: CallerAddress) -> bool {
        self.rare
            .as_ref()
            .is_none_or(|rare| rare.allowed_ips.contains(address))
    }

    pub(super) fn keys(&self) -> u32 {
        self.keys.load(Ordering::Relaxed)
    }

    /// Increments the number of keys.
    pub(super) fn count_key(&self) {
        self.keys.fetch_add(1, Ordering::Relaxed);
    }

    /// Decrements the number of keys.
    pub(super) fn forget_key(&self) {
        self.keys.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns whether the record replaces `old`, and takes over its key count. An equal record
    /// does not: a reload mostly finds what is there and must not double the memory.
    pub(super) fn replace(&mut self, old: &Self) -> bool {
        old.seen.set(true);
        *self.keys.get_mut() = old.keys();
        !self.has_same_content(old)
    }

    fn has_same_content(&self, other: &Self) -> bool {
        let Self {
            id,
            seen: _,
            keys: _,
            bucket,
            name,
            scopes,
            rare,
        } = self;
        (id, bucket, name, scopes, rare)
            == (
                &other.id,
                &other.bucket,
                &other.name,
                &other.scopes,
                &other.rare,
            )
    }

    /// Rebuilds the consumer.
    pub(super) fn consumer(&self) -> Consumer {
        Consumer {
            id: self.id(),
            bucket: self.bucket.clone(),
            name: self.name.clone(),
            custom_id: self.custom_id().cloned(),
            metadata: self.metadata().cloned(),
            scopes: self.scopes.clone(),
            allowed_ips: self
                .rare
                .as_ref()
                .map(|rare| rare.allowed_ips.clone())
                .unwrap_or_default(),
        }
    }
}

impl Keyed for ConsumerRecord {
    type Key = PackedId;

    fn key(&self) -> &PackedId {
        &self.id
    }
}

impl Clone for ConsumerRecord {
    fn clone(&self) -> Self {
        let Self {
            id,
            seen,
            keys: _,
            bucket,
            name,
            scopes,
            rare,
        } = self;
        Self {
            id: *id,
            seen: seen.clone(),
            keys: AtomicU32::new(self.keys()),
            bucket: bucket.clone(),
            name: name.clone(),
            scopes: scopes.clone(),
            rare: rare.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_stays_small() {
        assert_eq!(size_of::<ConsumerRecord>(), 72);
    }

    #[test]
    fn a_record_says_what_its_consumer_said() {
        let plain = Consumer {
            id: ConsumerId::generate().unwrap(),
            bucket: "team".parse().unwrap(),
            name: "acme".parse().unwrap(),
            custom_id: None,
            metadata: None,
            scopes: "read write".parse().unwrap(),
            allowed_ips: AllowedIps::default(),
        };
        let (custom_id, metadata) = (
            Some("42".parse().unwrap()),
            Some("{\"plan\":\"gold\"}".parse().unwrap()),
        );
        for consumer in [
            plain.clone(),
            Consumer {
                custom_id,
                ..plain.clone()
            },
            Consumer {
                metadata,
                ..plain.clone()
            },
            Consumer {
                allowed_ips: "192.0.2.0/24".parse().unwrap(),
                ..plain
            },
        ] {
            let record = ConsumerRecord::new(consumer.clone());
            assert_eq!(record.consumer(), consumer);
            record.count_key();
            assert_eq!(
                (record.clone().consumer(), record.clone().keys()),
                (consumer, 1)
            );
        }
    }
}
