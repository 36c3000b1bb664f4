//! Consumers in the store.

use serde_json::json;
use sqlx::{AnyConnection, AssertSqlSafe};

use crate::keys::{BucketName, ConsumerId, ConsumerName, UnixMillis};
use crate::store::attributes::replace;
use crate::store::columns::{self, columns, of_row};
use crate::store::connections::limited;
use crate::store::journal::{self, Action, Subject};
use crate::store::rows::select_consumer;
use crate::store::{
    ConsumerAttributes, ConsumerEdit, Stamp, Store, StoreError, StoredConsumer, WRITE_LIMIT,
    buckets, bulk, plans,
};

/// A consumer to create.
#[derive(Clone, Debug)]
pub struct NewConsumer {
    /// Namespace.
    pub bucket: BucketName,
    /// Name, unique in the bucket.
    pub name: ConsumerName,
    /// Attributes.
    pub attributes: ConsumerAttributes,
}

/// Mutable columns of `consumers`.
struct Changed {
    name: ConsumerName,
    attributes: ConsumerAttributes,
    updated_at: UnixMillis,
}

columns!(Changed {
    name,
    attributes,
    updated_at
});

impl NewConsumer {
    /// Returns a consumer of the default bucket without attributes.
    #[must_use]
    pub fn named(name: ConsumerName) -> Self {
        Self {
            bucket: BucketName::default(),
            name,
            attributes: ConsumerAttributes::default(),
        }
    }
}

impl Store {
    /// Creates a consumer.
    pub async fn create_consumer(
        &self,
        new: NewConsumer,
        stamp: &Stamp,
    ) -> Result<StoredConsumer, StoreError> {
        limited(WRITE_LIMIT, async {
            let mut transaction = self.begin_write().await?;
            let created = insert(&mut transaction, new, stamp).await?;
            transaction.commit_of(Some(created.id.as_str())).await?;
            Ok(created)
        })
        .await
    }

    /// Changes a consumer, effective for all its keys. An edit without effect writes nothing.
    pub async fn update_consumer(
        &self,
        id: &ConsumerId,
        mut edit: ConsumerEdit,
        stamp: &Stamp,
    ) -> Result<StoredConsumer, StoreError> {
        limited(WRITE_LIMIT, async {
            let mut transaction = self.begin_write().await?;
            let before = guarded(&mut transaction, id, stamp).await?;
            let mut after = before.clone();
            let is_renamed = replace(&mut after.name, edit.name.take());
            let mut changed = edit.apply(&mut after.attributes);
            if is_renamed {
                changed.insert(0, "name");
            }
            if changed.is_empty() {
                return Ok(before);
            }
            if changed.contains(&"plan") {
                plans::of(&mut transaction, after.attributes.plan.as_ref()).await?;
            }
            after.updated_at = stamp.at;
            update(&mut transaction, &after).await?;
            let detail = json!({ "changed": changed });
            journal::record(
                &mut transaction,
                stamp,
                Action::ConsumerUpdate,
                Subject::Consumer(id),
                &detail,
            )
            .await?;
            transaction.commit_of(Some(id.as_str())).await?;
            Ok(after)
        })
        .await
    }

    /// Deletes a consumer and all its keys; returns the number of keys.
    pub async fn delete_consumer(&self, id: &ConsumerId, stamp: &Stamp) -> Result<u64, StoreError> {
        limited(WRITE_LIMIT, async {
        let mut transaction = self.begin_write().await?;
        let gone = guarded(&mut transaction, id, stamp).await?;
        let keys = sqlx::query("DELETE FROM keys WHERE consumer_id = $1")
            .bind(id.as_str())
            .execute(&mut *transaction)
            .await?;
        sqlx::query("DELETE FROM consumers WHERE id = $1")
            .bind(id.as_str())
            .execute(&mut *transaction)
            .await?;
        let detail = json!({
            "name": gone.name.as_str(), "bucket": gone.bucket.as_str(), "keys": keys.rows_affected(),
        });
        journal::record(
            &mut transaction,
            stamp,
            Action::ConsumerDelete,
            Subject::Consumer(id),
            &detail,
        )
        .await?;
        transaction.commit_of(Some(id.as_str())).await?;
        Ok(keys.rows_affected())
}).await
    }

