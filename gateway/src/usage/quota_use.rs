//! Reads from the store what all gateways and operators did to the use of quotas.

use crate::keys::UnixMillis;
use crate::limits::quota::QuotaMemory;
use crate::store::{Store, StoreError};

/// Brings `memory` up to what `store` has at `now`. One caller at a time, and not while a batch of
/// it is unconfirmed.
pub async fn read(store: &Store, memory: &QuotaMemory, now: UnixMillis) -> Result<(), StoreError> {
    loop {
        let changes = store.quota_changes(memory.tick(), now).await?;
        memory.learn(&changes.rows, now);
        memory.set_tick(changes.tick);
        if !changes.has_more {
            return Ok(());
        }
    }
}
