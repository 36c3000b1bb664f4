//! Paginated, filtered lists of consumers and keys, oldest first.

use std::ops::RangeInclusive;

use sqlx::{Any, AssertSqlSafe};

use crate::keys::{
    BucketName, ConsumerId, ConsumerName, CustomId, KeyStatus, PlanName, Tags, UnixMillis,
};
use crate::store::columns::of_row;
use crate::store::connections::Connections;
use crate::store::rows::{select_consumer, select_key, stored_key};
use crate::store::{Store, StoreError, StoredConsumer, StoredKey};

/// Filter for consumers; empty fields match everything.
#[derive(Clone, Debug, Default)]
pub struct ConsumerFilter {
    /// Bucket.
    pub bucket: Option<BucketName>,
    /// Name.
    pub name: Option<ConsumerName>,
    /// Custom id.
    pub custom_id: Option<CustomId>,
    /// Plan.
    pub plan: Option<PlanName>,
    /// Required tags.
    pub tags: Tags,
}

/// Filter for keys; empty fields match everything.
#[derive(Clone, Debug, Default)]
pub struct KeyFilter {
    /// Consumer.
    pub consumer: Option<ConsumerId>,
    /// Bucket of the consumer.
    pub bucket: Option<BucketName>,
    /// Required tags of the consumer.
    pub tags: Tags,
    /// Prefix of the hint.
    pub hint: Option<String>,
    /// Status at a moment.
    pub status: Option<(KeyStatus, UnixMillis)>,
    /// Not revoked, with an expiry after the start and not after the end of the range.
    pub ending: Option<RangeInclusive<UnixMillis>>,
    /// Created before this moment and not used since.
    pub unused_since: Option<UnixMillis>,
    /// Earliest time of creation.
    pub created_since: Option<UnixMillis>,
    /// Latest time of creation, exclusive.
    pub created_until: Option<UnixMillis>,
}

/// Cursor of a list: time of creation and id of the last item. The list goes on with older ids of
/// the same moment, then with later moments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    /// Time of creation.
    pub created_at: UnixMillis,
    /// Id.
    pub id: String,
}

impl StoredKey {
    /// Returns the cursor after this key.
    #[must_use]
    pub fn cursor(&self) -> After {
        After {
            created_at: self.created_at,
            id: self.id.to_string(),
        }
    }
}

impl Store {
    /// Returns at most `limit` consumers, oldest first.
    ///
    /// # Errors
    /// Unknown bucket, or a failure of the store.
    pub async fn list_consumers(
        &self,
        filter: &ConsumerFilter,
        after: Option<&After>,
        limit: u32,
    ) -> Result<Vec<StoredConsumer>, StoreError> {
        if let Some(bucket) = &filter.bucket {
            self.require_bucket(bucket).await?;
        }
        let mut list = List::of(select_consumer(""), 'c', after);
        list.only(
            "c.bucket = ?",
            filter.bucket.as_ref().map(BucketName::as_str),
        );
        // The index of names and custom ids begins with the bucket: without a bucket, the search
        // covers each.
        let each = "c.bucket IN (SELECT b.name FROM buckets b) AND ";
        list.only(
            &format!("{each}c.name = ?"),
            filter.name.as_ref().map(ConsumerName::as_str),
        );
        list.only(
            &format!("{each}c.custom_id = ?"),
            filter.custom_id.as_ref().map(CustomId::as_str),
        );
        list.only("c.plan = ?", filter.plan.as_ref().map(PlanName::as_str));
        let _turn = self.scan().await?;
        match self.consumers_with(None, &filter.tags).await? {
            Few::These(ids) if ids.is_empty() => return Ok(Vec::new()),
            Few::These(ids) => list.among("c.id", ids),
            Few::Many => list.tagged(&filter.tags),
        }
        list.fetch(&self.scans, limit)
            .await?
            .iter()
            .map(of_row)
            .collect()
    }

    /// Returns at most `limit` keys, oldest first.
    ///
    /// # Errors
    /// Unknown bucket, or a failure of the store.
    pub async fn list_keys(
        &self,
        filter: &KeyFilter,
        after: Option<&After>,
        limit: u32,
    ) -> Result<Vec<StoredKey>, StoreError> {
        if let Some(bucket) = &filter.bucket {
            self.require_bucket(bucket).await?;
        }
        let mut list = List::of(select_key(""), 'k', after);
        list.only(
            "k.consumer_id = ?",
            filter.consumer.as_ref().map(ConsumerId::as_str),
        );
        list.only("substr(k.hint, 1, length(?)) = ?", filter.hint.as_deref());
        list.of_times(filter);
        let _turn = self.scan().await?;
        let bucket = filter.bucket.as_ref();
        match self.consumers_with(bucket, &filter.tags).await? {
            Few::These(ids) if ids.is_empty() => return Ok(Vec::new()),
            Few::These(ids) => list.among("k.consumer_id", ids),
            Few::Many => {
                // Defeats the index on purpose: keys are read by age from the cursor on. By bucket,
                // all of its keys would have to be sorted for each page.
                list.only("c.bucket || '' = ?", bucket.map(BucketName::as_str));
                list.tagged(&filter.tags);
            }
        }
        list.fetch(&self.scans, limit)
            .await?
            .iter()
            .map(stored_key)
            .collect()
    }

