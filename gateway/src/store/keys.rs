//! Keys in the store: digest and hint, never the key itself.

use std::borrow::Cow;

use serde_json::json;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use crate::keys::{BucketName, ConsumerId, ConsumerName, KeyDigest, KeyId, KeyState, Tags};
use crate::store::connections::limited;
use crate::store::journal::{self, Action, Subject};
use crate::store::rows::{KeyRow, select_key, stored_key};
use crate::store::{
    ConsumerAttributes, KeyAttributes, KeyRule, NewConsumer, Stamp, Store, StoreError,
    StoredConsumer, StoredKey, WRITE_LIMIT, bulk, consumers, plans,
};

/// A key to create.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Owner of the key.
    pub owner: Owner,
    /// SHA-256 of the key.
    pub digest: KeyDigest,
    /// First characters of the key, shown to people.
    pub hint: String,
    /// Attributes.
    pub attributes: KeyAttributes,
    /// Meaning of a missing expiry.
    pub end: NewEnd,
}

/// Meaning of a missing expiry of a new key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NewEnd {
    /// The default lifetime of the consumer's plan or bucket applies, if there is one.
    #[default]
    Default,
    /// The key is to have no end.
    Never,
}

/// Owner of a new key.
#[derive(Clone, Debug)]
pub enum Owner {
    /// An existing consumer.
    Id(ConsumerId),
    /// A consumer by name, created if missing with the scopes of the key.
    Named(BucketName, ConsumerName),
}

/// A created key.
#[derive(Clone, Debug)]
pub struct CreatedKey {
    /// The key.
    pub key: StoredKey,
    /// The consumer, if created with the key.
    pub new_consumer: Option<StoredConsumer>,
}

/// Result of a change of state.
#[derive(Clone, Debug)]
pub struct KeyStateChange {
    /// The key in its new state.
    pub key: StoredKey,
    /// The previous state; equal to the new one if nothing changed.
    pub before: KeyState,
}

impl Store {
    /// Creates a key, and its consumer as [`Owner`] defines, in one transaction. On return the key
    /// is durable.
    pub async fn create_key(&self, new: NewKey, stamp: &Stamp) -> Result<CreatedKey, StoreError> {
        limited(WRITE_LIMIT, async {
            let mut transaction = self.begin_write().await?;
            let created = create(&mut transaction, new, stamp).await?;
            transaction.commit_of(Some(created.key.id.as_str())).await?;
            Ok(created)
        })
        .await
    }

    /// Revokes, disables or enables a key. Idempotent; a revoked key stays revoked.
    pub async fn set_key_state(
        &self,
        id: &KeyId,
        state: KeyState,
        stamp: &Stamp,
    ) -> Result<KeyStateChange, StoreError> {
        limited(WRITE_LIMIT, async {
            let mut transaction = self.begin_write().await?;
            let mut key = guarded(&mut transaction, id, stamp).await?;
            let before = key.state;
            let action = match (before, state) {
                _ if before == state => return Ok(KeyStateChange { key, before }),
                (KeyState::Revoked, _) => return Err(StoreError::KeyRevoked(*id)),
                (_, KeyState::Revoked) => Action::KeyRevoke,
                (_, KeyState::Disabled) => Action::KeyDisable,
                (_, KeyState::Active) => Action::KeyEnable,
            };
            sqlx::query("UPDATE keys SET state = $2, updated_at = $3 WHERE id = $1")
                .bind(id.as_str())
                .bind(state.as_str())
                .bind(stamp.at.0)
                .execute(&mut *transaction)
                .await?;
            let detail = json!({ "before": before.as_str() });
            journal::record(&mut transaction, stamp, action, Subject::Key(id), &detail).await?;
            transaction.commit_of(Some(id.as_str())).await?;
            (key.state, key.updated_at) = (state, stamp.at);
            if state == KeyState::Revoked {
                key.revoked = Some(stamp.revocation());
            }
            Ok(KeyStateChange { key, before })
        })
        .await
    }

    /// Finds a key by its id.
    pub async fn key(&self, id: &KeyId) -> Result<Option<StoredKey>, StoreError> {
        by_id(&mut *self.pool.acquire().await?, id).await
    }

    /// Returns the number of a consumer's keys in any state.
    pub async fn count_keys(&self, consumer: &ConsumerId) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT count(*) AS keys FROM keys WHERE consumer_id = $1")
            .bind(consumer.as_str())
            .fetch_one(&self.pool)
            .await?;
        Ok(u64::try_from(row.try_get::<i64, _>("keys")?).unwrap_or_default())
    }
}

