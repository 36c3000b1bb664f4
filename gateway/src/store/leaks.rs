//! Reports of leaked keys.

use std::str::FromStr;

use serde_json::json;
use sqlx::{AnyConnection, Row as _};
use thiserror::Error;

use crate::keys::{KeyDigest, KeyId, KeyState, KeyStatus};
use crate::store::columns::in_row;
use crate::store::connections::limited;
use crate::store::journal::{self, Action, Subject};
use crate::store::{LeakRule, Stamp, Store, StoreError, StoredKey, WRITE_LIMIT, buckets, keys};

/// Policy of a bucket for a leaked key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeakPolicy {
    /// Record and log the leak; people decide.
    Notify,
    /// Expire the key after a grace period, in which its owner must replace it.
    Roll,
    /// Revoke the key.
    Revoke,
}

/// The text is not a [`LeakPolicy`].
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a leak policy is `notify`, `roll` or `revoke`")]
pub struct InvalidLeakPolicy;

/// A reported leak.
#[derive(Clone, Debug)]
pub struct Leak {
    /// SHA-256 of the key.
    pub digest: KeyDigest,
    /// URL of the leak, if reported; never contains the key.
    pub url: Option<String>,
    /// Kind of the source, for example `commit`.
    pub source: Option<String>,
}

/// Result of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeakOutcome {
    /// Action taken.
    pub action: LeakAction,
    /// The key in its new state.
    pub key: StoredKey,
    /// Whether the report is new: an unchanged key with an audit row for the same location is not.
    pub is_news: bool,
}

/// Action taken on a leaked key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeakAction {
    /// Recorded and logged.
    Notified,
    /// Expires after the grace period.
    Ending,
    /// Revoked.
    Revoked,
    /// The key was refused already.
    AlreadyRefused,
}

impl LeakPolicy {
    /// Stored words, one for each policy.
    pub const WORDS: [&str; 3] = ["notify", "roll", "revoke"];

    /// Returns the word that is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::Roll => "roll",
            Self::Revoke => "revoke",
        }
    }
}

impl FromStr for LeakPolicy {
    type Err = InvalidLeakPolicy;

    fn from_str(word: &str) -> Result<Self, InvalidLeakPolicy> {
        match word {
            "notify" => Ok(Self::Notify),
            "roll" => Ok(Self::Roll),
            "revoke" => Ok(Self::Revoke),
            _ => Err(InvalidLeakPolicy),
        }
    }
}

impl LeakAction {
    /// Words, one for each action.
    pub const WORDS: [&str; 4] = ["notified", "ending", "revoked", "already_refused"];

    /// Returns the word for the answer and the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notified => "notified",
            Self::Ending => "ending",
            Self::Revoked => "revoked",
            Self::AlreadyRefused => "already_refused",
        }
    }
}

impl Store {
    /// Applies the bucket's leak policy to a key. `None` if no key has this digest.
    pub async fn report_leak(
        &self,
        leak: &Leak,
        stamp: &Stamp,
    ) -> Result<Option<LeakOutcome>, StoreError> {
        limited(WRITE_LIMIT, async {
        let mut transaction = self.begin_write().await?;
        let row = sqlx::query("SELECT id FROM keys WHERE digest = $1")
            .bind(leak.digest.as_bytes().as_slice())
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let id = in_row::<KeyId>(&row, "id")?;
        let mut key = keys::by_id(&mut transaction, &id)
            .await?
            .ok_or(StoreError::UnknownKey(id))?;
        let rule = buckets::require(&mut transaction, &key.bucket).await?.leaks;
        let before = key.clone();
        let action = rule.apply(&mut key, stamp);
        let is_as_before =
            (before.state, before.attributes.expires_at) == (key.state, key.attributes.expires_at);
        if is_as_before && is_noted(&mut transaction, &id, leak).await? {
            return Ok(Some(LeakOutcome {
                action,
                key: before,
                is_news: false,
            }));
        }
        sqlx::query(
            "UPDATE keys SET state = $2, expires_at = $3, deprecated_at = $4, original_expires_at = $5, updated_at = $6 WHERE id = $1",
        )
        .bind(id.as_str())
        .bind(key.state.as_str())
        .bind(key.attributes.expires_at.map(|at| at.0))
        .bind(key.rolled.map(|rolled| rolled.at.0))
        .bind(key.rolled.and_then(|rolled| rolled.original_expiry).map(|end| end.0))
        .bind(key.updated_at.0)
        .execute(&mut *transaction)
        .await?;
        let detail = json!({
            "action": action.as_str(), "policy": rule.policy.as_str(), "url": leak.url, "source": leak.source,
            "expires_at": key.attributes.expires_at,
        });
        journal::record(
            &mut transaction,
            stamp,
            Action::KeyLeak,
            Subject::Key(&id),
            &detail,
        )
        .await?;
        transaction.commit_of(Some(id.as_str())).await?;
        Ok(Some(LeakOutcome {
            action,
            key,
            is_news: true,
        }))
}).await
    }
}

/// Number of recent reports of a key that are searched for the location.
const LOOKED_THROUGH: i64 = 100;

/// Returns whether the audit already has the key with this location. Repeated reports add no rows.
async fn is_noted(
    connection: &mut AnyConnection,
    key: &KeyId,
    leak: &Leak,
) -> Result<bool, StoreError> {
    let rows = sqlx::query(
        "SELECT detail FROM audit WHERE subject_id = $1 AND action = $2 ORDER BY id DESC LIMIT $3",
    )
    .bind(key.as_str())
    .bind(Action::KeyLeak.as_str())
    .bind(LOOKED_THROUGH)
    .fetch_all(connection)
    .await?;
    for row in rows {
        let detail: String = row.try_get("detail")?;
        let detail: serde_json::Value = serde_json::from_str(&detail).unwrap_or_default();
        if detail.get("url").and_then(serde_json::Value::as_str) == leak.url.as_deref() {
            return Ok(true);
        }
    }
    Ok(false)
}

impl LeakRule {
    /// Applies the policy to a key.
    fn apply(self, key: &mut StoredKey, stamp: &Stamp) -> LeakAction {
        match (key.status(stamp.at), self.policy) {
            (KeyStatus::Revoked, _) => LeakAction::AlreadyRefused,
            // Expired keys too: an expiry can be extended.
            (_, LeakPolicy::Revoke) => {
                (key.state, key.updated_at) = (KeyState::Revoked, stamp.at);
                key.revoked = Some(stamp.revocation());
                LeakAction::Revoked
            }
            (KeyStatus::Expired, _) => LeakAction::AlreadyRefused,
            (_, LeakPolicy::Notify) => LeakAction::Notified,
            (_, LeakPolicy::Roll) => {
                key.bring_end_forward(stamp.at.after(self.grace), None, stamp.at);
                LeakAction::Ending
            }
        }
    }
}