    /// Returns the consumers of a bucket with all of these tags if they are few; a list then starts
    /// from them. If they are many, the list reads keys by age and skips the others.
    async fn consumers_with(
        &self,
        bucket: Option<&BucketName>,
        tags: &Tags,
    ) -> Result<Few, StoreError> {
        let (mut tables, mut conditions, mut texts) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(bucket) = bucket {
            tables.push("consumers c".to_owned());
            texts.push(bucket.to_string());
            conditions.push("c.bucket = $1".to_owned());
        }
        for (index, (name, value)) in tags.iter().enumerate() {
            let table = format!("t{index}");
            tables.push(format!("consumer_tags {table}"));
            texts.extend([name.to_owned(), value.to_owned()]);
            conditions.push(format!(
                "{table}.name = ${} AND {table}.value = ${}",
                texts.len() - 1,
                texts.len()
            ));
            if index > 0 {
                conditions.push(format!("{table}.consumer_id = t0.consumer_id"));
            } else if bucket.is_some() {
                conditions.push("t0.consumer_id = c.id".to_owned());
            }
        }
        if tables.is_empty() {
            return Ok(Few::Many);
        }
        let id = if bucket.is_some() {
            "c.id"
        } else {
            "t0.consumer_id"
        };
        let sql = format!(
            "SELECT {id} AS id FROM {} WHERE {} LIMIT {}",
            tables.join(", "),
            conditions.join(" AND "),
            FEW + 1
        );
        let mut query = sqlx::query_scalar(AssertSqlSafe(sql));
        for text in texts {
            query = query.bind(text);
        }
        let ids: Vec<String> = query.fetch_all(&self.scans).await?;
        Ok(if ids.len() > FEW {
            Few::Many
        } else {
            Few::These(ids)
        })
    }
}

/// Maximum number of consumers that a list starts from.
const FEW: usize = 500;

/// Consumers that a list starts from.
enum Few {
    /// These ids.
    These(Vec<String>),
    /// Too many to start from, or all.
    Many,
}

/// A query built from the requested filters, so that each combination uses its index. The text
/// consists of literals of this file; values are bound.
struct List {
    sql: String,
    table: char,
    texts: Vec<String>,
    after: After,
}

impl List {
    fn of(select: String, table: char, after: Option<&After>) -> Self {
        let after = after.cloned().unwrap_or(After {
            created_at: UnixMillis(i64::MIN),
            id: String::new(),
        });
        Self {
            sql: format!("{select}WHERE ({table}.created_at, {table}.id) > ($1, $2)"),
            table,
            texts: Vec::new(),
            after,
        }
    }

    /// Adds a condition, with `?` for the text, if there is one.
    fn only(&mut self, condition: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.texts.push(text.to_owned());
            self.sql.push_str(" AND ");
            self.sql
                .push_str(&condition.replace('?', &format!("${}", self.texts.len() + 2)));
        }
    }

    /// Adds the conditions on times, as numeric literals.
    fn of_times(&mut self, filter: &KeyFilter) {
        let mut conditions = Vec::new();
        if let Some((status, UnixMillis(now))) = &filter.status {
            let is_over = format!("(k.expires_at IS NOT NULL AND k.expires_at <= {now})");
            conditions.push(match status {
                KeyStatus::Active => format!("k.state = 'active' AND NOT {is_over}"),
                KeyStatus::Disabled => format!("k.state = 'disabled' AND NOT {is_over}"),
                KeyStatus::Expired => format!("k.state <> 'revoked' AND {is_over}"),
                KeyStatus::Revoked => "k.state = 'revoked'".to_owned(),
            });
        }
        if let Some(ending) = &filter.ending {
            let (UnixMillis(after), UnixMillis(end)) = (ending.start(), ending.end());
            conditions.push(format!(
                "k.state <> 'revoked' AND k.expires_at > {after} AND k.expires_at <= {end}"
            ));
        }
        if let Some(UnixMillis(since)) = filter.unused_since {
            conditions.push(format!(
                "k.created_at < {since} AND (k.last_used_at IS NULL OR k.last_used_at < {since})"
            ));
        }
        if let Some(UnixMillis(since)) = filter.created_since {
            conditions.push(format!("k.created_at >= {since}"));
        }
        if let Some(UnixMillis(until)) = filter.created_until {
            conditions.push(format!("k.created_at < {until}"));
        }
        for condition in conditions {
            self.sql.push_str(" AND ");
            self.sql.push_str(&condition);
        }
    }

    /// Restricts `column` to `ids`.
    fn among(&mut self, column: &str, ids: Vec<String>) {
        let first = self.texts.len() + 3;
        let numbers: Vec<String> = (first..first + ids.len())
            .map(|number| format!("${number}"))
            .collect();
        self.sql
            .push_str(&format!(" AND {column} IN ({})", numbers.join(", ")));
        self.texts.extend(ids);
    }

    /// Adds the condition on tags. Tags are stored as serde_json's object, so a tag is present
    /// exactly if its text is: a name has no quotes, and those of a value are escaped. `replace` is
    /// case-sensitive on every database, unlike `LIKE`.
    fn tagged(&mut self, tags: &Tags) {
        for (name, value) in tags.iter() {
            let member = format!(
                "{}:{}",
                serde_json::Value::from(name),
                serde_json::Value::from(value)
            );
            self.only("replace(c.tags, ?, '') <> c.tags", Some(&member));
        }
    }

    async fn fetch(
        self,
        pool: &Connections,
        limit: u32,
    ) -> Result<Vec<sqlx::any::AnyRow>, StoreError> {
        let Self {
            mut sql,
            table,
            texts,
            after,
        } = self;
        sql.push_str(&format!(
            " ORDER BY {table}.created_at, {table}.id LIMIT ${}",
            texts.len() + 3
        ));
        let mut query = sqlx::query::<Any>(AssertSqlSafe(sql))
            .bind(after.created_at.0)
            .bind(after.id);
        for text in texts {
            query = query.bind(text);
        }
        Ok(query.bind(i64::from(limit)).fetch_all(pool).await?)
    }
}
