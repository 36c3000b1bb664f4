//! The audit of what operators do with limits, whose counts are in the memory of gateways.

use serde_json::json;

use crate::keys::{ConsumerId, KeyId};
use crate::store::connections::limited;
use crate::store::journal::{self, Action, Subject};
use crate::store::{Stamp, Store, StoreError, WRITE_LIMIT, consumers};

impl Store {
    /// Records that the limit `name`, or every one, of a consumer or of one of its keys was reset.
    ///
    /// # Errors
    /// The consumer is unknown, lacks a tag of the stamp, or the store's error.
    pub async fn record_limit_reset(
        &self,
        consumer: &ConsumerId,
        key: Option<&KeyId>,
        name: Option<&str>,
        stamp: &Stamp,
    ) -> Result<(), StoreError> {
        limited(WRITE_LIMIT, async {
            let mut transaction = self.begin_write().await?;
            consumers::guarded(&mut transaction, consumer, stamp).await?;
            let (action, subject) = match key {
                Some(key) => (Action::KeyResetLimits, Subject::Key(key)),
                None => (Action::ConsumerResetLimits, Subject::Consumer(consumer)),
            };
            let detail = json!({ "limit": name });
            journal::record(&mut transaction, stamp, action, subject, &detail).await?;
            transaction.commit_of(Some(subject.id())).await
        })
        .await
    }
}
