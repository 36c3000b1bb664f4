//! [`KnownKey`]: the result of a look-up.

use crate::keys::table::consumer_record::ConsumerRecord;
use crate::keys::table::key_record::KeyRecord;
use crate::keys::table::shards::Held;
use crate::keys::{
    BucketName, CallerAddress, ConsumerId, ConsumerName, CustomId, KeyDigest, KeyEntry, KeyId,
    KeyStatus, Metadata, Scopes, UnixMillis,
};

/// A key with its consumer, as of the look-up.
#[derive(Clone, Debug)]
pub struct KnownKey {
    entry: KeyEntry,
    consumer: Held<ConsumerRecord>,
}

/// The part of a consumer that the origin may know.
#[derive(Clone, Copy, Debug)]
pub struct KnownConsumer<'k> {
    /// Immutable id.
    pub id: &'k ConsumerId,
    /// Namespace of the name.
    pub bucket: &'k BucketName,
    /// Name, unique in the bucket.
    pub name: &'k ConsumerName,
    /// Id from the team's own system.
    pub custom_id: Option<&'k CustomId>,
    /// Metadata from the team for the origin.
    pub metadata: Option<&'k Metadata>,
}

impl KnownKey {
    pub(super) fn new(record: &KeyRecord, consumer: Held<ConsumerRecord>) -> Self {
        Self {
            entry: record.entry(),
            consumer,
        }
    }

    /// Returns the digest, the look-up key.
    #[must_use]
    pub fn digest(&self) -> &KeyDigest {
        &self.entry.digest
    }

    /// Returns the public id.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.entry.id
    }

    /// Returns the owner.
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

    /// Returns the status at `now`.
    #[must_use]
    pub fn status(&self, now: UnixMillis) -> KeyStatus {
        KeyStatus::of(self.entry.state, self.entry.expires_at, now)
    }

    /// Returns the expiry; `None` for a key that never expires.
    #[must_use]
    pub fn expires_at(&self) -> Option<UnixMillis> {
        self.entry.expires_at
    }

    /// Returns the start of the deprecation; `None` for a key that needs no replacement.
    #[must_use]
    pub fn deprecated_at(&self) -> Option<UnixMillis> {
        self.entry.deprecated_at
    }

    /// Returns whether both the consumer and the key have `scope`.
    #[must_use]
    pub fn allows(&self, scope: &str) -> bool {
        self.consumer.scopes.contains(scope)
            && self
                .entry
                .scopes
                .as_ref()
                .is_none_or(|own| own.contains(scope))
    }

    /// Returns whether the key may be used from `address`, the client's address as the gateway
    /// knows it.
    #[must_use]
    pub fn allows_address(&self, address: impl Into<CallerAddress>) -> bool {
        self.consumer.allows_address(address.into())
    }

    /// Returns every scope that [`allows`](Self::allows) accepts. Allocates only if the key has its
    /// own scopes.
    #[must_use]
    pub fn scopes(&self) -> Scopes {
        match &self.entry.scopes {
            None => self.consumer.scopes.clone(),
            Some(own) => own.within(&self.consumer.scopes),
        }
    }
}
