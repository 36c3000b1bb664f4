//! Buckets in the store: the namespaces of consumers.

use serde_json::json;
use sqlx::{AnyConnection, Row};

use crate::keys::{BucketName, UnixMillis};
use crate::store::journal::{self, Action, Subject};
use crate::store::rows::required;
use crate::store::{Stamp, Store, StoreError};

/// A namespace of consumers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBucket {
    /// Its name, which never changes.
    pub name: BucketName,
    /// When it was made.
    pub created_at: UnixMillis,
}

impl Store {
    /// Finds a bucket.
    pub async fn bucket(&self, name: &BucketName) -> Result<Option<StoredBucket>, StoreError> {
        by_name(&mut *self.pool.acquire().await?, name).await
    }

    /// At most `limit` buckets, by name, from the first one after `after` on, which need not be the name of one.
    pub async fn buckets(&self, after: &str, limit: u32) -> Result<Vec<StoredBucket>, StoreError> {
        let rows = sqlx::query("SELECT name, created_at FROM buckets WHERE name > $1 ORDER BY name LIMIT $2")
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(stored_bucket).collect()
    }
}

pub(super) async fn create(transaction: &mut AnyConnection, name: BucketName, stamp: &Stamp) -> Result<StoredBucket, StoreError> {
    // Writers take turns, so nobody makes it in between.
    if by_name(transaction, &name).await?.is_some() {
        return Err(StoreError::Duplicate { field: "the name" });
    }
    let created = StoredBucket { name, created_at: stamp.at };
    sqlx::query("INSERT INTO buckets (name, created_at) VALUES ($1, $2)")
        .bind(created.name.as_str())
        .bind(created.created_at.0)
        .execute(&mut *transaction)
        .await?;
    journal::record(transaction, stamp, Action::BucketCreate, Subject::Bucket(&created.name), &json!({})).await?;
    Ok(created)
}

/// Refuses the name of no bucket.
pub(super) async fn require(connection: &mut AnyConnection, name: &BucketName) -> Result<(), StoreError> {
    match by_name(connection, name).await? {
        Some(_) => Ok(()),
        None => Err(StoreError::UnknownBucket { wanted: name.to_string() }),
    }
}

async fn by_name(connection: &mut AnyConnection, name: &BucketName) -> Result<Option<StoredBucket>, StoreError> {
    let row = sqlx::query("SELECT name, created_at FROM buckets WHERE name = $1")
        .bind(name.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(stored_bucket).transpose()
}

fn stored_bucket(row: &sqlx::any::AnyRow) -> Result<StoredBucket, StoreError> {
    Ok(StoredBucket { name: required(row, "name")?, created_at: UnixMillis(row.try_get("created_at")?) })
}
