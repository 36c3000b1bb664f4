//! Idempotent creation: a repeated request creates nothing and returns the first answer.
//!
//! The answer is stored in the transaction of the creation, so a crash leaves both or neither.
//! Concurrent repeats are serialized by the write lock.

use std::fmt;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use sqlx::{AnyConnection, Row};

use crate::keys::UnixMillis;
use crate::store::connections::limited;
use crate::store::{
    CreatedKey, NewBucket, NewConsumer, NewKey, NewPlan, Roll, RolledKeys, Stamp, Store,
    StoreError, StoredBucket, StoredConsumer, StoredPlan, WRITE_LIMIT, buckets, consumers, keys,
    plans, roll,
};

/// Retention of an answer.
const KEPT: Duration = Duration::from_hours(24);

/// Identifies a creation request, by digests only.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CreationKey {
    token: Box<str>,
    digest: [u8; 32],
    request: [u8; 32],
}

/// Stored answer to a creation; holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAnswer {
    /// URL of the created item.
    pub location: String,
    /// JSON object.
    pub body: String,
}

/// Result of a creation.
#[derive(Clone, Debug)]
pub enum Creation<T> {
    /// Created by this request.
    Made(T),
    /// Created before, with this answer.
    Repeated(StoredAnswer),
}

/// A stored creation.
struct Before {
    request: Vec<u8>,
    answer: StoredAnswer,
    at: UnixMillis,
}

impl Before {
    /// Returns the answer if the request is the same.
    fn answer_to(self, key: &CreationKey) -> Result<StoredAnswer, StoreError> {
        if self.request == key.request {
            Ok(self.answer)
        } else {
            Err(StoreError::IdempotencyKeyReused)
        }
    }
}

impl CreationKey {
    /// Builds the identity of a request: the admin `token`, the client's idempotency `key`, and the
    /// parts in which `request` can differ.
    #[must_use]
    pub fn new(token: &str, key: &[u8], request: [&[u8]; 3]) -> Self {
        let request = request.iter().fold(Sha256::new(), |digest, part| {
            // Length-prefixed, so that different requests never hash the same bytes.
            digest
                .chain_update((part.len() as u64).to_le_bytes())
                .chain_update(part)
        });
        Self {
            token: token.into(),
            digest: Sha256::digest(key).into(),
            request: request.finalize().into(),
        }
    }

    /// Returns token and idempotency key, without the request.
    #[must_use]
    pub fn name(&self) -> (Box<str>, [u8; 32]) {
        (self.token.clone(), self.digest)
    }
}

impl fmt::Debug for CreationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "CreationKey({} {:02x}{:02x}…)",
            self.token, self.digest[0], self.digest[1]
        )
    }
}

impl Store {
    /// Creates a bucket once per `key`.
    pub async fn create_bucket_once(
        &self,
        new: NewBucket,
        key: Option<&CreationKey>,
        answer: impl FnOnce(&StoredBucket) -> StoredAnswer,
        stamp: &Stamp,
    ) -> Result<Creation<StoredBucket>, StoreError> {
        self.once(key, answer, async |transaction| {
            buckets::create(transaction, new, stamp).await
        })
        .await
    }

    /// Creates a plan once per `key`.
    pub async fn create_plan_once(
        &self,
        new: NewPlan,
        key: Option<&CreationKey>,
        answer: impl FnOnce(&StoredPlan) -> StoredAnswer,
        stamp: &Stamp,
    ) -> Result<Creation<StoredPlan>, StoreError> {
        self.once(key, answer, async |transaction| {
            plans::create(transaction, new, stamp).await
        })
        .await
    }

    /// Creates a consumer once per `key`.
    pub async fn create_consumer_once(
        &self,
        new: NewConsumer,
        key: Option<&CreationKey>,
        answer: impl FnOnce(&StoredConsumer) -> StoredAnswer,
        stamp: &Stamp,
    ) -> Result<Creation<StoredConsumer>, StoreError> {
        self.once(key, answer, async |transaction| {
            consumers::insert(transaction, new, stamp).await
        })
        .await
    }

    /// Creates a key, and its consumer like [`Store::create_key`], once per `key`.
    pub async fn create_key_once(
        &self,
        new: NewKey,
        key: Option<&CreationKey>,
        answer: impl FnOnce(&CreatedKey) -> StoredAnswer,
        stamp: &Stamp,
    ) -> Result<Creation<CreatedKey>, StoreError> {
        self.once(key, answer, async |transaction| {
            keys::create(transaction, new, stamp).await
        })
        .await
    }

