//! [`KnownKey`]: what a look-up finds.

use crate::keys::table::consumer_record::ConsumerRecord;
use crate::keys::table::key_record::KeyRecord;
use crate::keys::table::shards::Held;
use crate::keys::{
    BucketName, CallerAddress, ConsumerId, ConsumerName, CustomId, KeyDigest, KeyEntry, KeyId,
    KeyStatus, Metadata, Scopes, UnixMillis,
};

/// A key that the table knows, with its consumer, both as they were at the moment of the look-up.
#[derive(Clone, Debug)]
pub struct KnownKey {
    entry: KeyEntry,
    consumer: Held<ConsumerRecord>,
}

/// Whose key it is, as far as the origin may know.
#[derive(Clone, Copy, Debug)]
pub struct KnownConsumer<'k> {
    /// Its id, which never changes.
    pub id: &'k ConsumerId,
    /// The namespace that its name is unique in.
    pub bucket: &'k BucketName,
    /// Its name.
    pub name: &'k ConsumerName,
    /// The id that the team's own system gave it.
    pub custom_id: Option<&'k CustomId>,
    /// What the team wants the origin to know about it.
    pub metadata: Option<&'k Metadata>,
}

impl KnownKey {
    pub(super) fn new(record: &KeyRecord, consumer: Held<ConsumerRecord>) -> Self {
        Self {
            entry: record.entry(),
            consumer,
        }
    }

    /// What it is looked up by.
    #[must_use]
    pub fn digest(&self) -> &KeyDigest {
        &self.entry.digest
    }

    /// The key's public id.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.entry.id
    }

    /// Whose key it is.
    #[must_use]
    pub fn consumer(&self) -> KnownConsumer<'_> {
        let consumer = &self.consumer;
        KnownConsumer {
            id: &self.entry.consumer,
            bucket: &consumer.bucket,
            name: &consumer.name,
            custom_id: consumer.custom_id(),
            metadata: consumer.metadata(),
        }
    }

    /// Whether it is good at `now`, and if not, why.
    #[must_use]
    pub fn status(&self, now: UnixMillis) -> KeyStatus {
        KeyStatus::of(self.entry.state, self.entry.expires_at, now)
    }

    /// From when on it is refused; `None` is never.
    #[must_use]
    pub fn expires_at(&self) -> Option<UnixMillis> {
        self.entry.expires_at
    }

    /// Since when the key is to be replaced by another; `None` is not.
    #[must_use]
    pub fn deprecated_at(&self) -> Option<UnixMillis> {
        self.entry.deprecated_at
    }

    /// Whether the key may do what `scope` names: its consumer may, and the key was not made for less.
    #[must_use]
    pub fn allows(&self, scope: &str) -> bool {
        self.consumer.scopes.contains(scope)
            && self
                .entry
                .scopes
                .as_ref()
                .is_none_or(|own| own.contains(scope))
    }

    /// Whether the key may be used from `address`, the client's as the gateway knows it.
    #[must_use]
    pub fn allows_address(&self, address: impl Into<CallerAddress>) -> bool {
        self.consumer.allows_address(address.into())
    }

    /// Everything that [`allows`](Self::allows) says yes to. Allocates only where the key has scopes of its own.
    #[must_use]
    pub fn scopes(&self) -> Scopes {
        match &self.entry.scopes {
            None => self.consumer.scopes.clone(),
            Some(own) => own.within(&self.consumer.scopes),
        }
    }
}
