//! Resets of rate limits, whose counts are in the memory of gateways: each follows them by the feed.

use serde_json::json;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::keys::{ConsumerId, KeyId};
use crate::limits::{Holder, StoredHolder};
use crate::store::connections::limited;
use crate::store::journal::{self, Action, Subject};
use crate::store::{
    Stamp, Store, StoreError, StoredConsumer, StoredKey, StoredPlan, WRITE_LIMIT, consumers,
};

/// What an operator reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitReset {
    /// Change that tells of it.
    pub revision: i64,
    /// Consumer, or owner of the key.
    pub consumer: ConsumerId,
    /// Key; `None` for the consumer as such.
    pub key: Option<KeyId>,
    /// Name of the limit; `None` for all.
    pub name: Option<String>,
}

/// Whose limits were reset.
#[derive(Debug)]
pub struct LimitParty {
    /// Consumer.
    pub consumer: StoredConsumer,
    /// Its plan.
    pub plan: Option<StoredPlan>,
    /// Key; `None` for the consumer as such.
    pub key: Option<StoredKey>,
}

impl LimitParty {
    /// Returns whom limits count.
    #[must_use]
    pub fn holder(&self) -> Holder<'_> {
        let Self {
            consumer,
            plan,
            key,
        } = self;
        let (key, plan) = (key.as_ref(), plan.as_ref());
        Holder::Stored(StoredHolder {
            key: key.map(|key| (key.chain.unwrap_or(key.id), &key.attributes.limits)),
            consumer: consumer.id,
            rates: &consumer.attributes.limits,
            plan: plan.map(|plan| (&plan.name, &plan.attributes.limits)),
            tags: &consumer.attributes.tags,
        })
    }
}

impl Store {
    /// Records that the limit `name`, or every one, of a consumer or of one of its keys was reset,
    /// and has every gateway do it. Returns the change that tells of it.
    ///
    /// # Errors
    /// The consumer is unknown, lacks a tag of the stamp, or the store's error.
    pub async fn record_limit_reset(
        &self,
        consumer: &ConsumerId,
        key: Option<&KeyId>,
        name: Option<&str>,
        stamp: &Stamp,
    ) -> Result<i64, StoreError> {
        limited(WRITE_LIMIT, async {
            let mut transaction = self.begin_write().await?;
            consumers::guarded(&mut transaction, consumer, stamp).await?;
            let (action, subject) = match key {
                Some(key) => (Action::KeyResetLimits, Subject::Key(key)),
                None => (Action::ConsumerResetLimits, Subject::Consumer(consumer)),
            };
            let detail = json!({ "limit": name });
            journal::record(&mut transaction, stamp, action, subject, &detail).await?;
            // Reading the consumer again changes nothing, and wakes every gateway.
            let revision: i64 = sqlx::query_scalar(
                "INSERT INTO changes (subject, subject_id) VALUES ('consumer', $1) RETURNING revision",
            )
            .bind(consumer.as_str())
            .fetch_one(&mut *transaction)
            .await?;
            sqlx::query(
                "DELETE FROM limit_resets WHERE revision < (SELECT min(revision) FROM changes)",
            )
            .execute(&mut *transaction)
            .await?;
            sqlx::query(
                "INSERT INTO limit_resets (revision, consumer_id, key_id, limit_name) \
                 VALUES (CAST($1 AS BIGINT), $2, CAST($3 AS TEXT), CAST($4 AS TEXT))",
            )
            .bind(revision)
            .bind(consumer.as_str())
            .bind(key.map(KeyId::as_str))
            .bind(name)
            .execute(&mut *transaction)
            .await?;
            transaction.commit_of(Some(subject.id())).await?;
            Ok(revision)
        })
        .await
    }

    /// Returns what was reset after the change `after`, up to `last`.
    pub async fn limit_resets(&self, after: i64, last: i64) -> Result<Vec<LimitReset>, StoreError> {
        let rows = sqlx::query(
            "SELECT revision, consumer_id, key_id, limit_name FROM limit_resets \
             WHERE revision > $1 AND revision <= $2 ORDER BY revision",
        )
        .bind(after)
        .bind(last)
        .fetch_all(&self.pool)
        .await?;
        // A row that another program wrote and that names nobody resets nobody.
        Ok(rows.iter().filter_map(of_row).collect())
    }

    /// Returns whose limits were reset; `None` if the consumer or the key is gone.
    pub async fn limit_party(&self, reset: &LimitReset) -> Result<Option<LimitParty>, StoreError> {
        let key = match &reset.key {
            None => None,
            Some(id) => match self.key(id).await? {
                None => return Ok(None),
                found => found,
            },
        };
        match self.consumer(&reset.consumer).await? {
            Some(consumer) => Ok(Some(self.with_plan(consumer, key).await?)),
            None => Ok(None),
        }
    }

    /// Returns whose limits `key`, or else `consumer`, has.
    pub async fn with_plan(
        &self,
        consumer: StoredConsumer,
        key: Option<StoredKey>,
    ) -> Result<LimitParty, StoreError> {
        let plan = match &consumer.attributes.plan {
            Some(name) => self.plan(name).await?,
            None => None,
        };
        Ok(LimitParty {
            consumer,
            plan,
            key,
        })
    }
}

fn of_row(row: &AnyRow) -> Option<LimitReset> {
    let key: Option<String> = row.try_get("key_id").ok()?;
    Some(LimitReset {
        revision: row.try_get("revision").ok()?,
        consumer: row.try_get::<String, _>("consumer_id").ok()?.parse().ok()?,
        key: key.map(|key| key.parse()).transpose().ok()?,
        name: row.try_get("limit_name").ok()?,
    })
}
