//! Lists of consumers and keys with filters, oldest first, page by page.

use std::ops::RangeInclusive;

use sqlx::{Any, AssertSqlSafe};

use crate::keys::{BucketName, ConsumerId, ConsumerName, CustomId, KeyStatus, Tags, UnixMillis};
use crate::store::columns::of_row;
use crate::store::connections::Connections;
use crate::store::rows::{select_consumer, select_key, stored_key};
use crate::store::{Store, StoreError, StoredConsumer, StoredKey};

/// Which consumers; what is empty asks for nothing.
#[derive(Clone, Debug, Default)]
pub struct ConsumerFilter {
    /// Of this bucket.
    pub bucket: Option<BucketName>,
    /// Of this name.
    pub name: Option<ConsumerName>,
    /// Of this custom id.
    pub custom_id: Option<CustomId>,
    /// With all of these tags.
    pub tags: Tags,
}

/// Which keys; what is empty asks for nothing.
#[derive(Clone, Debug, Default)]
pub struct KeyFilter {
    /// Of this consumer.
    pub consumer: Option<ConsumerId>,
    /// Of consumers of this bucket.
    pub bucket: Option<BucketName>,
    /// Of consumers with all of these tags.
    pub tags: Tags,
    /// Whose hint begins with this.
    pub hint: Option<String>,
    /// Of this status at this moment.
    pub status: Option<(KeyStatus, UnixMillis)>,
    /// Not revoked, and ending after the first of these moments and at the second at the latest.
    pub ending: Option<RangeInclusive<UnixMillis>>,
    /// Made and last used before this moment, or never used.
    pub unused_since: Option<UnixMillis>,
    /// Made at this moment or later.
    pub created_since: Option<UnixMillis>,
    /// Made before this moment.
    pub created_until: Option<UnixMillis>,
}

/// Where a list goes on: after what was made at this moment and has this id, or, of several made then, a smaller one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    /// The moment.
    pub created_at: UnixMillis,
    /// The id.
    pub id: String,
}

impl StoredKey {
    /// Where a list that ended with this key goes on.
    #[must_use]
    pub fn place(&self) -> After {
        After {
            created_at: self.created_at,
            id: self.id.to_string(),
        }
    }
}

impl Store {
    /// At most `limit` consumers, oldest first.
    ///
    /// # Errors
    /// There is no such bucket, or the store failed.
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
        // Names and custom ids are found by bucket: where none is given, in each.
        let each = "c.bucket IN (SELECT b.name FROM buckets b) AND ";
        list.only(
            &format!("{each}c.name = ?"),
            filter.name.as_ref().map(ConsumerName::as_str),
        );
        list.only(
            &format!("{each}c.custom_id = ?"),
            filter.custom_id.as_ref().map(CustomId::as_str),
        );
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

    /// At most `limit` keys, oldest first.
    ///
    /// # Errors
    /// There is no such bucket, or the store failed.
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
                // Written so that no index is used for it: keys are read by age, where the list goes on, and not by bucket,
                // all of whose keys would have to be sorted for each page.
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

    /// The consumers of a bucket with all of these tags, where they are few: then lists begin with them. Where they are
    /// many, lists go by age and pass over the others, which are not many for each that is found.
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

/// Up to so many consumers, a list begins with them.
const FEW: usize = 500;

/// Which consumers a list is about.
enum Few {
    /// These, by their ids.
    These(Vec<String>),
    /// More than would be listed one by one, or all.
    Many,
}

/// A query that grows by the filters that are asked for, so that each combination finds its index. Its text is made of
/// literals of this file only; what callers gave is bound.
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

    /// Adds what a filter says of times. They are numbers, and written as such.
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

    /// Adds that `column` is one of `ids`.
    fn among(&mut self, column: &str, ids: Vec<String>) {
        let first = self.texts.len() + 3;
        let numbers: Vec<String> = (first..first + ids.len())
            .map(|number| format!("${number}"))
            .collect();
        self.sql
            .push_str(&format!(" AND {column} IN ({})", numbers.join(", ")));
        self.texts.extend(ids);
    }

    /// Tags are stored as an object that serde_json writes, so a tag is there exactly when its text is: a name has no
    /// quotes, and those of a value are escaped. `replace` minds letters' case on every database, unlike `LIKE`.
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
