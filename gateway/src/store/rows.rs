//! Types that rows are read into. Values are validated: another program may have written them.

use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::keys::{
    Allowance, BucketName, Consumer, ConsumerId, ConsumerName, KeyDigest, KeyEntry, KeyId,
    KeyState, KeyStatus, Plan, Restrictions, UnixMillis,
};
use crate::store::columns::{Column, Source, Stored, Value, columns, in_row, names, of_row};
use crate::store::{ConsumerAttributes, KeyAttributes, StoreError};

/// A consumer with its administrative attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredConsumer {
    /// Immutable id.
    pub id: ConsumerId,
    /// Namespace of the name.
    pub bucket: BucketName,
    /// Name, unique in the bucket; sent to the origin.
    pub name: ConsumerName,
    /// Attributes.
    pub attributes: ConsumerAttributes,
    /// Time of creation.
    pub created_at: UnixMillis,
    /// Time of the last change.
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
    pub(super) chain: Option<KeyId>,
    pub(super) attributes: KeyAttributes,
    pub(super) created_at: UnixMillis,
    pub(super) updated_at: UnixMillis,
    pub(super) last_used_at: Option<UnixMillis>,
}

columns!(KeyRow {
    id, consumer as "consumer_id", digest, hint, state, rolled, chain, attributes, created_at, updated_at, last_used_at
});

// Columns for the gateways' tables.
columns!(Consumer {
    id,
    bucket,
    name,
    custom_id,
    metadata,
    scopes,
    allowed_ips,
    plan,
    allowance,
    tags,
    created_at
});
columns!(KeyEntry {
    digest, id, consumer as "consumer_id", state, expires_at, deprecated_at, scopes, allowance, restrictions, chain
});
columns!(Restrictions {
    ips as "allowed_ips", methods as "allowed_methods", routes as "allowed_routes"
});
columns!(Plan {
    name,
    scopes,
    allowance
});
columns!(Allowance {
    rates as "limits", quotas, max_in_flight
});

/// A key with its administrative attributes. The plain key is not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// Public id.
    pub id: KeyId,
    /// Owner of the key.
    pub consumer: ConsumerId,
    /// Name of the consumer.
    pub consumer_name: ConsumerName,
    /// Bucket of the consumer.
    pub bucket: BucketName,
    /// First characters of the key, shown to people.
    pub hint: String,
    /// State set by an administrator.
    pub state: KeyState,
    /// Deprecation by a roll; the key is valid until its expiry.
    pub rolled: Option<Rolled>,
    /// First key of the chain of rolls that made the key; `None` for a key that replaced none.
    pub chain: Option<KeyId>,
    /// Attributes.
    pub attributes: KeyAttributes,
    /// Time of creation.
    pub created_at: UnixMillis,
    /// Time of the last change.
    pub updated_at: UnixMillis,
    /// Time of the last use, if known.
    pub last_used_at: Option<UnixMillis>,
    /// Revocation, if the audit still has it.
    pub revoked: Option<Revocation>,
}

/// Revocation of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Time.
    pub at: UnixMillis,
    /// Actor in the audit.
    pub by: String,
}

/// Deprecation of a key with a shortened expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rolled {
    /// Time of the roll.
    pub at: UnixMillis,
    /// Successor; `None` for a leaked key without one.
    pub successor: Option<KeyId>,
    /// Expiry before the roll shortened it; the successor inherits it. `None` for a key that never
    /// expires.
    pub original_expiry: Option<UnixMillis>,
}

impl StoredKey {
    /// Deprecates the key and shortens its expiry, never extends it. `successor` replaces the key,
    /// if known already.
    pub(super) fn bring_end_forward(
        &mut self,
        end: UnixMillis,
        successor: Option<KeyId>,
        now: UnixMillis,
    ) {
        let before = self.rolled.unwrap_or(Rolled {
            at: now,
            successor: None,
            original_expiry: self.attributes.expires_at,
        });
        self.rolled = Some(Rolled {
            successor: successor.or(before.successor),
            ..before
        });
        let expires_at = &mut self.attributes.expires_at;
        *expires_at = Some(expires_at.map_or(end, |earlier| earlier.min(end)));
        self.updated_at = now;
    }

    /// Returns the status at `now`.
    #[must_use]
    pub fn status(&self, now: UnixMillis) -> KeyStatus {
        KeyStatus::of(self.state, self.attributes.expires_at, now)
    }
}

/// `SELECT` of the columns that [`of_row`] reads into a [`StoredConsumer`], with `c` as the table.
pub(super) fn select_consumer(rest: &str) -> String {
    format!(
        "SELECT {} FROM consumers c {rest}",
        names::<StoredConsumer>("c.")
    )
}

/// `SELECT` of the columns that [`stored_key`] reads, with `k` and `c` as the tables.
pub(super) fn select_key(rest: &str) -> String {
    // At most one row: revoking is final.
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
    /// Adds the consumer's name and bucket.
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
            chain,
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
            chain,
            attributes,
            created_at,
            updated_at,
            last_used_at,
            revoked,
        }
    }
}

/// Parses `revoked_at` and `revoked_by`.
fn revocation(row: &AnyRow) -> Result<Option<Revocation>, StoreError> {
    let by: Option<String> = row.try_get("revoked_by")?;
    let at: Option<UnixMillis> = in_row(row, "revoked_at")?;
    Ok(at.zip(by).map(|(at, by)| Revocation { at, by }))
}

/// Columns of [`Rolled`]; `deprecated_at` is null for a key that was not rolled.
struct RolledColumns {
    deprecated_at: Option<UnixMillis>,
    successor: Option<KeyId>,
    original_expires_at: Option<UnixMillis>,
}

columns!(RolledColumns {
    deprecated_at,
    successor,
    original_expires_at
});

impl Stored for Option<Rolled> {
    fn columns(field: &'static str) -> Vec<Column> {
        RolledColumns::columns(field)
    }

    fn values(&self, take: &mut dyn FnMut(Value<'_>)) {
        let columns = RolledColumns {
            deprecated_at: self.map(|rolled| rolled.at),
            successor: self.and_then(|rolled| rolled.successor),
            original_expires_at: self.and_then(|rolled| rolled.original_expiry),
        };
        columns.values(take);
    }

    fn read<S: Source>(source: &mut S, field: &'static str) -> Result<Self, S::Error> {
        let RolledColumns {
            deprecated_at,
            successor,
            original_expires_at,
        } = Stored::read(source, field)?;
        Ok(deprecated_at.map(|at| Rolled {
            at,
            successor,
            original_expiry: original_expires_at,
        }))
    }
}
