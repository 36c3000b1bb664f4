//! What rows are read into. What the database holds is checked again: another program may have written it.

use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::keys::{
    BucketName, Consumer, ConsumerId, ConsumerName, KeyDigest, KeyEntry, KeyId, KeyState,
    KeyStatus, UnixMillis,
};
use crate::store::columns::{Column, Source, Stored, Value, columns, in_row, names, of_row};
use crate::store::{ConsumerAttributes, KeyAttributes, StoreError};

/// A consumer with what only administrators see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredConsumer {
    /// Its id, which never changes.
    pub id: ConsumerId,
    /// The namespace that its name is unique in.
    pub bucket: BucketName,
    /// Its name; the origin sees it.
    pub name: ConsumerName,
    /// What is said of it.
    pub attributes: ConsumerAttributes,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it was last changed.
    pub updated_at: UnixMillis,
}

columns!(StoredConsumer {
    id,
    bucket,
    name,
    attributes,
    created_at,
    updated_at
});

/// A row of `keys`.
pub(super) struct KeyRow {
    pub(super) id: KeyId,
    pub(super) consumer: ConsumerId,
    pub(super) digest: KeyDigest,
    pub(super) hint: String,
    pub(super) state: KeyState,
    pub(super) rolled: Option<Rolled>,
    pub(super) attributes: KeyAttributes,
    pub(super) created_at: UnixMillis,
    pub(super) updated_at: UnixMillis,
    pub(super) last_used_at: Option<UnixMillis>,
}

columns!(KeyRow {
    id, consumer as "consumer_id", digest, hint, state, rolled, attributes, created_at, updated_at, last_used_at
});

// What the tables of gateways hold.
columns!(Consumer {
    id,
    bucket,
    name,
    custom_id,
    metadata,
    scopes,
    allowed_ips
});
columns!(KeyEntry {
    digest, id, consumer as "consumer_id", state, expires_at, deprecated_at, scopes
});

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
    /// Since when it is to be replaced, and by which key; it goes on until it expires.
    pub rolled: Option<Rolled>,
    /// What is said of it.
    pub attributes: KeyAttributes,
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
            own_end: self.attributes.expires_at,
        });
        self.rolled = Some(Rolled {
            successor: successor.or(before.successor),
            ..before
        });
        let expires_at = &mut self.attributes.expires_at;
        *expires_at = Some(expires_at.map_or(end, |earlier| earlier.min(end)));
        self.updated_at = now;
    }

    /// Whether it is good at `now`, and if not, why.
    #[must_use]
    pub fn status(&self, now: UnixMillis) -> KeyStatus {
        KeyStatus::of(self.state, self.attributes.expires_at, now)
    }
}

/// `SELECT` of everything that [`of_row`] reads of a [`StoredConsumer`], with `c` for the table.
pub(super) fn select_consumer(rest: &str) -> String {
    format!(
        "SELECT {} FROM consumers c {rest}",
        names::<StoredConsumer>("c.")
    )
}

/// `SELECT` of everything that [`stored_key`] reads, with `k` and `c` for the tables.
pub(super) fn select_key(rest: &str) -> String {
    // Revoking is final, so there is one row that tells of it.
    let revoked = |column| {
        format!(
            "CASE WHEN k.state = 'revoked' THEN (SELECT a.{column} FROM audit a WHERE a.subject_id = k.id AND \
             (a.action = 'key.revoke' OR (a.action = 'key.leak' AND a.detail LIKE '%\"action\":\"revoked\"%')) \
             ORDER BY a.id LIMIT 1) END"
        )
    };
    format!(
        "SELECT {}, c.name, c.bucket, {} AS revoked_at, {} AS revoked_by \
         FROM keys k JOIN consumers c ON c.id = k.consumer_id {rest}",
        names::<KeyRow>("k."),
        revoked("at"),
        revoked("actor")
    )
}

pub(super) fn stored_key(row: &AnyRow) -> Result<StoredKey, StoreError> {
    let (consumer_name, bucket) = (in_row(row, "name")?, in_row(row, "bucket")?);
    Ok(of_row::<KeyRow>(row)?.stored(consumer_name, bucket, revocation(row)?))
}

impl KeyRow {
    /// The key of the consumer with this name, in this bucket.
    pub(super) fn stored(
        self,
        consumer_name: ConsumerName,
        bucket: BucketName,
        revoked: Option<Revocation>,
    ) -> StoredKey {
        let Self {
            id,
            consumer,
            digest: _,
            hint,
            state,
            rolled,
            attributes,
            created_at,
            updated_at,
            last_used_at,
        } = self;
        StoredKey {
            id,
            consumer,
            consumer_name,
            bucket,
            hint,
            state,
            rolled,
            attributes,
            created_at,
            updated_at,
            last_used_at,
            revoked,
        }
    }
}

/// Reads `revoked_at` and `revoked_by`.
fn revocation(row: &AnyRow) -> Result<Option<Revocation>, StoreError> {
    let by: Option<String> = row.try_get("revoked_by")?;
    let at: Option<UnixMillis> = in_row(row, "revoked_at")?;
    Ok(at.zip(by).map(|(at, by)| Revocation { at, by }))
}

/// The columns of [`Rolled`]; since when a key is to be replaced tells whether it is.
struct RolledColumns {
    deprecated_at: Option<UnixMillis>,
    successor: Option<KeyId>,
    own_expires_at: Option<UnixMillis>,
}

columns!(RolledColumns {
    deprecated_at,
    successor,
    own_expires_at
});

impl Stored for Option<Rolled> {
    fn columns(field: &'static str) -> Vec<Column> {
        RolledColumns::columns(field)
    }

    fn values(&self, take: &mut dyn FnMut(Value<'_>)) {
        let columns = RolledColumns {
            deprecated_at: self.map(|rolled| rolled.at),
            successor: self.and_then(|rolled| rolled.successor),
            own_expires_at: self.and_then(|rolled| rolled.own_end),
        };
        columns.values(take);
    }

    fn read<S: Source>(source: &mut S, field: &'static str) -> Result<Self, S::Error> {
        let RolledColumns {
            deprecated_at,
            successor,
            own_expires_at,
        } = Stored::read(source, field)?;
        Ok(deprecated_at.map(|at| Rolled {
            at,
            successor,
            own_end: own_expires_at,
        }))
    }
}
