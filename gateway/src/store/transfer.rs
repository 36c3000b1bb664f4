//! Consumers with their keys on the way from one store, or another system, into a store.

use crate::keys::{BucketName, ConsumerId, ConsumerName, KeyDigest, KeyId, KeyState, UnixMillis};
use crate::store::{ConsumerAttributes, KeyAttributes, Rolled};

/// A consumer with one of its keys, or without any: one line of an import or an export. The key itself is nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferRow {
    /// Where it stands in the file that it comes from, from 1 on. 0 when it comes from the store.
    pub line: u64,
    /// The consumer.
    pub consumer: TransferConsumer,
    /// The key.
    pub key: Option<TransferKey>,
}

/// A consumer on its way. What is not given is left to the store, or to the consumer that is there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferConsumer {
    /// The id that it had, and is to have again.
    pub id: Option<ConsumerId>,
    /// Its namespace.
    pub bucket: BucketName,
    /// Its name, unique in its bucket.
    pub name: ConsumerName,
    /// What is said of it.
    pub attributes: ConsumerAttributes,
    /// When it was made.
    pub created_at: Option<UnixMillis>,
}

/// A key on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferKey {
    /// The id that it had, and is to have again.
    pub id: Option<KeyId>,
    /// SHA-256 of the key.
    pub digest: KeyDigest,
    /// The beginning of the key, to recognise it by.
    pub hint: String,
    /// What was done to it.
    pub state: KeyState,
    /// That it is to be replaced.
    pub rolled: Option<Rolled>,
    /// What is said of it.
    pub attributes: KeyAttributes,
    /// When it was made.
    pub created_at: Option<UnixMillis>,
    /// When it was last used.
    pub last_used_at: Option<UnixMillis>,
}

impl TransferConsumer {
    /// A consumer of which only the name is known.
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

    /// Whether it is only named, with nothing said of what it is.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        *self == Self::named(self.bucket.clone(), self.name.clone())
    }
}
