//! Bulk import of consumers and keys, from another store or another system. An import adds; it
//! never changes existing rows.

use std::collections::{HashMap, HashSet};

use serde_json::json;
use sqlx::{AnyConnection, Executor, Row};
use thiserror::Error;

use crate::keys::{BucketName, ConsumerId, ConsumerName, CustomId, KeyDigest, KeyId, PlanName};
use crate::store::bulk::In;
use crate::store::columns::{in_row, of_row};
use crate::store::connections::limited;
use crate::store::journal::{self, Action, Mutation, Subject};
use crate::store::rows::{KeyRow, select_consumer};
use crate::store::transfer::{TransferConsumer, TransferKey, TransferRow};
use crate::store::{
    BATCH_LIMIT, ConsumerAttributes, Database, Stamp, Store, StoreError, StoredConsumer, bulk,
    postgres,
};

/// Effect of importing a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Adds a consumer or a key.
    New,
    /// Already present: the key with the same consumer, or the consumer of a row without a key.
    Already,
    /// Contradicts the store.
    Conflict(ImportConflict),
}

/// Reason why a row contradicts the store.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ImportConflict {
    /// The bucket does not exist.
    #[error("there is no such bucket")]
    NoBucket,
    /// The plan does not exist.
    #[error("there is no such plan")]
    NoPlan,
    /// The key belongs to another consumer.
    #[error("the key belongs to another consumer")]
    KeyOfAnother,
    /// The consumer exists with a different value of this field.
    #[error("the consumer exists with another {0}; give the same, or omit it to add the key only")]
    ConsumerDiffers(&'static str),
    /// The value of this unique field is taken.
    #[error("{0} is already taken")]
    Taken(&'static str),
}

/// Result of a batch of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Number of consumers created.
    pub consumers: u64,
    /// Number of keys added.
    pub keys: u64,
    /// Number of rows already present.
    pub already: u64,
    /// Conflicting rows by line number; skipped.
    pub conflicts: Vec<(u64, ImportConflict)>,
}

/// Contents of the store that a batch refers to.
#[derive(Default)]
struct Known {
    buckets: HashSet<String>,
    plans: HashSet<String>,
    /// Consumers by bucket and name.
    consumers: HashMap<(String, String), StoredConsumer>,
    consumer_ids: HashSet<String>,
    /// Pairs of bucket and custom id.
    custom_ids: HashSet<(String, String)>,
    /// Bucket and consumer name of each key.
    keys: HashMap<KeyDigest, (String, String)>,
    key_ids: HashSet<String>,
}

impl Store {
    /// Returns the verdict on each row without importing it. Compares rows with the store only, not
    /// with each other.
    pub async fn classify_import(&self, rows: &[TransferRow]) -> Result<Vec<Verdict>, StoreError> {
        let known = Known::of(&mut *self.pool.acquire().await?, rows).await?;
        Ok(rows.iter().map(|row| known.classify(row)).collect())
    }

    /// Adds the new rows in one transaction, each with its audit row and its feed row. Existing
    /// rows stay as they are, so an import can be repeated. Rows must not contradict each other.
    pub async fn import(
        &self,
        rows: &[TransferRow],
        stamp: &Stamp,
    ) -> Result<Imported, StoreError> {
        limited(BATCH_LIMIT, self.import_in_turn(rows, stamp)).await
    }