pub(super) async fn create(
    transaction: &mut AnyConnection,
    mut new: NewKey,
    stamp: &Stamp,
) -> Result<CreatedKey, StoreError> {
    let (owner, is_new) = find_owner(transaction, &new, stamp).await?;
    let rule = KeyRule::of(transaction, &owner).await?;
    let expires_at = &mut new.attributes.expires_at;
    if expires_at.is_none() && new.end == NewEnd::Default {
        *expires_at = rule.default_expiry(stamp.at);
    }
    rule.require_within_longest(*expires_at, stamp.at)?;
    rule.require_room(transaction, &owner, stamp.at).await?;
    require_within(transaction, &owner, &new.attributes).await?;
    let key = insert(transaction, new, None, &owner, stamp).await?;
    Ok(CreatedKey {
        key,
        new_consumer: is_new.then_some(owner),
    })
}

/// Refuses scopes that neither `owner` nor its plan has, and numbers above those of `owner`.
pub(super) async fn require_within(
    connection: &mut AnyConnection,
    owner: &StoredConsumer,
    attributes: &KeyAttributes,
) -> Result<(), StoreError> {
    let plan = plans::of(connection, owner.attributes.plan.as_ref()).await?;
    let plan = plan.map(|plan| plan.attributes);
    let granted = match &plan {
        None => Cow::Borrowed(&owner.attributes.scopes),
        Some(plan) => owner.attributes.scopes.with(&plan.scopes),
    };
    let scopes = attributes.scopes.as_ref();
    if let Some(scope) = scopes.and_then(|scopes| scopes.first_outside(&granted)) {
        return Err(StoreError::ScopeNotGranted {
            consumer: owner.name.to_string(),
            scope: scope.to_owned(),
        });
    }
    let (own, granted) = (attributes.allowance(), owner.attributes.allowance());
    let of_plan = plan.map(|plan| plan.allowance());
    match own.first_not_granted(&granted, of_plan.as_ref()) {
        None => Ok(()),
        Some(what) => Err(StoreError::LimitNotGranted {
            consumer: owner.name.to_string(),
            what,
        }),
    }
}

async fn find_owner(
    transaction: &mut AnyConnection,
    new: &NewKey,
    stamp: &Stamp,
) -> Result<(StoredConsumer, bool), StoreError> {
    match &new.owner {
        Owner::Id(id) => Ok((consumers::guarded(transaction, id, stamp).await?, false)),
        Owner::Named(bucket, name) => match consumers::by_name(transaction, bucket, name).await? {
            Some(owner) if owner.attributes.tags.include(&stamp.guard) => Ok((owner, false)),
            // A new consumer has no tags.
            None if Tags::default().include(&stamp.guard) => {
                let attributes = ConsumerAttributes {
                    scopes: new.attributes.scopes.clone().unwrap_or_default(),
                    ..ConsumerAttributes::default()
                };
                let consumer = NewConsumer {
                    bucket: bucket.clone(),
                    name: name.clone(),
                    attributes,
                };
                Ok((consumers::insert(transaction, consumer, stamp).await?, true))
            }
            Some(_) | None => Err(StoreError::TagMismatch),
        },
    }
}

/// Inserts a key. `chain` is the first key of the chain of rolls that it continues.
pub(super) async fn insert(
    transaction: &mut AnyConnection,
    new: NewKey,
    chain: Option<KeyId>,
    owner: &StoredConsumer,
    stamp: &Stamp,
) -> Result<StoredKey, StoreError> {
    let NewKey {
        owner: _,
        digest,
        hint,
        attributes,
        end: _,
    } = new;
    let row = KeyRow {
        id: KeyId::generate()?,
        consumer: owner.id,
        digest,
        hint,
        state: KeyState::Active,
        rolled: None,
        chain,
        attributes,
        created_at: stamp.at,
        updated_at: stamp.at,
        last_used_at: None,
    };
    bulk::insert_all(transaction, "keys", std::slice::from_ref(&row)).await?;
    let key = row.stored(owner.name.clone(), owner.bucket.clone(), None);
    let detail = json!({
        "consumer": key.consumer, "hint": key.hint, "expires_at": key.attributes.expires_at, "scopes": key.attributes.scopes,
    });
    journal::record(
        transaction,
        stamp,
        Action::KeyCreate,
        Subject::Key(&key.id),
        &detail,
    )
    .await?;
    Ok(key)
}

/// Loads the key of a change and verifies the tag precondition of its consumer.
pub(super) async fn guarded(
    connection: &mut AnyConnection,
    id: &KeyId,
    stamp: &Stamp,
) -> Result<StoredKey, StoreError> {
    let key = by_id(connection, id)
        .await?
        .ok_or(StoreError::UnknownKey(*id))?;
    consumers::guarded(connection, &key.consumer, stamp).await?;
    Ok(key)
}

pub(super) async fn by_id(
    connection: &mut AnyConnection,
    id: &KeyId,
) -> Result<Option<StoredKey>, StoreError> {
    let row = sqlx::query(AssertSqlSafe(select_key("WHERE k.id = $1")))
        .bind(id.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(stored_key).transpose()
}
