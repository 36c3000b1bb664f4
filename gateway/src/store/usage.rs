//! Usage in the store, summed by key and hour. Not a mutation of the model: no audit row, no feed
//! row.

use std::str::FromStr;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};
use thiserror::Error;

use crate::keys::adoption::{AdoptionCounts, AdoptionKey};
use crate::keys::{BucketName, ConsumerId, Hour, KeyId, KeyUsage, UnixMillis, UsageCounts};
use crate::limits::quota::QuotaDelta;
use crate::store::columns::in_row;
use crate::store::connections::limited;
use crate::store::{Store, StoreError, WRITE_LIMIT, adoption, quotas};

/// Rows per statement. Full statements are prepared once; SQLite takes 32,766 parameters,
/// PostgreSQL 65,535.
const ROWS_PER_STATEMENT: usize = 200;

/// Maximum number of periods in a report: over a year of hours.
pub const MAX_PERIODS: i64 = 10_000;

/// A batch of counts, added exactly once however often it is sent.
#[derive(Clone, Copy, Debug)]
pub struct UsageBatch<'w> {
    /// Unique id of a gateway's run.
    pub writer: &'w str,
    /// Ascending number within the writer.
    pub number: i64,
}

/// Subject of a usage report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageOf {
    /// All keys, including deleted ones.
    All,
    /// All keys in a bucket.
    Bucket(BucketName),
    /// All keys of a consumer.
    Consumer(ConsumerId),
    /// A single key, even a deleted one.
    Key(KeyId),
}

/// Granularity of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Period {
    /// By hour.
    #[default]
    Hour,
    /// By day, in UTC.
    Day,
}

/// A range of whole periods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageRange {
    from: i64,
    to: i64,
    by: Period,
}

/// The text is not a [`Period`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the granularity of usage is `hour` or `day`")]
pub struct InvalidPeriod;

/// Reason why two moments are not a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidRange {
    /// The end is not after the beginning.
    #[error("the range must end after it begins")]
    Empty,
    /// More than [`MAX_PERIODS`] periods.
    #[error("the range has more than {MAX_PERIODS} hours or days: ask for less, or by day")]
    TooLong,
}

/// Usage in a range, with a row for each period, even without usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageReport {
    /// Beginning of the first period.
    pub from: UnixMillis,
    /// End of the last period.
    pub to: UnixMillis,
    /// Granularity.
    pub by: Period,
    /// Periods in order.
    pub periods: Vec<PeriodUsage>,
    /// Sum of all periods.
    pub total: UsageCounts,
}

/// Usage in one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeriodUsage {
    /// Beginning of the period.
    pub start: UnixMillis,
    /// Counters.
    pub counts: UsageCounts,
}

/// Usage of one key in a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopKey {
    /// The key.
    pub key: KeyId,
    /// Name of the consumer; `None` for a deleted key.
    pub consumer: Option<String>,
    /// Counters.
    pub counts: UsageCounts,
}

impl Period {
    /// Words, one for each period.
    pub const WORDS: [&str; 2] = ["hour", "day"];

    /// Returns the word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// Returns the length of the period.
    #[must_use]
    pub fn millis(self) -> i64 {
        match self {
            Self::Hour => Hour::MILLIS,
            Self::Day => 24 * Hour::MILLIS,
        }
    }
}

impl FromStr for Period {
    type Err = InvalidPeriod;

    fn from_str(word: &str) -> Result<Self, InvalidPeriod> {
        match word {
            "hour" => Ok(Self::Hour),
            "day" => Ok(Self::Day),
            _ => Err(InvalidPeriod),
        }
    }
}

impl UsageRange {
    /// Returns the whole periods that cover `from` to `to`, `to` excluded.
    ///
    /// # Errors
    /// No period, or too many.
    pub fn new(from: UnixMillis, to: UnixMillis, by: Period) -> Result<Self, InvalidRange> {
        if to <= from {
            return Err(InvalidRange::Empty);
        }
        let (first, last) = (
            from.0.div_euclid(by.millis()),
            (to.0 - 1).div_euclid(by.millis()),
        );
        if last.saturating_sub(first) >= MAX_PERIODS {
            return Err(InvalidRange::TooLong);
        }
        let start = |period: i64| period.saturating_mul(by.millis());
        Ok(Self {
            from: start(first),
            to: start(last.saturating_add(1)),
            by,
        })
    }

