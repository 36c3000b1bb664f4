//! From rows to the domain. What the database holds is checked again: another program may have written it.

use std::fmt::Display;
use std::str::FromStr;

use sqlx::Row;
use sqlx::any::AnyRow;

use crate::keys::{
    BucketName, Consumer, ConsumerId, ConsumerName, Description, KeyDigest, KeyEntry, KeyId,
    KeyState, KeyStatus, Scopes, Tag, Tags, UnixMillis,
};
use crate::store::StoreError;

/// A consumer with what only administrators see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredConsumer {
    /// What requests see too.
    pub consumer: Consumer,
    /// A note.
    pub description: Option<Description>,
    /// What it is sorted by.
    pub tags: Tags,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it was last changed.
    pub updated_at: UnixMillis,
}

/// A key as administrators see it. The key itself is nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// Its public id.
    pub id: KeyId,
    /// Whose it is.
    pub consumer: ConsumerId,
    /// The name of whose it is.
    pub consumer_name: ConsumerName,
    /// The bucket of whose it is.
    pub bucket: BucketName,
    /// The beginning of the key, to recognise it by.
    pub hint: String,
    /// What was done to it.
    pub state: KeyState,
    /// From when on it is refused; `None` is never.
    pub expires_at: Option<UnixMillis>,
    /// Since when it is to be replaced, and by which key; it goes on until it expires.
    pub rolled: Option<Rolled>,
    /// What it may do; `None` is all that its consumer may.
    pub scopes: Option<Scopes>,
    /// A note.
    pub description: Option<Description>,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it was last changed.
    pub updated_at: UnixMillis,
    /// When it was last used, as far as that is known.
    pub last_used_at: Option<UnixMillis>,
    /// That it was revoked, as far as the audit goes back.
    pub revoked: Option<Revocation>,
}

/// That a key was revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// When.
    pub at: UnixMillis,
    /// By whom, as the audit has it.
    pub by: String,
}

/// That a key is to be replaced before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rolled {
    /// Since when.
    pub at: UnixMillis,
    /// By which key; `None` when it leaked, and its owner has to make one.
    pub successor: Option<KeyId>,
    /// When it would end had that not been brought forward: its successor inherits it. `None` is never.
    pub own_end: Option<UnixMillis>,
}

impl StoredKey {
    /// Brings its end forward, never back, because another key is to take its place: `successor`, if there is one already.
    pub(super) fn bring_end_forward(
        &mut self,
        end: UnixMillis,
        successor: Option<KeyId>,
        now: UnixMillis,
    ) {
        let before = self.rolled.unwrap_or(Rolled {
            at: now,
            successor: None,
            own_end: self.expires_at,
        });
        self.rolled = Some(Rolled {
            successor: successor.or(before.successor),
            ..before
        });
        self.expires_at = Some(self.expires_at.map_or(end, |earlier| earlier.min(end)));
        self.updated_at = now;
    }

    /// Whether it is good at `now`, and if not, why.
    #[must_use]
    pub fn status(&self, now: UnixMillis) -> KeyStatus {
        KeyStatus::of(self.state, self.expires_at, now)
    }
}

/// `SELECT` of everything that [`consumer`] and [`stored_consumer`] read, with `c` for the table.
macro_rules! select_consumer {
    ($rest:literal) => {
        concat!(
            "SELECT c.id, c.bucket, c.name, c.custom_id, c.metadata, c.scopes, c.allowed_ips, c.description, c.tags, c.created_at, ",
            "c.updated_at FROM consumers c ",
            $rest
        )
    };
}
pub(super) use select_consumer;

/// `SELECT` of everything that [`stored_key`] reads, with `k` and `c` for the tables.
macro_rules! select_key {
    ($rest:literal) => {
        concat!(
            "SELECT k.id, k.consumer_id, c.name, c.bucket, k.hint, k.state, k.expires_at, k.deprecated_at, k.successor, k.own_expires_at, ",
            "k.scopes, k.description, k.created_at, k.updated_at, k.last_used_at, ",
            // Revoking is final, so there is one row that tells of it.
            "CASE WHEN k.state = 'revoked' THEN (SELECT a.at FROM audit a WHERE a.subject_id = k.id AND (a.action = 'key.revoke' ",
            "OR (a.action = 'key.leak' AND a.detail LIKE '%\"action\":\"revoked\"%')) ORDER BY a.id LIMIT 1) END AS revoked_at, ",
            "CASE WHEN k.state = 'revoked' THEN (SELECT a.actor FROM audit a WHERE a.subject_id = k.id AND (a.action = 'key.revoke' ",
            "OR (a.action = 'key.leak' AND a.detail LIKE '%\"action\":\"revoked\"%')) ORDER BY a.id LIMIT 1) END AS revoked_by ",
            "FROM keys k JOIN consumers c ON c.id = k.consumer_id ",
            $rest
        )
    };
}
pub(super) use select_key;

