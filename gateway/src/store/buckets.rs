//! Buckets in the store: namespaces of consumers, with their policy for leaked keys.

use std::time::Duration;

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::keys::{BucketName, UnixMillis};
use crate::store::columns::in_row;
use crate::store::connections::limited;
use crate::store::journal::{self, Action, Subject};
use crate::store::{LeakPolicy, Stamp, Store, StoreError, WRITE_LIMIT};

/// A stored bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBucket {
    /// Immutable name.
    pub name: BucketName,
    /// Policy for leaked keys.
    pub leaks: LeakRule,
    /// Time of creation.
    pub created_at: UnixMillis,
}

/// Policy for leaked keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeakRule {
    /// Action on a leak.
    pub policy: LeakPolicy,
    /// Grace period before a leaked key expires; used by the `roll` policy only.
    pub grace: Duration,
}

/// A bucket to create.
#[derive(Clone, Debug)]
pub struct NewBucket {
    /// Name.
    pub name: BucketName,
    /// Policy for leaked keys.
    pub leaks: LeakRule,
}

/// Edit of a bucket; `None` leaves a part as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct BucketEdit {
    /// New action on a leak.
    pub leak_policy: Option<LeakPolicy>,
    /// New grace period.
    pub leak_grace: Option<Duration>,
}

impl Default for LeakRule {
    fn default() -> Self {
        Self {
            policy: LeakPolicy::Notify,
            grace: Duration::from_hours(24),
        }
    }
}

/// `SELECT` of the columns that [`stored_bucket`] reads.
macro_rules! select_bucket {
    ($rest:literal) => {
        concat!(
            "SELECT name, leak_policy, leak_grace_ms, created_at FROM buckets ",
            $rest
        )
    };
}

impl Store {
    /// Creates a bucket.
    pub async fn create_bucket(
        &self,
        new: NewBucket,
        stamp: &Stamp,
    ) -> Result<StoredBucket, StoreError> {
        limited(WRITE_LIMIT, self.create_bucket_in_turn(new, stamp)).await
    }

    async fn create_bucket_in_turn(
        &self,
        new: NewBucket,
        stamp: &Stamp,
    ) -> Result<StoredBucket, StoreError> {
        let mut transaction = self.begin_write().await?;
        let created = create(&mut transaction, new, stamp).await?;
        transaction.commit_of(Some(created.name.as_str())).await?;
        Ok(created)
    }

    /// Finds a bucket.
    pub async fn bucket(&self, name: &BucketName) -> Result<Option<StoredBucket>, StoreError> {
        by_name(&mut *self.pool.acquire().await?, name).await
    }

    /// Refuses an unknown bucket name: an empty list would hide a misspelled one.
    ///
    /// # Errors
    /// [`StoreError::UnknownBucket`], or a failure of the store.
    pub async fn require_bucket(&self, name: &BucketName) -> Result<(), StoreError> {
        require(&mut *self.pool.acquire().await?, name)
            .await
            .map(drop)
    }

    /// Returns at most `limit` buckets after the name `after`, sorted by name. No bucket need have
    /// that name.
    pub async fn buckets(&self, after: &str, limit: u32) -> Result<Vec<StoredBucket>, StoreError> {
        let rows = sqlx::query(select_bucket!("WHERE name > $1 ORDER BY name LIMIT $2"))
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(stored_bucket).collect()
    }

    /// Changes a bucket and returns its new state.
    pub async fn update_bucket(
        &self,
        name: &BucketName,
        edit: BucketEdit,
        stamp: &Stamp,
    ) -> Result<StoredBucket, StoreError> {
        limited(WRITE_LIMIT, self.update_bucket_in_turn(name, edit, stamp)).await
    }

    async fn update_bucket_in_turn(
        &self,
        name: &BucketName,
        edit: BucketEdit,
        stamp: &Stamp,
    ) -> Result<StoredBucket, StoreError> {
        let mut transaction = self.begin_write().await?;
        let mut bucket = require(&mut transaction, name).await?;
        bucket.leaks.policy = edit.leak_policy.unwrap_or(bucket.leaks.policy);
        bucket.leaks.grace = edit.leak_grace.unwrap_or(bucket.leaks.grace);
        sqlx::query("UPDATE buckets SET leak_policy = $2, leak_grace_ms = $3 WHERE name = $1")
            .bind(name.as_str())
            .bind(bucket.leaks.policy.as_str())
            .bind(bucket.leaks.grace_millis())
            .execute(&mut *transaction)
            .await?;
        journal::record(
            &mut transaction,
            stamp,
            Action::BucketUpdate,
            Subject::Bucket(name),
            &bucket.leaks.detail(),
        )
        .await?;
        transaction.commit_of(Some(name.as_str())).await?;
        Ok(bucket)
    }
}

impl LeakRule {
    fn grace_millis(self) -> i64 {
        i64::try_from(self.grace.as_millis()).unwrap_or(i64::MAX)
    }

    fn detail(self) -> serde_json::Value {
        json!({ "leak_policy": self.policy.as_str(), "leak_grace_ms": self.grace_millis() })
    }
}

pub(super) async fn create(
    transaction: &mut AnyConnection,
    new: NewBucket,
    stamp: &Stamp,
) -> Result<StoredBucket, StoreError> {
    let NewBucket { name, leaks } = new;
    // The write lock prevents a concurrent creation.
    if by_name(transaction, &name).await?.is_some() {
        return Err(StoreError::Duplicate { field: "the name" });
    }
    let created = StoredBucket {
        name,
        leaks,
        created_at: stamp.at,
    };
    sqlx::query("INSERT INTO buckets (name, leak_policy, leak_grace_ms, created_at) VALUES ($1, $2, $3, $4)")
        .bind(created.name.as_str())
        .bind(leaks.policy.as_str())
        .bind(leaks.grace_millis())
        .bind(created.created_at.0)
        .execute(&mut *transaction)
        .await?;
    journal::record(
        transaction,
        stamp,
        Action::BucketCreate,
        Subject::Bucket(&created.name),
        &leaks.detail(),
    )
    .await?;
    Ok(created)
}

/// Refuses an unknown bucket name.
pub(super) async fn require(
    connection: &mut AnyConnection,
    name: &BucketName,
) -> Result<StoredBucket, StoreError> {
    by_name(connection, name)
        .await?
        .ok_or_else(|| StoreError::UnknownBucket {
            wanted: name.to_string(),
        })
}

async fn by_name(
    connection: &mut AnyConnection,
    name: &BucketName,
) -> Result<Option<StoredBucket>, StoreError> {
    let row = sqlx::query(select_bucket!("WHERE name = $1"))
        .bind(name.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(stored_bucket).transpose()
}

fn stored_bucket(row: &AnyRow) -> Result<StoredBucket, StoreError> {
    let grace: i64 = row.try_get("leak_grace_ms")?;
    Ok(StoredBucket {
        name: in_row(row, "name")?,
        leaks: LeakRule {
            policy: in_row(row, "leak_policy")?,
            grace: Duration::from_millis(u64::try_from(grace).unwrap_or_default()),
        },
        created_at: UnixMillis(row.try_get("created_at")?),
    })
}