    async fn import_in_turn(
        &self,
        rows: &[TransferRow],
        stamp: &Stamp,
    ) -> Result<Imported, StoreError> {
        let mut transaction = self.begin_write().await?;
        self.prepare_for_many(&mut transaction).await?;
        let known = Known::of(&mut transaction, rows).await?;
        let mut consumer_ids = ConsumerId::generate_run(rows.len())?.into_iter();
        let mut key_ids = KeyId::generate_run(rows.len())?.into_iter();
        let mut imported = Imported::default();
        let (mut consumers, mut keys) = (Vec::new(), Vec::new());
        let mut made: HashMap<(&str, &str), ConsumerId> = HashMap::new();
        let mut added: HashSet<&KeyDigest> = HashSet::new();
        for row in rows {
            match known.classify(row) {
                Verdict::New => {}
                Verdict::Already => {
                    imported.already += 1;
                    continue;
                }
                Verdict::Conflict(conflict) => {
                    imported.conflicts.push((row.line, conflict));
                    continue;
                }
            }
            let from = &row.consumer;
            let name = (from.bucket.as_str(), from.name.as_str());
            let consumer = match (known.consumer(from), made.get(&name)) {
                (Some(stored), _) => stored.id,
                (None, Some(id)) => *id,
                (None, None) => {
                    let id = from
                        .id
                        .or_else(|| consumer_ids.next())
                        .map_or_else(ConsumerId::generate, Ok)?;
                    made.insert(name, id);
                    consumers.push(new_consumer(id, from, stamp));
                    id
                }
            };
            match &row.key {
                Some(from) if added.insert(&from.digest) => {
                    let id = from
                        .id
                        .or_else(|| key_ids.next())
                        .map_or_else(KeyId::generate, Ok)?;
                    keys.push(new_key(id, consumer, from, stamp));
                }
                Some(_) => imported.already += 1,
                None => {}
            }
        }
        (imported.consumers, imported.keys) = (consumers.len() as u64, keys.len() as u64);
        bulk::insert_all(&mut transaction, "consumers", &consumers).await?;
        bulk::insert_all(&mut transaction, "keys", &keys).await?;
        let mutations: Vec<Mutation<'_>> = consumers
            .iter()
            .map(consumer_mutation)
            .chain(keys.iter().map(key_mutation))
            .collect();
        journal::record_many(&mut transaction, stamp, &mutations).await?;
        transaction.commit().await?;
        Ok(imported)
    }

    /// Enlarges SQLite's cache for the indexes that every batch updates at random, above all that
    /// of digests.
    async fn prepare_for_many(&self, transaction: &mut AnyConnection) -> Result<(), StoreError> {
        match &self.database {
            Database::Sqlite(_) => {
                // 128 MB of pages; a checkpoint after every 64 MB of log instead of every 4.
                transaction
                    .execute("PRAGMA cache_size = -131072; PRAGMA wal_autocheckpoint = 16384;")
                    .await?;
            }
            // The cache belongs to the server.
            Database::Postgres(_) => {
                transaction.execute(postgres::LONG_STATEMENTS).await?;
            }
        }
        Ok(())
    }
}

impl Known {
    async fn of(connection: &mut AnyConnection, rows: &[TransferRow]) -> Result<Self, StoreError> {
        let mut known = Self::default();
        let buckets: HashSet<&str> = rows
            .iter()
            .map(|row| row.consumer.bucket.as_str())
            .collect();
        for bucket in buckets {
            let here = || {
                rows.iter()
                    .map(|row| &row.consumer)
                    .filter(|consumer| consumer.bucket.as_str() == bucket)
            };
            known
                .look_up_bucket(
                    connection,
                    bucket,
                    here().map(|consumer| &consumer.name),
                    here().filter_map(|consumer| consumer.attributes.custom_id.as_ref()),
                )
                .await?;
        }
        let plans: HashSet<&PlanName> = rows
            .iter()
            .filter_map(|row| row.consumer.attributes.plan.as_ref())
            .collect();
        for plan in plans {
            let found = sqlx::query("SELECT name FROM plans WHERE name = $1")
                .bind(plan.as_str())
                .fetch_optional(&mut *connection)
                .await?;
            known.plans.extend(found.map(|_| plan.to_string()));
        }
        let digests: Vec<&KeyDigest> = rows
            .iter()
            .filter_map(|row| Some(&row.key.as_ref()?.digest))
            .collect();
        let select = "SELECT k.digest, c.bucket, c.name FROM keys k JOIN consumers c ON c.id = k.consumer_id WHERE k.digest";
        bulk::each_in(
            connection,
            &In::select(select),
            |query| query,
            &digests,
            |query, digest| query.bind(digest.as_bytes().as_slice()),
            |row| {
                known.keys.insert(
                    in_row(row, "digest")?,
                    (row.try_get("bucket")?, row.try_get("name")?),
                );
                Ok(())
            },
        )
        .await?;
        let ids: Vec<KeyId> = rows.iter().filter_map(|row| row.key.as_ref()?.id).collect();
        known.key_ids = ids_in(
            connection,
            "SELECT k.id FROM keys k WHERE k.id",
            &ids,
            KeyId::as_str,
        )
        .await?;
        let ids: Vec<ConsumerId> = rows.iter().filter_map(|row| row.consumer.id).collect();
        known.consumer_ids = ids_in(
            connection,
            "SELECT c.id FROM consumers c WHERE c.id",
            &ids,
            ConsumerId::as_str,
        )
        .await?;
        Ok(known)
    }

