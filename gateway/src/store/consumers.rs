//! Consumers in the store.

use serde_json::{Value, json};
use sqlx::AnyConnection;

use crate::keys::{
    AllowedIps, BucketName, Consumer, ConsumerId, ConsumerName, CustomId, Description, Metadata,
    Scopes, Tags,
};
use crate::store::connections::limited;
use crate::store::journal::{self, Action, Subject};
use crate::store::rows::{select_consumer, stored_consumer};
use crate::store::{Stamp, Store, StoreError, StoredConsumer, WRITE_LIMIT, buckets};

/// What a consumer is made of.
#[derive(Clone, Debug)]
pub struct NewConsumer {
    /// Its namespace.
    pub bucket: BucketName,
    /// Its name, unique in its bucket.
    pub name: ConsumerName,
    /// The id that the team's own system gave it, unique in its bucket.
    pub custom_id: Option<CustomId>,
    /// A note.
    pub description: Option<Description>,
    /// What the origin may learn about it.
    pub metadata: Option<Metadata>,
    /// What it may do.
    pub scopes: Scopes,
    /// Where its keys may be used from.
    pub allowed_ips: AllowedIps,
    /// What it is sorted by.
    pub tags: Tags,
}

/// What to change of a consumer; `None` leaves a part as it is, `Some(None)` empties it.
#[derive(Clone, Debug, Default)]
pub struct ConsumerEdit {
    /// Its name.
    pub name: Option<ConsumerName>,
    /// Its custom id.
    pub custom_id: Option<Option<CustomId>>,
    /// Its note.
    pub description: Option<Option<Description>>,
    /// Its metadata.
    pub metadata: Option<Option<Metadata>>,
    /// All its scopes.
    pub scopes: Option<Scopes>,
    /// All addresses that its keys may be used from.
    pub allowed_ips: Option<AllowedIps>,
    /// All its tags.
    pub tags: Option<Tags>,
}

impl NewConsumer {
    /// A consumer of the default bucket with nothing but a name.
    #[must_use]
    pub fn named(name: ConsumerName) -> Self {
        Self {
            bucket: BucketName::default(),
            name,
            custom_id: None,
            description: None,
            metadata: None,
            scopes: Scopes::default(),
            allowed_ips: AllowedIps::default(),
            tags: Tags::default(),
        }
    }
}

impl Store {
    /// Makes a consumer.
    pub async fn create_consumer(
        &self,
        new: NewConsumer,
        stamp: &Stamp,
    ) -> Result<StoredConsumer, StoreError> {
        limited(WRITE_LIMIT, self.create_consumer_in_turn(new, stamp)).await
    }

    async fn create_consumer_in_turn(
        &self,
        new: NewConsumer,
        stamp: &Stamp,
    ) -> Result<StoredConsumer, StoreError> {
        let mut transaction = self.begin_write().await?;
        let created = insert(&mut transaction, new, stamp).await?;
        transaction
            .commit_of(Some(created.consumer.id.as_str()))
            .await?;
        Ok(created)
    }

    /// Changes a consumer; all its keys follow at once. An edit that changes nothing leaves no trace.
    pub async fn update_consumer(
        &self,
        id: &ConsumerId,
        edit: ConsumerEdit,
        stamp: &Stamp,
    ) -> Result<StoredConsumer, StoreError> {
        limited(WRITE_LIMIT, self.update_consumer_in_turn(id, edit, stamp)).await
    }