    /// Returns the stored answer for `key`; the request itself might be refused by now.
    pub async fn repeated(&self, key: &CreationKey) -> Result<Option<StoredAnswer>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let Some(before) = find(&mut connection, key).await? else {
            return Ok(None);
        };
        if before.at.0 <= oldest_kept(self.clock_of(&mut connection).await?) {
            return Ok(None);
        }
        let answer = before.answer_to(key)?;
        self.speaks_of_now(&mut connection).await?;
        Ok(Some(answer))
    }

    /// Rolls keys like [`Store::roll`], once per `key`.
    pub async fn roll_once(
        &self,
        roll: Roll,
        key: Option<&CreationKey>,
        answer: impl FnOnce(&RolledKeys) -> StoredAnswer,
        stamp: &Stamp,
    ) -> Result<Creation<RolledKeys>, StoreError> {
        self.once(key, answer, async |transaction| {
            roll::replace(transaction, roll, stamp).await
        })
        .await
    }

    async fn once<T>(
        &self,
        key: Option<&CreationKey>,
        answer: impl FnOnce(&T) -> StoredAnswer,
        make: impl AsyncFnOnce(&mut AnyConnection) -> Result<T, StoreError>,
    ) -> Result<Creation<T>, StoreError> {
        limited(WRITE_LIMIT, self.once_in_turn(key, answer, make)).await
    }

    async fn once_in_turn<T>(
        &self,
        key: Option<&CreationKey>,
        answer: impl FnOnce(&T) -> StoredAnswer,
        make: impl AsyncFnOnce(&mut AnyConnection) -> Result<T, StoreError>,
    ) -> Result<Creation<T>, StoreError> {
        let mut transaction = self.begin_write().await?;
        let mut now = 0;
        if let Some(key) = key {
            // By the database's clock: a gateway whose clock is a day ahead would delete everyone's
            // answers.
            now = self.clock_of(&mut transaction).await?;
            forget_old(&mut transaction, now).await?;
            if let Some(before) = find(&mut transaction, key).await? {
                // Commits the removal of expired answers.
                transaction.commit().await?;
                return before.answer_to(key).map(Creation::Repeated);
            }
        }
        let made = make(&mut transaction).await?;
        let answer = answer(&made);
        if let Some(key) = key {
            remember(&mut transaction, key, &answer, now).await?;
        }
        // The location to check, if the outcome stays unknown.
        transaction.commit_of(Some(&answer.location)).await?;
        Ok(Creation::Made(made))
    }
}

async fn forget_old(transaction: &mut AnyConnection, now: i64) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM idempotency_keys WHERE created_at <= $1")
        .bind(oldest_kept(now))
        .execute(transaction)
        .await?;
    Ok(())
}

/// Returns the time before which answers are expired at `now`, by the database's clock.
fn oldest_kept(now: i64) -> i64 {
    now.saturating_sub(i64::try_from(KEPT.as_millis()).unwrap_or(i64::MAX))
}

async fn find(
    transaction: &mut AnyConnection,
    key: &CreationKey,
) -> Result<Option<Before>, StoreError> {
    let row = sqlx::query("SELECT request, location, answer, created_at FROM idempotency_keys WHERE token = $1 AND digest = $2")
        .bind(&*key.token)
        .bind(key.digest.as_slice())
        .fetch_optional(transaction)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let request: &[u8] = row.try_get("request")?;
    Ok(Some(Before {
        request: request.to_vec(),
        answer: StoredAnswer {
            location: row.try_get("location")?,
            body: row.try_get("answer")?,
        },
        at: UnixMillis(row.try_get("created_at")?),
    }))
}

async fn remember(
    transaction: &mut AnyConnection,
    key: &CreationKey,
    answer: &StoredAnswer,
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO idempotency_keys (token, digest, request, location, answer, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(&*key.token)
    .bind(key.digest.as_slice())
    .bind(key.request.as_slice())
    .bind(answer.location.as_str())
    .bind(answer.body.as_str())
    .bind(now)
    .execute(transaction)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Actor, DatabaseUrl};

    #[tokio::test]
    async fn a_creation_is_forgotten_after_a_day_by_the_databases_clock() {
        let directory = tempfile::tempdir().unwrap();
        let url: DatabaseUrl = format!("sqlite://{}/gateway.db", directory.path().display())
            .parse()
            .unwrap();
        let store = Store::open(&url).await.unwrap();
        let key = CreationKey::new("admin", b"one", [b"POST", b"/", b""]);
        let stamp = Stamp::now(Actor::command_line(None));
        let create = async |name: &str| {
            let new = NewConsumer::named(name.parse().unwrap());
            let answer = |_: &StoredConsumer| StoredAnswer {
                location: String::new(),
                body: String::new(),
            };
            store
                .create_consumer_once(new, Some(&key), answer, &stamp)
                .await
                .unwrap()
        };
        let grow_older = async |millis: i64| {
            sqlx::query("UPDATE idempotency_keys SET created_at = created_at - $1")
                .bind(millis)
                .execute(&store.pool)
                .await
                .unwrap();
        };
        assert!(matches!(create("first").await, Creation::Made(_)));
        grow_older(23 * 3_600_000).await;
        assert!(matches!(create("first").await, Creation::Repeated(_)));
        assert!(store.repeated(&key).await.unwrap().is_some());
        grow_older(3_600_000).await;
        assert!(store.repeated(&key).await.unwrap().is_none());
        assert!(matches!(create("second").await, Creation::Made(_)));
    }
}
