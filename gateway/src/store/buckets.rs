//! Buckets in the store: namespaces of consumers, with their rules for keys and their policy for
//! leaked ones.

use std::time::Duration;

use serde_json::json;
use sqlx::{AnyConnection, AssertSqlSafe};

use crate::keys::{BucketName, Lifetime, UnixMillis};
use crate::store::columns::{self, columns, names, of_row};
use crate::store::connections::limited;
use crate::store::journal::{self, Action, Subject};
use crate::store::{KeyRule, KeyRuleEdit, LeakPolicy, Stamp, Store, StoreError, WRITE_LIMIT, bulk};

/// A stored bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBucket {
    /// Immutable name.
    pub name: BucketName,
    /// Policy for leaked keys.
    pub leaks: LeakRule,
    /// Rules for keys.
    pub keys: KeyRule,
    /// Time of creation.
    pub created_at: UnixMillis,
}

columns!(StoredBucket {
    name,
    leaks,
    keys,
    created_at
});

/// Policy for leaked keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeakRule {
    /// Action on a leak.
    pub policy: LeakPolicy,
    /// Grace period before a leaked key expires; used by the `roll` policy only.
    pub grace: Duration,
}

columns!(LeakRule {
    policy as "leak_policy",
    grace as "leak_grace_ms"
});

/// A bucket to create.
#[derive(Clone, Debug)]
pub struct NewBucket {
    /// Name.
    pub name: BucketName,
    /// Policy for leaked keys.
    pub leaks: LeakRule,
    /// Rules for keys.
    pub keys: KeyRule,
}

/// Mutable columns of `buckets`.
struct Changed {
    leaks: LeakRule,
    keys: KeyRule,
}

columns!(Changed { leaks, keys });

/// Edit of a bucket; `None` leaves a part as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct BucketEdit {
    /// New action on a leak.
    pub leak_policy: Option<LeakPolicy>,
    /// New grace period.
    pub leak_grace: Option<Duration>,
    /// New rules for keys.
    pub keys: KeyRuleEdit,
}

impl Default for LeakRule {
    fn default() -> Self {
        Self {
            policy: LeakPolicy::Notify,
            grace: Duration::from_hours(24),
        }
    }
}

impl Store {
    /// Creates a bucket.
    pub async fn create_bucket(
        &self,
        new: NewBucket,
        stamp: &Stamp,
    ) -> Result<StoredBucket, StoreError> {
        limited(WRITE_LIMIT, async {
            let mut transaction = self.begin_write().await?;
            let created = create(&mut transaction, new, stamp).await?;
            transaction.commit_of(Some(created.name.as_str())).await?;
            Ok(created)
        })
        .await
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
        let select = select_bucket("WHERE b.name > $1 ORDER BY b.name LIMIT $2");
        let rows = sqlx::query(AssertSqlSafe(select))
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(of_row).collect()
    }

    /// Changes a bucket and returns its new state.
    pub async fn update_bucket(
        &self,
        name: &BucketName,
        edit: BucketEdit,
        stamp: &Stamp,
    ) -> Result<StoredBucket, StoreError> {
        limited(WRITE_LIMIT, async {
            let mut transaction = self.begin_write().await?;
            let mut bucket = require(&mut transaction, name).await?;
            bucket.leaks.policy = edit.leak_policy.unwrap_or(bucket.leaks.policy);
            bucket.leaks.grace = edit.leak_grace.unwrap_or(bucket.leaks.grace);
            edit.keys.apply(&mut bucket.keys)?;
            let new = Changed {
                leaks: bucket.leaks,
                keys: bucket.keys,
            };
            let update = columns::update_by::<Changed>("buckets", "name");
            let query = sqlx::query(AssertSqlSafe(update));
            columns::bind(query.bind(name.as_str()), &new)
                .execute(&mut *transaction)
                .await?;
            journal::record(
                &mut transaction,
                stamp,
                Action::BucketUpdate,
                Subject::Bucket(name),
                &bucket.detail(),
            )
            .await?;
            transaction.commit_of(Some(name.as_str())).await?;
            Ok(bucket)
        })
        .await
    }
}

impl StoredBucket {
    /// Details for the audit.
    fn detail(&self) -> serde_json::Value {
        let KeyRule {
            default_lifetime,
            max_lifetime,
            max_live,
            unused_after,
            unused_action,
        } = self.keys;
        json!({
            "leak_policy": self.leaks.policy.as_str(), "leak_grace_ms": self.leaks.grace.as_millis(),
            "default_key_lifetime_seconds": default_lifetime.map(Lifetime::as_secs),
            "max_key_lifetime_seconds": max_lifetime.map(Lifetime::as_secs), "max_live_keys": max_live,
            "unused_after_seconds": unused_after.map(Lifetime::as_secs), "unused_action": unused_action.as_str(),
        })
    }
}

pub(super) async fn create(
    transaction: &mut AnyConnection,
    new: NewBucket,
    stamp: &Stamp,
) -> Result<StoredBucket, StoreError> {
    let NewBucket { name, leaks, keys } = new;
    keys.require_order()?;
    // The write lock prevents a concurrent creation.
    if by_name(transaction, &name).await?.is_some() {
        return Err(StoreError::Duplicate { field: "the name" });
    }
    let created = StoredBucket {
        name,
        leaks,
        keys,
        created_at: stamp.at,
    };
    bulk::insert_all(transaction, "buckets", std::slice::from_ref(&created)).await?;
    journal::record(
        transaction,
        stamp,
        Action::BucketCreate,
        Subject::Bucket(&created.name),
        &created.detail(),
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
    let row = sqlx::query(AssertSqlSafe(select_bucket("WHERE b.name = $1")))
        .bind(name.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(of_row).transpose()
}

fn select_bucket(rest: &str) -> String {
    format!(
        "SELECT {} FROM buckets b {rest}",
        names::<StoredBucket>("b.")
    )
}
