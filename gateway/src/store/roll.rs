//! Rolling: a new key replaces others, which stay valid for a grace period.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::json;
use sqlx::{AnyConnection, AssertSqlSafe};
use thiserror::Error;

use crate::keys::{ConsumerId, KeyDigest, KeyId, KeyStatus, UnixMillis};
use crate::store::bulk::In;
use crate::store::connections::limited;
use crate::store::journal::{self, Action, Mutation, Subject};
use crate::store::rows::{select_key, stored_key};
use crate::store::{
    KeyAttributes, KeyRule, NewEnd, NewKey, Owner, Stamp, Store, StoreError, StoredKey,
    WRITE_LIMIT, bulk, consumers, keys,
};

/// Bulk form of [`StoredKey::bring_end_forward`].
const BRING_END_FORWARD: In = In {
    before: Cow::Borrowed(
        "UPDATE keys SET original_expires_at = CASE WHEN deprecated_at IS NULL THEN expires_at ELSE original_expires_at END, \
         expires_at = CASE WHEN expires_at < $1 THEN expires_at ELSE $2 END, deprecated_at = COALESCE(deprecated_at, $3), \
         successor = $4, updated_at = $5 WHERE id",
    ),
    values: 5,
    after: "",
};

/// Keys to replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollTarget {
    /// A single key.
    Key(KeyId),
    /// All active keys of a consumer. The new key inherits from the newest of them.
    Consumer(ConsumerId),
}

/// A roll: one new key in place of others.
#[derive(Clone, Debug)]
pub struct Roll {
    /// Keys to replace.
    pub target: RollTarget,
    /// SHA-256 of the new key.
    pub digest: KeyDigest,
    /// First characters of the new key, shown to people.
    pub hint: String,
    /// Maximum remaining life of the replaced keys; zero expires them at once. Never extends the
    /// life of a key.
    pub grace: Duration,
}

/// Result of a roll.
#[derive(Clone, Debug)]
pub struct RolledKeys {
    /// The new key.
    pub key: StoredKey,
    /// The replaced keys in their new state.
    pub ending: Vec<StoredKey>,
}

/// Reason why keys cannot be rolled.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidRoll {
    /// The key is not active: a new one would restore access.
    #[error("key {id} is {}, and only an active key can be rolled; create a new key instead", status.as_str())]
    NotGood {
        /// The key.
        id: KeyId,
        /// Its status.
        status: KeyStatus,
    },
    /// No active key to inherit from.
    #[error("consumer {0} has no active key to roll; create a new key instead")]
    NoneGood(ConsumerId),
}

impl Store {
    /// Creates a key with the attributes and the original expiry of the replaced one, and expires
    /// the replaced keys after the grace period, all in one transaction.
    pub async fn roll(&self, roll: Roll, stamp: &Stamp) -> Result<RolledKeys, StoreError> {
        limited(WRITE_LIMIT, async {
            let mut transaction = self.begin_write().await?;
            let rolled = replace(&mut transaction, roll, stamp).await?;
            transaction.commit_of(Some(rolled.key.id.as_str())).await?;
            Ok(rolled)
        })
        .await
    }
}