    fn report(self, used: &[PeriodUsage]) -> UsageReport {
        let mut total = UsageCounts::default();
        let mut used = used.iter().peekable();
        let mut periods = Vec::new();
        let mut start = self.from;
        while start < self.to {
            let counts = used
                .next_if(|used| used.start.0 == start)
                .map_or_else(UsageCounts::default, |used| used.counts);
            total += counts;
            periods.push(PeriodUsage {
                start: UnixMillis(start),
                counts,
            });
            start += self.by.millis();
        }
        UsageReport {
            from: UnixMillis(self.from),
            to: UnixMillis(self.to),
            by: self.by,
            periods,
            total,
        }
    }
}

/// Sums over a group of rows of `u`. With a cast, because PostgreSQL sums BIGINT to NUMERIC.
macro_rules! sums {
    () => {
        "CAST(SUM(u.requests) AS BIGINT) AS requests, CAST(SUM(u.refusals) AS BIGINT) AS refusals, \
         CAST(SUM(u.bytes_in) AS BIGINT) AS bytes_in, CAST(SUM(u.bytes_out) AS BIGINT) AS bytes_out"
    };
}

impl UsageOf {
    /// Returns the tables and the condition; `$1` and `$2` are the range, `$3` is [`Self::whose`].
    fn rows(&self) -> &'static str {
        match self {
            Self::All => "FROM usage u WHERE u.hour >= $1 AND u.hour < $2",
            Self::Bucket(_) => {
                "FROM usage u JOIN keys k ON k.id = u.key_id JOIN consumers c ON c.id = k.consumer_id \
                 WHERE u.hour >= $1 AND u.hour < $2 AND c.bucket = $3"
            }
            Self::Consumer(_) => {
                "FROM usage u JOIN keys k ON k.id = u.key_id WHERE u.hour >= $1 AND u.hour < $2 AND k.consumer_id = $3"
            }
            Self::Key(_) => "FROM usage u WHERE u.hour >= $1 AND u.hour < $2 AND u.key_id = $3",
        }
    }

    fn whose(&self) -> Option<&str> {
        match self {
            Self::All => None,
            Self::Bucket(name) => Some(name.as_str()),
            Self::Consumer(id) => Some(id.as_str()),
            Self::Key(id) => Some(id.as_str()),
        }
    }
}

impl Store {
    /// Adds a batch and updates the keys' last use, all or nothing. Safe for concurrent gateways.
    /// Deleted keys are counted too. Ignores a batch whose number is not above the writer's last
    /// one: a batch with an unknown outcome is sent again.
    pub async fn add_usage(
        &self,
        batch: UsageBatch<'_>,
        rows: &[KeyUsage],
    ) -> Result<(), StoreError> {
        self.add_counts(batch, rows, &[], &[]).await
    }

    /// Adds a batch of usage and of quotas in one transaction, likewise.
    pub async fn add_batch(
        &self,
        batch: UsageBatch<'_>,
        rows: &[KeyUsage],
        quotas: &[QuotaDelta],
    ) -> Result<(), StoreError> {
        self.add_counts(batch, rows, quotas, &[]).await
    }

