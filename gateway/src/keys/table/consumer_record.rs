//! [`ConsumerRecord`]: a consumer in the table.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::keys::id::PackedId;
use crate::keys::table::plans::PlanCell;
use crate::keys::table::seen::SeenMark;
use crate::keys::table::shards::Keyed;
use crate::keys::table::tag_text::TagText;
use crate::keys::{
    Allowance, AllowedIps, BucketName, CallerAddress, Consumer, ConsumerId, ConsumerName, CustomId,
    Metadata, Scopes, UnixMillis,
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
    pub(super) created_at: UnixMillis,
    rare: Option<Box<Rare>>,
}

/// Attributes that few consumers have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rare {
    custom_id: Option<CustomId>,
    metadata: Option<Metadata>,
    allowed_ips: AllowedIps,
    plan: Option<Arc<PlanCell>>,
    allowance: Allowance,
    tags: Option<TagText>,
}

impl ConsumerRecord {
    /// Builds the record of `consumer` with its `plan`, without keys and marked as seen by the
    /// current load.
    pub(super) fn new(consumer: Consumer, plan: Option<Arc<PlanCell>>) -> Self {
        let Consumer {
            id,
            bucket,
            name,
            custom_id,
            metadata,
            scopes,
            allowed_ips,
            plan: _,
            allowance,
            tags,
            created_at,
        } = consumer;
        let rare = Rare {
            custom_id,
            metadata,
            allowed_ips,
            plan,
            allowance,
            tags: TagText::of(&tags),
        };
        Self {
            id: id.pack(),
            seen: SeenMark::default(),
            keys: AtomicU32::new(0),
            bucket,
            name,
            scopes,
            created_at,
            rare: rare.is_said().then(|| Box::new(rare)),
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

    /// Returns the cell of the consumer's plan, if it has one.
    pub(super) fn plan(&self) -> Option<&PlanCell> {
        self.rare.as_ref()?.plan.as_deref()
    }

    /// Returns the numbers of the consumer, if it has any.
    pub(super) fn allowance(&self) -> Option<&Allowance> {
        let rare = self.rare.as_ref()?;
        (!rare.allowance.is_empty()).then_some(&rare.allowance)
    }

    /// Returns the value of a tag.
    pub(super) fn tag(&self, name: &str) -> Option<&str> {
        self.rare.as_ref()?.tags.as_ref()?.value(name)
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
            created_at,
            rare,
        } = self;
        (id, bucket, name, scopes, created_at, rare)
            == (
                &other.id,
                &other.bucket,
                &other.name,
                &other.scopes,
                &other.created_at,
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
            allowed_ips: self.of_rare(|rare| rare.allowed_ips.clone()),
            plan: self.plan().map(|cell| cell.name().clone()),
            allowance: self.of_rare(|rare| rare.allowance.clone()),
            tags: self.of_rare(|rare| rare.tags.as_ref().map(TagText::tags).unwrap_or_default()),
            created_at: self.created_at,
        }
    }

    fn of_rare<T: Default>(&self, read: impl Fn(&Rare) -> T) -> T {
        self.rare.as_deref().map(read).unwrap_or_default()
    }
}

impl Rare {
    /// Returns whether there is any attribute.
    fn is_said(&self) -> bool {
        let Self {
            custom_id,
            metadata,
            allowed_ips,
            plan,
            allowance,
            tags,
        } = self;
        custom_id.is_some()
            || metadata.is_some()
            || !allowed_ips.is_empty()
            || plan.is_some()
            || !allowance.is_empty()
            || tags.is_some()
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
            created_at,
            rare,
        } = self;
        Self {
            id: *id,
            seen: seen.clone(),
            keys: AtomicU32::new(self.keys()),
            bucket: bucket.clone(),
            name: name.clone(),
            scopes: scopes.clone(),
            created_at: *created_at,
            rare: rare.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Tags;

    #[test]
    fn a_record_stays_small() {
        assert_eq!(size_of::<ConsumerRecord>(), 80);
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
            plan: None,
            allowance: Allowance::default(),
            tags: Tags::default(),
            created_at: UnixMillis(1),
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
                ..plain.clone()
            },
            Consumer {
                allowance: Allowance {
                    rates: "burst=5/1m".parse().unwrap(),
                    quotas: "monthly=6".parse().unwrap(),
                    max_in_flight: Some("7".parse().unwrap()),
                },
                ..plain.clone()
            },
            Consumer {
                tags: Tags::new(["org=acme".parse().unwrap()]).unwrap(),
                ..plain
            },
        ] {
            let record = ConsumerRecord::new(consumer.clone(), None);
            assert_eq!(record.consumer(), consumer);
            assert_eq!(record.allowance().is_some(), !consumer.allowance.is_empty());
            assert_eq!(
                record.tag("org").is_some(),
                consumer.tags != Tags::default()
            );
            record.count_key();
            assert_eq!(
                (record.clone().consumer(), record.clone().keys()),
                (consumer, 1)
            );
        }
    }
}
