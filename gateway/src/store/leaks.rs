//! Keys that were found where they do not belong.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use sqlx::{AnyConnection, Row};

use crate::keys::{BucketName, ConsumerName, KeyDigest, KeyId, KeyState, KeyStatus, UnixMillis};
use crate::store::journal::{self, Action, Subject};
use crate::store::{Stamp, Store, StoreError, keys};

/// What becomes of a key of a bucket that is reported as leaked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeakPolicy {
    /// It is noted and logged; people decide.
    Notify,
    /// It ends after this time, which its owner has to put another in its place.
    End(Duration),
    /// It is refused from its next request on.
    Revoke,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Leak {
    /// SHA-256 of the key.
    pub digest: KeyDigest,
    /// Where it was found, if the reporter says; never with the key in it.
    pub url: Option<String>,
    /// What it was found in, for example `commit`.
    pub source: Option<String>,
}

/// What was done about a leak.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeakOutcome {
    /// Which key.
    pub key_id: KeyId,
    /// Its first characters.
    pub hint: String,
    /// Whose it is.
    #[serde(serialize_with = "as_text")]
    pub consumer: ConsumerName,
    /// In which bucket.
    #[serde(serialize_with = "as_text")]
    pub bucket: BucketName,
    /// What was done.
    pub action: LeakAction,
    /// When the key ends, if it does.
    pub expires_at: Option<UnixMillis>,
}

/// What was done about a leaked key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeakAction {
    /// Noted and logged.
    Notified,
    /// It ends soon.
    Ending,
    /// It is refused from now on.
    Revoked,
    /// It was refused already.
    AlreadyRefused,
}

fn as_text<S: serde::Serializer>(name: &impl std::fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(name)
}

impl LeakPolicy {
    /// How long a key goes on when nothing else was said.
    pub const DEFAULT_GRACE: Duration = Duration::from_hours(24);

    /// The word that is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::End(_) => "roll",
            Self::Revoke => "revoke",
        }
    }
}

impl Store {
    /// Does what the key's bucket says about leaked keys. `None` when no key has this digest.
    pub async fn report_leak(&self, leak: &Leak, stamp: &Stamp) -> Result<Option<LeakOutcome>, StoreError> {
        let mut transaction = self.begin_write().await?;
        let row = sqlx::query("SELECT id FROM keys WHERE digest = $1")
            .bind(leak.digest.as_bytes().as_slice())
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let id = crate::store::rows::required::<KeyId>(&row, "id")?;
        let key = keys::by_id(&mut transaction, &id).await?.ok_or(StoreError::UnknownKey(id))?;
        let policy = policy_of(&mut transaction, &key.bucket).await?;
        let (action, state, expires_at) = match (key.status(stamp.at), policy) {
            (KeyStatus::Expired | KeyStatus::Revoked, _) => (LeakAction::AlreadyRefused, key.state, key.expires_at),
            (_, LeakPolicy::Notify) => (LeakAction::Notified, key.state, key.expires_at),
            (_, LeakPolicy::Revoke) => (LeakAction::Revoked, KeyState::Revoked, key.expires_at),
            (_, LeakPolicy::End(grace)) => {
                let end = stamp.at.after(grace);
                (LeakAction::Ending, key.state, Some(key.expires_at.map_or(end, |earlier| earlier.min(end))))
            }
        };
        let deprecated_at = (action == LeakAction::Ending).then_some(stamp.at.0);
        sqlx::query(
            "UPDATE keys SET state = $2, expires_at = $3, deprecated_at = COALESCE(deprecated_at, $4), updated_at = $5 \
             WHERE id = $1",
        )
        .bind(id.as_str())
        .bind(state.as_str())
        .bind(expires_at.map(|at| at.0))
        .bind(deprecated_at)
        .bind(stamp.at.0)
        .execute(&mut *transaction)
        .await?;
        let detail = json!({
            "action": action, "policy": policy.as_str(), "url": leak.url, "source": leak.source, "expires_at": expires_at,
        });
        journal::record(&mut transaction, stamp, Action::KeyLeak, Subject::Key(&id, &leak.digest), &detail).await?;
        transaction.commit().await?;
        Ok(Some(LeakOutcome { key_id: id, hint: key.hint, consumer: key.consumer_name, bucket: key.bucket, action, expires_at }))
    }

    /// What a bucket does about leaked keys.
    pub async fn leak_policy(&self, bucket: &BucketName) -> Result<LeakPolicy, StoreError> {
        policy_of(&mut *self.pool.acquire().await?, bucket).await
    }

    /// Has a bucket do `policy` about leaked keys from now on.
    pub async fn set_leak_policy(&self, bucket: &BucketName, policy: LeakPolicy, stamp: &Stamp) -> Result<(), StoreError> {
        let mut transaction = self.begin_write().await?;
        let grace = match policy {
            LeakPolicy::End(grace) => grace,
            LeakPolicy::Notify | LeakPolicy::Revoke => LeakPolicy::DEFAULT_GRACE,
        };
        let changed = sqlx::query("UPDATE buckets SET leak_policy = $2, leak_grace_ms = $3 WHERE name = $1")
            .bind(bucket.as_str())
            .bind(policy.as_str())
            .bind(i64::try_from(grace.as_millis()).unwrap_or(i64::MAX))
            .execute(&mut *transaction)
            .await?;
        if changed.rows_affected() == 0 {
            return Err(StoreError::UnknownBucket { wanted: bucket.to_string() });
        }
        let detail = json!({ "leak_policy": policy.as_str(), "leak_grace_ms": grace.as_millis() });
        journal::record(&mut transaction, stamp, Action::BucketUpdate, Subject::Bucket(bucket), &detail).await?;
        Ok(transaction.commit().await?)
    }
}

async fn policy_of(connection: &mut AnyConnection, bucket: &BucketName) -> Result<LeakPolicy, StoreError> {
    let row = sqlx::query("SELECT leak_policy, leak_grace_ms FROM buckets WHERE name = $1")
        .bind(bucket.as_str())
        .fetch_optional(connection)
        .await?
        .ok_or_else(|| StoreError::UnknownBucket { wanted: bucket.to_string() })?;
    Ok(match row.try_get("leak_policy")? {
        "revoke" => LeakPolicy::Revoke,
        "roll" => {
            let grace: i64 = row.try_get("leak_grace_ms")?;
            LeakPolicy::End(Duration::from_millis(u64::try_from(grace).unwrap_or(0)))
        }
        _ => LeakPolicy::Notify,
    })
}