    async fn look_up_bucket<'r>(
        &mut self,
        connection: &mut AnyConnection,
        bucket: &str,
        names: impl Iterator<Item = &'r ConsumerName>,
        custom_ids: impl Iterator<Item = &'r CustomId>,
    ) -> Result<(), StoreError> {
        let found = sqlx::query("SELECT name FROM buckets WHERE name = $1")
            .bind(bucket)
            .fetch_optional(&mut *connection)
            .await?;
        if found.is_none() {
            return Ok(());
        }
        self.buckets.insert(bucket.to_owned());
        let mut names: Vec<&str> = names.map(ConsumerName::as_str).collect();
        names.dedup();
        bulk::each_in(
            connection,
            &In {
                before: select_consumer("WHERE c.bucket = $1 AND c.name").into(),
                values: 1,
                after: "",
            },
            |query| query.bind(bucket.to_owned()),
            &names,
            |query, name| query.bind(*name),
            |row| {
                let stored: StoredConsumer = of_row(row)?;
                let name = (stored.bucket.to_string(), stored.name.to_string());
                self.consumers.insert(name, stored);
                Ok(())
            },
        )
        .await?;
        let custom_ids: Vec<&str> = custom_ids.map(CustomId::as_str).collect();
        let before = "SELECT c.custom_id FROM consumers c WHERE c.bucket = $1 AND c.custom_id";
        bulk::each_in(
            connection,
            &In {
                before: before.into(),
                values: 1,
                after: "",
            },
            |query| query.bind(bucket.to_owned()),
            &custom_ids,
            |query, id| query.bind(*id),
            |row| {
                self.custom_ids
                    .insert((bucket.to_owned(), row.try_get("custom_id")?));
                Ok(())
            },
        )
        .await
    }

    fn consumer(&self, named: &TransferConsumer) -> Option<&StoredConsumer> {
        self.consumers.get(&owner(named))
    }

    fn classify(&self, row: &TransferRow) -> Verdict {
        let consumer = &row.consumer;
        if !self.buckets.contains(consumer.bucket.as_str()) {
            return Verdict::Conflict(ImportConflict::NoBucket);
        }
        // Checked first: a second run of the same file succeeds even if the consumer was edited in
        // between.
        if let Some(of) = row.key.as_ref().and_then(|key| self.keys.get(&key.digest)) {
            let is_same = *of == owner(consumer);
            return if is_same {
                Verdict::Already
            } else {
                Verdict::Conflict(ImportConflict::KeyOfAnother)
            };
        }
        let stored = self.consumer(consumer);
        let conflict = match stored {
            Some(stored) => difference(consumer, stored).map(ImportConflict::ConsumerDiffers),
            None => self.new_conflict(consumer),
        };
        if let Some(conflict) = conflict {
            return Verdict::Conflict(conflict);
        }
        match &row.key {
            Some(TransferKey { id: Some(id), .. }) if self.key_ids.contains(id.as_str()) => {
                Verdict::Conflict(ImportConflict::Taken("the id of the key"))
            }
            None if stored.is_some() => Verdict::Already,
            _ => Verdict::New,
        }
    }

    /// Returns why a consumer cannot be created.
    fn new_conflict(&self, consumer: &TransferConsumer) -> Option<ImportConflict> {
        let plan = consumer.attributes.plan.as_ref();
        if plan.is_some_and(|plan| !self.plans.contains(plan.as_str())) {
            return Some(ImportConflict::NoPlan);
        }
        self.taken(consumer).map(ImportConflict::Taken)
    }

    /// Returns the unique field of a new consumer that another consumer holds.
    fn taken(&self, consumer: &TransferConsumer) -> Option<&'static str> {
        let custom_id = consumer
            .attributes
            .custom_id
            .as_ref()
            .map(|id| (consumer.bucket.to_string(), id.to_string()));
        if custom_id.is_some_and(|id| self.custom_ids.contains(&id)) {
            return Some("the custom id");
        }
        consumer
            .id
            .is_some_and(|id| self.consumer_ids.contains(id.as_str()))
            .then_some("the id of the consumer")
    }
}