/// Like [`Store::roll`], inside a transaction.
pub(super) async fn replace(
    transaction: &mut AnyConnection,
    roll: Roll,
    stamp: &Stamp,
) -> Result<RolledKeys, StoreError> {
    let replaced = match roll.target {
        RollTarget::Key(id) => vec![the_good_one(transaction, id, stamp.at).await?],
        RollTarget::Consumer(id) => all_good_ones(transaction, &id, stamp.at).await?,
    };
    // The newest is the last.
    let Some(model) = replaced.last().cloned() else {
        return Err(match roll.target {
            RollTarget::Key(id) => StoreError::UnknownKey(id),
            RollTarget::Consumer(id) => InvalidRoll::NoneGood(id).into(),
        });
    };
    let owner = consumers::guarded(transaction, &model.consumer, stamp).await?;
    let rule = KeyRule::of(transaction, &owner).await?;
    if replaced.iter().all(|key| key.rolled.is_some()) {
        // They do not count any more, so the new key is one more.
        rule.require_room(transaction, &owner, stamp.at).await?;
    }
    // Original expiry of the replaced key, whether or not it was rolled or leaked before.
    let end = model
        .rolled
        .map_or(model.attributes.expires_at, |rolled| rolled.original_expiry);
    let new = NewKey {
        owner: Owner::Id(model.consumer),
        digest: roll.digest,
        hint: roll.hint,
        attributes: KeyAttributes {
            expires_at: rule.within_longest(end, stamp.at),
            ..model.attributes
        },
        end: NewEnd::Default,
    };
    let chain = model.chain.unwrap_or(model.id);
    let key = keys::insert(transaction, new, Some(chain), &owner, stamp).await?;
    let ending = end_all(transaction, replaced, &key.id, roll.grace, stamp).await?;
    Ok(RolledKeys { key, ending })
}

async fn the_good_one(
    connection: &mut AnyConnection,
    id: KeyId,
    now: UnixMillis,
) -> Result<StoredKey, StoreError> {
    let key = keys::by_id(connection, &id)
        .await?
        .ok_or(StoreError::UnknownKey(id))?;
    match status_at_turn(&key, now) {
        KeyStatus::Active => Ok(key),
        status => Err(InvalidRoll::NotGood { id, status }.into()),
    }
}

/// Returns the status of a key under the write lock, for a call that began at `now`. An earlier
/// holder of the lock may have used a faster clock or a later start: of two concurrent rolls
/// without grace, the second finds the key expired.
fn status_at_turn(key: &StoredKey, now: UnixMillis) -> KeyStatus {
    key.status(now.max(key.updated_at))
}

/// Sorted by creation.
async fn all_good_ones(
    connection: &mut AnyConnection,
    consumer: &ConsumerId,
    now: UnixMillis,
) -> Result<Vec<StoredKey>, StoreError> {
    if consumers::by_id(connection, consumer).await?.is_none() {
        return Err(consumers::unknown(consumer));
    }
    let rows = sqlx::query(AssertSqlSafe(select_key(
        "WHERE k.consumer_id = $1 AND k.state = 'active' ORDER BY k.created_at, k.id",
    )))
    .bind(consumer.as_str())
    .fetch_all(connection)
    .await?;
    let mut good = Vec::with_capacity(rows.len());
    for row in &rows {
        let key = stored_key(row)?;
        if status_at_turn(&key, now) == KeyStatus::Active {
            good.push(key);
        }
    }
    Ok(good)
}

/// Expires `replaced`, all keys of one consumer, after the grace period. Uses few statements: there
/// may be many keys, and all other writers wait.
async fn end_all(
    transaction: &mut AnyConnection,
    mut replaced: Vec<StoredKey>,
    successor: &KeyId,
    grace: Duration,
    stamp: &Stamp,
) -> Result<Vec<StoredKey>, StoreError> {
    let end = stamp.at.after(grace);
    let ids: Vec<KeyId> = replaced.iter().map(|key| key.id).collect();
    bulk::each_in(
        transaction,
        &BRING_END_FORWARD,
        |query| {
            query
                .bind(end.0)
                .bind(end.0)
                .bind(stamp.at.0)
                .bind(successor.as_str())
                .bind(stamp.at.0)
        },
        &ids,
        |query, id| query.bind(id.as_str()),
        |_| Ok(()),
    )
    .await?;
    for key in &mut replaced {
        key.bring_end_forward(end, Some(*successor), stamp.at);
    }
    let mutations = replaced.iter().map(|key| Mutation {
        action: Action::KeyRoll,
        subject: Subject::Key(&key.id),
        detail: json!({ "successor": successor, "expires_at": key.attributes.expires_at }),
    });
    journal::record_many(transaction, stamp, &mutations.collect::<Vec<_>>()).await?;
    Ok(replaced)
}