    /// Finds a consumer by its id.
    pub async fn consumer(&self, id: &ConsumerId) -> Result<Option<StoredConsumer>, StoreError> {
        by_id(&mut *self.pool.acquire().await?, id).await
    }

    /// Finds a consumer by its name.
    pub async fn consumer_named(
        &self,
        bucket: &BucketName,
        name: &ConsumerName,
    ) -> Result<Option<StoredConsumer>, StoreError> {
        by_name(&mut *self.pool.acquire().await?, bucket, name).await
    }

    /// Returns at most `limit` consumers of a bucket after the name `after`, sorted by name.
    pub async fn consumers(
        &self,
        bucket: &BucketName,
        after: Option<&ConsumerName>,
        limit: u32,
    ) -> Result<Vec<StoredConsumer>, StoreError> {
        let _turn = self.scan().await?;
        let rows = sqlx::query(AssertSqlSafe(select_consumer(
            "WHERE c.bucket = $1 AND c.name > $2 ORDER BY c.name LIMIT $3",
        )))
        .bind(bucket.as_str())
        .bind(after.map_or("", ConsumerName::as_str))
        .bind(i64::from(limit))
        .fetch_all(&self.scans)
        .await?;
        rows.iter().map(of_row).collect()
    }
}

pub(super) async fn by_id(
    connection: &mut AnyConnection,
    id: &ConsumerId,
) -> Result<Option<StoredConsumer>, StoreError> {
    let row = sqlx::query(AssertSqlSafe(select_consumer("WHERE c.id = $1")))
        .bind(id.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(of_row).transpose()
}

/// Loads the consumer of a change and verifies its tag precondition. Runs inside the transaction of
/// the change, so the tags cannot change in between.
pub(super) async fn guarded(
    connection: &mut AnyConnection,
    id: &ConsumerId,
    stamp: &Stamp,
) -> Result<StoredConsumer, StoreError> {
    let consumer = by_id(connection, id).await?.ok_or_else(|| unknown(id))?;
    if consumer.attributes.tags.include(&stamp.guard) {
        Ok(consumer)
    } else {
        Err(StoreError::TagMismatch)
    }
}

pub(super) async fn by_name(
    connection: &mut AnyConnection,
    bucket: &BucketName,
    name: &ConsumerName,
) -> Result<Option<StoredConsumer>, StoreError> {
    let row = sqlx::query(AssertSqlSafe(select_consumer(
        "WHERE c.bucket = $1 AND c.name = $2",
    )))
    .bind(bucket.as_str())
    .bind(name.as_str())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(of_row).transpose()
}

pub(super) fn unknown(id: &ConsumerId) -> StoreError {
    StoreError::UnknownConsumer {
        wanted: id.to_string(),
    }
}

pub(super) async fn insert(
    transaction: &mut AnyConnection,
    new: NewConsumer,
    stamp: &Stamp,
) -> Result<StoredConsumer, StoreError> {
    let NewConsumer {
        bucket,
        name,
        attributes,
    } = new;
    buckets::require(transaction, &bucket).await?;
    plans::of(transaction, attributes.plan.as_ref()).await?;
    let created = StoredConsumer {
        id: ConsumerId::generate()?,
        bucket,
        name,
        attributes,
        created_at: stamp.at,
        updated_at: stamp.at,
    };
    bulk::insert_all(transaction, "consumers", std::slice::from_ref(&created)).await?;
    let detail = json!({
        "name": created.name.as_str(), "bucket": created.bucket.as_str(), "scopes": created.attributes.scopes,
    });
    journal::record(
        transaction,
        stamp,
        Action::ConsumerCreate,
        Subject::Consumer(&created.id),
        &detail,
    )
    .await?;
    Ok(created)
}

async fn update(transaction: &mut AnyConnection, after: &StoredConsumer) -> Result<(), StoreError> {
    let changed = Changed {
        name: after.name.clone(),
        attributes: after.attributes.clone(),
        updated_at: after.updated_at,
    };
    let query = sqlx::query(AssertSqlSafe(columns::update::<Changed>("consumers")));
    columns::bind(query.bind(after.id.as_str()), &changed)
        .execute(transaction)
        .await?;
    Ok(())
}
