//! Keys that were found where they do not belong.

use std::str::FromStr;

use serde_json::json;
use sqlx::{AnyConnection, Row as _};
use thiserror::Error;

use crate::keys::{KeyDigest, KeyId, KeyState, KeyStatus};
use crate::store::columns::in_row;
use crate::store::connections::limited;
use crate::store::journal::{self, Action, Subject};
use crate::store::{LeakRule, Stamp, Store, StoreError, StoredKey, WRITE_LIMIT, buckets, keys};

/// What becomes of a key of a bucket that is reported as leaked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeakPolicy {
    /// It is noted and logged; people decide.
    Notify,
    /// It ends after a grace period, in which its owner has to put another in its place.
    Roll,
    /// It is refused from its next request on.
    Revoke,
}

/// Why a text is no [`LeakPolicy`].
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a leak policy is `notify`, `roll` or `revoke`")]
pub struct InvalidLeakPolicy;

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeakOutcome {
    /// What was done.
    pub action: LeakAction,
    /// The key as it is now.
    pub key: StoredKey,
    /// Whether the audit did not have it before: the key at this place, with nothing left to do about it.
    pub is_news: bool,
}

/// What was done about a leaked key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

impl LeakPolicy {
    /// Each of them, by its word.
    pub const WORDS: [&str; 3] = ["notify", "roll", "revoke"];

    /// The word that is stored and shown.
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
    /// Each of them, by its word.
    pub const WORDS: [&str; 4] = ["notified", "ending", "revoked", "already_refused"];

    /// The word that is told.
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
    /// Does what the key's bucket says about leaked keys. `None` when no key has this digest.
    pub async fn report_leak(
        &self,
        leak: &Leak,
        stamp: &Stamp,
    ) -> Result<Option<LeakOutcome>, StoreError> {
        limited(WRITE_LIMIT, self.report_leak_in_turn(leak, stamp)).await
    }

    async fn report_leak_in_turn(
        &self,
        leak: &Leak,
        stamp: &Stamp,
    ) -> Result<Option<LeakOutcome>, StoreError> {
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
            "UPDATE keys SET state = $2, expires_at = $3, deprecated_at = $4, own_expires_at = $5, updated_at = $6 WHERE id = $1",
        )
        .bind(id.as_str())
        .bind(key.state.as_str())
        .bind(key.attributes.expires_at.map(|at| at.0))
        .bind(key.rolled.map(|rolled| rolled.at.0))
        .bind(key.rolled.and_then(|rolled| rolled.own_end).map(|end| end.0))
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
    }
}

/// How many of the latest reports of a key are looked through for its place.
const LOOKED_THROUGH: i64 = 100;

/// Whether the audit has the key with this place already. Whoever reports the same thing again and again fills no table.
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
    /// Does to a key what the policy says.
    fn apply(self, key: &mut StoredKey, stamp: &Stamp) -> LeakAction {
        match (key.status(stamp.at), self.policy) {
            (KeyStatus::Revoked, _) => LeakAction::AlreadyRefused,
            // One that has expired too: an end can be put off again.
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