    /// Adds a batch of usage, of quotas and of requests on routes that only observe in one
    /// transaction, likewise.
    pub async fn add_counts(
        &self,
        batch: UsageBatch<'_>,
        rows: &[KeyUsage],
        quotas: &[QuotaDelta],
        adoption: &[(AdoptionKey, AdoptionCounts)],
    ) -> Result<(), StoreError> {
        limited(WRITE_LIMIT, async {
            let mut transaction = self.begin_write().await?;
            let now: i64 = sqlx::query_scalar(self.database.clock())
                .fetch_one(&mut *transaction)
                .await?;
            let is_new = sqlx::query(
                "INSERT INTO usage_writers (id, batch, at) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE \
                 SET batch = excluded.batch, at = excluded.at WHERE usage_writers.batch < excluded.batch",
            )
            .bind(batch.writer)
            .bind(batch.number)
            .bind(now)
            .execute(&mut *transaction)
            .await?
            .rows_affected();
            if is_new == 0 {
                return Ok(());
            }
            for rows in rows.chunks(ROWS_PER_STATEMENT) {
                add(&mut transaction, rows).await?;
            }
            let last_used = last_used(rows);
            for used in last_used.chunks(ROWS_PER_STATEMENT) {
                tell_last_used(&mut transaction, used).await?;
            }
            quotas::add(&mut transaction, quotas).await?;
            adoption::add(&mut transaction, adoption).await?;
            transaction.commit().await
        })
        .await
    }

    /// Returns the usage in a range, by period.
    pub async fn usage(&self, of: &UsageOf, range: UsageRange) -> Result<UsageReport, StoreError> {
        let _turn = self.scan().await?;
        // One of two constants, not external text.
        let period = range.by.millis();
        let text = format!(
            "SELECT u.hour - u.hour % {period} AS start, {} {} GROUP BY u.hour - u.hour % {period} ORDER BY start",
            sums!(),
            of.rows()
        );
        let mut query = sqlx::query(AssertSqlSafe(text))
            .bind(range.from)
            .bind(range.to);
        if let Some(whose) = of.whose() {
            query = query.bind(whose);
        }
        let rows = query.fetch_all(&self.scans).await?;
        let used = rows.iter().map(|row| {
            let start = UnixMillis(row.try_get("start")?);
            Ok(PeriodUsage {
                start,
                counts: counts(row)?,
            })
        });
        Ok(range.report(&used.collect::<Result<Vec<_>, StoreError>>()?))
    }

    /// Returns at most `limit` keys with the most requests in a range.
    pub async fn top_keys(
        &self,
        of: &UsageOf,
        range: UsageRange,
        limit: u32,
    ) -> Result<Vec<TopKey>, StoreError> {
        let _turn = self.scan().await?;
        // Names are looked up last, for `limit` rows only.
        let text = format!(
            "SELECT t.key_id, c.name, t.requests, t.refusals, t.bytes_in, t.bytes_out FROM (\
               SELECT u.key_id, {} {} GROUP BY u.key_id ORDER BY requests DESC, u.key_id LIMIT {limit}\
             ) t LEFT JOIN keys k ON k.id = t.key_id LEFT JOIN consumers c ON c.id = k.consumer_id \
             ORDER BY t.requests DESC, t.key_id",
            sums!(),
            of.rows()
        );
        let mut query = sqlx::query(AssertSqlSafe(text))
            .bind(range.from)
            .bind(range.to);
        if let Some(whose) = of.whose() {
            query = query.bind(whose);
        }
        let rows = query.fetch_all(&self.scans).await?;
        let top = rows.iter().map(|row| {
            Ok(TopKey {
                key: in_row(row, "key_id")?,
                consumer: row.try_get("name")?,
                counts: counts(row)?,
            })
        });
        top.collect()
    }
}

