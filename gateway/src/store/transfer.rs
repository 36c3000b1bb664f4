//! Consumers with their keys, between two stores or from another system to a store.

use crate::keys::{BucketName, ConsumerId, ConsumerName, KeyDigest, KeyId, KeyState, UnixMillis};
use crate::store::{ConsumerAttributes, KeyAttributes, Rolled};

/// One line of an import or export: a consumer with at most one of its keys. Never contains the key
/// itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferRow {
    /// Line number in the imported file, from 1 on; 0 for rows from the store.
    pub line: u64,
    /// The consumer.
    pub consumer: TransferConsumer,
    /// The key.
    pub key: Option<TransferKey>,
}

/// A consumer to transfer. The store, or an existing consumer, supplies what is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferConsumer {
    /// Id to keep.
    pub id: Option<ConsumerId>,
    /// Namespace.
    pub bucket: BucketName,
    /// Name, unique in the bucket.
    pub name: ConsumerName,
    /// Attributes.
    pub attributes: ConsumerAttributes,
    /// Time of creation.
    pub created_at: Option<UnixMillis>,
}

/// A key to transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferKey {
    /// Id to keep.
    pub id: Option<KeyId>,
    /// SHA-256 of the key.
    pub digest: KeyDigest,
    /// First characters of the key, shown to people.
    pub hint: String,
    /// State set by an administrator.
    pub state: KeyState,
    /// Deprecation by a roll.
    pub rolled: Option<Rolled>,
    /// First key of the chain of rolls that made the key.
    pub chain: Option<KeyId>,
    /// Attributes.
    pub attributes: KeyAttributes,
    /// Time of creation.
    pub created_at: Option<UnixMillis>,
    /// Time of the last use.
    pub last_used_at: Option<UnixMillis>,
}

impl TransferConsumer {
    /// Returns a consumer with a name only.
    #[must_use]
    pub fn named(bucket: BucketName, name: ConsumerName) -> Self {
        Self {
            id: None,
            bucket,
            name,
            attributes: ConsumerAttributes::default(),
            created_at: None,
        }
    }

    /// Returns whether the consumer has nothing but its name.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        *self == Self::named(self.bucket.clone(), self.name.clone())
    }
}
