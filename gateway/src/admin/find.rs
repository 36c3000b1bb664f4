//! Look-ups of what an id names; 404 where nothing has the id.

use crate::admin::problem::{Kind, Problem};
use crate::keys::{ConsumerId, KeyId};
use crate::store::{Store, StoredConsumer, StoredKey};

/// Returns the consumer with this id.
///
/// # Errors
/// 404, or the store's error.
pub(super) async fn consumer(store: &Store, id: &ConsumerId) -> Result<StoredConsumer, Problem> {
    let found = store.consumer(id).await?;
    found.ok_or_else(|| Problem::new(Kind::NotFound, format!("There is no consumer {id}.")))
}

/// Returns the key with this id.
///
/// # Errors
/// 404, or the store's error.
pub(super) async fn key(store: &Store, id: &KeyId) -> Result<StoredKey, Problem> {
    let found = store.key(id).await?;
    found.ok_or_else(|| Problem::new(Kind::NotFound, format!("There is no key {id}.")))
}