    async fn update_consumer_in_turn(
        &self,
        id: &ConsumerId,
        edit: ConsumerEdit,
        stamp: &Stamp,
    ) -> Result<StoredConsumer, StoreError> {
        let mut transaction = self.begin_write().await?;
        let before = guarded(&mut transaction, id, stamp).await?;
        let mut after = before.clone();
        let changed = edit.apply(&mut after);
        if changed.is_empty() {
            return Ok(before);
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
    }

    /// Deletes a consumer with all its keys, which are refused from then on. Returns how many keys there were.
    pub async fn delete_consumer(&self, id: &ConsumerId, stamp: &Stamp) -> Result<u64, StoreError> {
        limited(WRITE_LIMIT, self.delete_consumer_in_turn(id, stamp)).await
    }

    async fn delete_consumer_in_turn(
        &self,
        id: &ConsumerId,
        stamp: &Stamp,
    ) -> Result<u64, StoreError> {
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
            "name": gone.consumer.name.as_str(), "bucket": gone.consumer.bucket.as_str(), "keys": keys.rows_affected(),
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

    /// At most `limit` consumers of a bucket, by name, from the one after `after` on.
    pub async fn consumers(
        &self,
        bucket: &BucketName,
        after: Option<&ConsumerName>,
        limit: u32,
    ) -> Result<Vec<StoredConsumer>, StoreError> {
        let _turn = self.scan().await?;
        let rows = sqlx::query(select_consumer!(
            "WHERE c.bucket = $1 AND c.name > $2 ORDER BY c.name LIMIT $3"
        ))
        .bind(bucket.as_str())
        .bind(after.map_or("", ConsumerName::as_str))
        .bind(i64::from(limit))
        .fetch_all(&self.scans)
        .await?;
        rows.iter().map(stored_consumer).collect()
    }
}

impl ConsumerEdit {
    /// Changes `stored` and tells which parts are other than before.
    fn apply(self, stored: &mut StoredConsumer) -> Vec<&'static str> {
        let mut changed = Vec::new();
        let mut set = |what, differs: bool| {
            if differs {
                changed.push(what);
            }
        };
        let consumer = &mut stored.consumer;
        set("name", replace(&mut consumer.name, self.name));
        set(
            "custom_id",
            replace(&mut consumer.custom_id, self.custom_id),
        );
        set(
            "description",
            replace(&mut stored.description, self.description),
        );
        set("metadata", replace(&mut consumer.metadata, self.metadata));
        set("scopes", replace(&mut consumer.scopes, self.scopes));
        set(
            "allowed_ips",
            replace(&mut consumer.allowed_ips, self.allowed_ips),
        );
        set("tags", replace(&mut stored.tags, self.tags));
        changed
    }
}

/// Puts `new` in, if there is one; says whether that made a difference.
fn replace<T: PartialEq>(old: &mut T, new: Option<T>) -> bool {
    match new {
        Some(new) if new != *old => {
            *old = new;
            true
        }
        _ => false,
    }
}

pub(super) async fn by_id(
    connection: &mut AnyConnection,
    id: &ConsumerId,
) -> Result<Option<StoredConsumer>, StoreError> {
    let row = sqlx::query(select_consumer!("WHERE c.id = $1"))
        .bind(id.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(stored_consumer).transpose()
}

/// The consumer that a change is about, if it has the tags that the caller asks for. Inside the transaction of the change:
/// nobody gives it other tags in between.
pub(super) async fn guarded(
    connection: &mut AnyConnection,
    id: &ConsumerId,
    stamp: &Stamp,
) -> Result<StoredConsumer, StoreError> {
    let consumer = by_id(connection, id).await?.ok_or_else(|| unknown(id))?;
    if consumer.tags.include(&stamp.guard) {
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
    let row = sqlx::query(select_consumer!("WHERE c.bucket = $1 AND c.name = $2"))
        .bind(bucket.as_str())
        .bind(name.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(stored_consumer).transpose()
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
        custom_id,
        description,
        metadata,
        scopes,
        allowed_ips,
        tags,
    } = new;
    buckets::require(transaction, &bucket).await?;
    let consumer = Consumer {
        id: ConsumerId::generate()?,
        bucket,
        name,
        custom_id,
        metadata,
        scopes,
        allowed_ips,
    };
    let created = StoredConsumer {
        consumer,
        description,
        tags,
        created_at: stamp.at,
        updated_at: stamp.at,
    };
    let StoredConsumer { consumer, .. } = &created;
    sqlx::query(
        "INSERT INTO consumers (id, bucket, name, custom_id, description, metadata, tags, scopes, allowed_ips, created_at, \
         updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(consumer.id.as_str())
    .bind(consumer.bucket.as_str())
    .bind(consumer.name.as_str())
    .bind(consumer.custom_id.as_ref().map(CustomId::as_str))
    .bind(created.description.as_ref().map(Description::as_str))
    .bind(consumer.metadata.as_ref().map(Metadata::as_str))
    .bind(tags_json(&created.tags))
    .bind(consumer.scopes.as_str())
    .bind(consumer.allowed_ips.to_string())
    .bind(created.created_at.0)
    .bind(created.updated_at.0)
    .execute(&mut *transaction)
    .await?;
    let detail = json!({ "name": consumer.name.as_str(), "bucket": consumer.bucket.as_str(), "scopes": consumer.scopes });
    journal::record(
        transaction,
        stamp,
        Action::ConsumerCreate,
        Subject::Consumer(&consumer.id),
        &detail,
    )
    .await?;
    Ok(created)
}

async fn update(transaction: &mut AnyConnection, after: &StoredConsumer) -> Result<(), StoreError> {
    let consumer = &after.consumer;
    sqlx::query(
        "UPDATE consumers SET name = $2, custom_id = $3, description = $4, metadata = $5, tags = $6, scopes = $7, \
         allowed_ips = $8, updated_at = $9 WHERE id = $1",
    )
    .bind(consumer.id.as_str())
    .bind(consumer.name.as_str())
    .bind(consumer.custom_id.as_ref().map(CustomId::as_str))
    .bind(after.description.as_ref().map(Description::as_str))
    .bind(consumer.metadata.as_ref().map(Metadata::as_str))
    .bind(tags_json(&after.tags))
    .bind(consumer.scopes.as_str())
    .bind(consumer.allowed_ips.to_string())
    .bind(after.updated_at.0)
    .execute(transaction)
    .await?;
    Ok(())
}

pub(super) fn tags_json(tags: &Tags) -> String {
    let object: serde_json::Map<String, Value> = tags
        .iter()
        .map(|(name, value)| (name.to_owned(), Value::from(value)))
        .collect();
    Value::Object(object).to_string()
}