pub(super) fn stored_consumer(row: &AnyRow) -> Result<StoredConsumer, StoreError> {
    Ok(StoredConsumer {
        consumer: consumer(row)?,
        description: optional(row, "description")?,
        tags: tags(row.try_get("tags")?)?,
        created_at: UnixMillis(row.try_get("created_at")?),
        updated_at: UnixMillis(row.try_get("updated_at")?),
    })
}

pub(super) fn stored_key(row: &AnyRow) -> Result<StoredKey, StoreError> {
    Ok(StoredKey {
        id: required(row, "id")?,
        consumer: required(row, "consumer_id")?,
        consumer_name: required(row, "name")?,
        bucket: required(row, "bucket")?,
        hint: row.try_get("hint")?,
        state: state(row)?,
        expires_at: optional_time(row, "expires_at")?,
        rolled: rolled(row)?,
        scopes: optional(row, "scopes")?,
        description: optional(row, "description")?,
        created_at: UnixMillis(row.try_get("created_at")?),
        updated_at: UnixMillis(row.try_get("updated_at")?),
        last_used_at: optional_time(row, "last_used_at")?,
        revoked: revocation(row)?,
    })
}

/// Reads `id`, `bucket`, `name`, `custom_id`, `metadata`, `scopes` and `allowed_ips`.
pub(super) fn consumer(row: &AnyRow) -> Result<Consumer, StoreError> {
    Ok(Consumer {
        id: required(row, "id")?,
        bucket: required(row, "bucket")?,
        name: required(row, "name")?,
        custom_id: optional(row, "custom_id")?,
        metadata: optional(row, "metadata")?,
        scopes: required(row, "scopes")?,
        allowed_ips: required(row, "allowed_ips")?,
    })
}

/// Reads `digest`, `id`, `consumer_id`, `state`, `expires_at`, `deprecated_at` and `scopes`.
pub(super) fn key_entry(row: &AnyRow) -> Result<KeyEntry, StoreError> {
    Ok(KeyEntry {
        digest: digest_in(row, "digest")?,
        id: required(row, "id")?,
        consumer: required(row, "consumer_id")?,
        state: state(row)?,
        expires_at: optional_time(row, "expires_at")?,
        deprecated_at: optional_time(row, "deprecated_at")?,
        scopes: optional(row, "scopes")?,
    })
}

/// Reads `deprecated_at`, `successor` and `own_expires_at`.
pub(super) fn rolled(row: &AnyRow) -> Result<Option<Rolled>, StoreError> {
    match optional_time(row, "deprecated_at")? {
        Some(at) => {
            let (successor, own_end) = (
                optional(row, "successor")?,
                optional_time(row, "own_expires_at")?,
            );
            Ok(Some(Rolled {
                at,
                successor,
                own_end,
            }))
        }
        None => Ok(None),
    }
}

/// Reads `revoked_at` and `revoked_by`.
fn revocation(row: &AnyRow) -> Result<Option<Revocation>, StoreError> {
    let by: Option<String> = row.try_get("revoked_by")?;
    let at = optional_time(row, "revoked_at")?;
    Ok(at.zip(by).map(|(at, by)| Revocation { at, by }))
}

/// Reads a column that holds a digest.
pub(super) fn digest_in(row: &AnyRow, column: &'static str) -> Result<KeyDigest, StoreError> {
    let bytes: &[u8] = row.try_get(column)?;
    KeyDigest::try_from(bytes).map_err(|error| unreadable(column, error))
}

pub(super) fn required<T: FromStr<Err: Display>>(
    row: &AnyRow,
    column: &'static str,
) -> Result<T, StoreError> {
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|error| unreadable(column, error))
}

pub(super) fn optional<T: FromStr<Err: Display>>(
    row: &AnyRow,
    column: &'static str,
) -> Result<Option<T>, StoreError> {
    let text: Option<&str> = row.try_get(column)?;
    text.map(str::parse)
        .transpose()
        .map_err(|error| unreadable(column, error))
}

pub(super) fn optional_time(
    row: &AnyRow,
    column: &'static str,
) -> Result<Option<UnixMillis>, StoreError> {
    let millis: Option<i64> = row.try_get(column)?;
    Ok(millis.map(UnixMillis))
}

fn state(row: &AnyRow) -> Result<KeyState, StoreError> {
    let text: &str = row.try_get("state")?;
    KeyState::parse(text)
        .ok_or_else(|| unreadable("state", "it is none of active, disabled and revoked"))
}

fn tags(json: &str) -> Result<Tags, StoreError> {
    let tags: std::collections::BTreeMap<String, String> =
        serde_json::from_str(json).map_err(|error| unreadable("tags", error))?;
    let tags: Result<Vec<Tag>, _> = tags
        .iter()
        .map(|(name, value)| Tag::new(name, value))
        .collect();
    tags.and_then(Tags::new)
        .map_err(|error| unreadable("tags", error))
}

fn unreadable(what: &'static str, reason: impl Display) -> StoreError {
    StoreError::UnreadableRow {
        what,
        reason: reason.to_string(),
    }
}