/// Returns which of `wanted` exist.
async fn ids_in<T>(
    connection: &mut AnyConnection,
    select: &'static str,
    wanted: &[T],
    text: impl Fn(&T) -> &str,
) -> Result<HashSet<String>, StoreError> {
    let mut found = HashSet::new();
    bulk::each_in(
        connection,
        &In::select(select),
        |query| query,
        wanted,
        |query, id| query.bind(text(id)),
        |row| {
            found.insert(row.try_get("id")?);
            Ok(())
        },
    )
    .await?;
    Ok(found)
}

/// Returns the first given field that differs from the stored value.
fn difference(given: &TransferConsumer, stored: &StoredConsumer) -> Option<&'static str> {
    fn differs<T: PartialEq>(given: Option<&T>, stored: Option<&T>) -> bool {
        given.is_some() && given != stored
    }
    let ConsumerAttributes {
        custom_id,
        description,
        metadata,
        scopes,
        allowed_ips,
        plan,
        limits,
        quotas,
        max_in_flight,
        tags,
    } = &given.attributes;
    let known = &stored.attributes;
    let fields = [
        ("id", differs(given.id.as_ref(), Some(&stored.id))),
        (
            "custom id",
            differs(custom_id.as_ref(), known.custom_id.as_ref()),
        ),
        (
            "description",
            differs(description.as_ref(), known.description.as_ref()),
        ),
        (
            "metadata",
            differs(metadata.as_ref(), known.metadata.as_ref()),
        ),
        (
            "set of scopes",
            !scopes.is_empty() && *scopes != known.scopes,
        ),
        (
            "set of allowed addresses",
            !allowed_ips.is_empty() && *allowed_ips != known.allowed_ips,
        ),
        ("plan", differs(plan.as_ref(), known.plan.as_ref())),
        (
            "list of limits",
            !limits.is_empty() && *limits != known.limits,
        ),
        (
            "list of quotas",
            !quotas.is_empty() && *quotas != known.quotas,
        ),
        (
            "number of requests in flight",
            differs(max_in_flight.as_ref(), known.max_in_flight.as_ref()),
        ),
        (
            "set of tags",
            tags.iter().next().is_some() && *tags != known.tags,
        ),
    ];
    fields
        .into_iter()
        .find_map(|(field, is_other)| is_other.then_some(field))
}

fn owner(consumer: &TransferConsumer) -> (String, String) {
    let TransferConsumer { bucket, name, .. } = consumer;
    (
        BucketName::as_str(bucket).to_owned(),
        name.as_str().to_owned(),
    )
}

fn new_consumer(id: ConsumerId, from: &TransferConsumer, stamp: &Stamp) -> StoredConsumer {
    let TransferConsumer {
        id: _,
        bucket,
        name,
        attributes,
        created_at,
    } = from.clone();
    StoredConsumer {
        id,
        bucket,
        name,
        attributes,
        created_at: created_at.unwrap_or(stamp.at),
        updated_at: stamp.at,
    }
}

fn new_key(id: KeyId, consumer: ConsumerId, from: &TransferKey, stamp: &Stamp) -> KeyRow {
    let TransferKey {
        id: _,
        digest,
        hint,
        state,
        rolled,
        chain,
        attributes,
        created_at,
        last_used_at,
    } = from.clone();
    KeyRow {
        id,
        consumer,
        digest,
        hint,
        state,
        rolled,
        chain,
        attributes,
        created_at: created_at.unwrap_or(stamp.at),
        updated_at: stamp.at,
        last_used_at,
    }
}

fn consumer_mutation(made: &StoredConsumer) -> Mutation<'_> {
    let detail = json!({
        "name": made.name.as_str(), "bucket": made.bucket.as_str(), "scopes": made.attributes.scopes, "imported": true,
    });
    Mutation {
        action: Action::ConsumerCreate,
        subject: Subject::Consumer(&made.id),
        detail,
    }
}

fn key_mutation(added: &KeyRow) -> Mutation<'_> {
    let detail = json!({
        "consumer": added.consumer, "hint": added.hint, "expires_at": added.attributes.expires_at,
        "scopes": added.attributes.scopes, "state": added.state.as_str(), "imported": true,
    });
    Mutation {
        action: Action::KeyCreate,
        subject: Subject::Key(&added.id),
        detail,
    }
}