async fn add(transaction: &mut AnyConnection, rows: &[KeyUsage]) -> Result<(), StoreError> {
    let text = format!(
        "INSERT INTO usage (key_id, hour, requests, refusals, bytes_in, bytes_out) VALUES {} \
         ON CONFLICT (key_id, hour) DO UPDATE SET requests = usage.requests + excluded.requests, \
         refusals = usage.refusals + excluded.refusals, bytes_in = usage.bytes_in + excluded.bytes_in, \
         bytes_out = usage.bytes_out + excluded.bytes_out",
        tuples(rows.len(), 6)
    );
    let mut query = sqlx::query(AssertSqlSafe(text)).persistent(rows.len() == ROWS_PER_STATEMENT);
    for KeyUsage {
        key,
        hour,
        counts,
        last_used_at: _,
    } in rows
    {
        query = query.bind(key.as_str()).bind(hour.start().0);
        for count in [
            counts.requests,
            counts.refusals,
            counts.bytes_in,
            counts.bytes_out,
        ] {
            query = query.bind(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
    query.execute(&mut *transaction).await?;
    Ok(())
}

/// Latest use of each key.
fn last_used(rows: &[KeyUsage]) -> Vec<(KeyId, UnixMillis)> {
    let mut used: Vec<(KeyId, UnixMillis)> = rows
        .iter()
        .filter_map(|row| Some((row.key, row.last_used_at?)))
        .collect();
    used.sort_unstable_by_key(|(key, at)| (*key, std::cmp::Reverse(*at)));
    used.dedup_by_key(|(key, _)| *key);
    used
}

async fn tell_last_used(
    transaction: &mut AnyConnection,
    used: &[(KeyId, UnixMillis)],
) -> Result<(), StoreError> {
    let text = format!(
        "UPDATE keys SET last_used_at = used.column2 FROM (VALUES {}) AS used \
         WHERE keys.id = used.column1 AND (keys.last_used_at IS NULL OR keys.last_used_at < used.column2)",
        tuples(used.len(), 2)
    );
    let mut query = sqlx::query(AssertSqlSafe(text)).persistent(used.len() == ROWS_PER_STATEMENT);
    for (key, at) in used {
        query = query.bind(key.as_str()).bind(at.0);
    }
    query.execute(&mut *transaction).await?;
    Ok(())
}

/// Builds `($1, $2), ($3, $4)`: `count` tuples of `columns` parameters. The first is a text, the
/// others are cast to numbers, because PostgreSQL types a free-standing parameter as text.
fn tuples(count: usize, columns: usize) -> String {
    let mut text = String::with_capacity(count * columns * 24);
    for tuple in 0..count {
        text.push_str(if tuple == 0 { "(" } else { ", (" });
        for column in 0..columns {
            let (number, kind) = (
                tuple * columns + column + 1,
                if column == 0 { "TEXT" } else { "BIGINT" },
            );
            text.push_str(if column == 0 { "" } else { ", " });
            text.push_str(&format!("CAST(${number} AS {kind})"));
        }
        text.push(')');
    }
    text
}

fn counts(row: &AnyRow) -> Result<UsageCounts, StoreError> {
    let count = |column| {
        Ok::<_, StoreError>(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or_default())
    };
    Ok(UsageCounts {
        requests: count("requests")?,
        refusals: count("refusals")?,
        bytes_in: count("bytes_in")?,
        bytes_out: count("bytes_out")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_of_whole_periods_and_not_too_many() {
        let hour = Hour::MILLIS;
        let range = |from, to, by| {
            UsageRange::new(UnixMillis(from), UnixMillis(to), by)
                .map(|range| (range.from, range.to))
        };
        for (from, to, by, wanted) in [
            (0, 1, Period::Hour, Ok((0, hour))),
            (hour - 1, hour, Period::Hour, Ok((0, hour))),
            (hour - 1, hour + 1, Period::Hour, Ok((0, 2 * hour))),
            (
                25 * hour,
                26 * hour,
                Period::Day,
                Ok((24 * hour, 48 * hour)),
            ),
            (5, 5, Period::Hour, Err(InvalidRange::Empty)),
            (6, 5, Period::Hour, Err(InvalidRange::Empty)),
            (
                0,
                MAX_PERIODS * hour,
                Period::Hour,
                Ok((0, MAX_PERIODS * hour)),
            ),
            (
                0,
                MAX_PERIODS * hour + 1,
                Period::Hour,
                Err(InvalidRange::TooLong),
            ),
            (i64::MIN, i64::MAX, Period::Day, Err(InvalidRange::TooLong)),
        ] {
            assert_eq!(range(from, to, by), wanted, "{from} {to} {by:?}");
        }
    }

    #[test]
    fn statements_number_their_parameters() {
        assert_eq!(
            tuples(2, 2),
            "(CAST($1 AS TEXT), CAST($2 AS BIGINT)), (CAST($3 AS TEXT), CAST($4 AS BIGINT))"
        );
    }
}
