//! Usage in the store: added up by key and hour. Not a mutation of the model, so it has no audit and no feed row.

use std::str::FromStr;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};
use thiserror::Error;

use crate::keys::{BucketName, ConsumerId, Hour, KeyId, KeyUsage, UnixMillis, UsageCounts};
use crate::store::columns::in_row;
use crate::store::connections::limited;
use crate::store::{Store, StoreError, WRITE_LIMIT};

/// Rows of one statement. Full statements are prepared once; SQLite takes 32,766 parameters, PostgreSQL 65,535.
const ROWS_PER_STATEMENT: usize = 200;

/// Most periods that one question may be about: over a year of hours.
pub const MOST_PERIODS: i64 = 10_000;

/// A batch of counts, which is added once however often it is sent.
#[derive(Clone, Copy, Debug)]
pub struct UsageBatch<'w> {
    /// The run of a gateway; no other has its name.
    pub writer: &'w str,
    /// Its number; later batches of the writer have higher ones.
    pub number: i64,
}

/// Whose usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageOf {
    /// All keys', those that are gone included.
    All,
    /// That of all keys in a bucket.
    Bucket(BucketName),
    /// That of all keys of a consumer.
    Consumer(ConsumerId),
    /// One key's, which may be gone.
    Key(KeyId),
}

/// How usage is added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Period {
    /// By hours.
    #[default]
    Hour,
    /// By days of UTC.
    Day,
}

/// Usage from one moment to another, in whole periods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageRange {
    from: i64,
    to: i64,
    by: Period,
}

/// Why a text is no [`Period`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("usage is added up by `hour` or by `day`")]
pub struct InvalidPeriod;

/// Why two moments are no range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidRange {
    /// It ends before it begins.
    #[error("the range must end after it begins")]
    Empty,
    /// It has more than [`MOST_PERIODS`] periods.
    #[error("the range has more than {MOST_PERIODS} hours or days: ask for less, or by day")]
    TooLong,
}

/// Usage in a range, with a row for each period, also for those in which nothing was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageReport {
    /// The beginning of the first period.
    pub from: UnixMillis,
    /// The end of the last period.
    pub to: UnixMillis,
    /// How usage is added up.
    pub by: Period,
    /// The periods, in their order.
    pub periods: Vec<PeriodUsage>,
    /// All of them together.
    pub total: UsageCounts,
}

/// Usage in one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeriodUsage {
    /// Its beginning.
    pub start: UnixMillis,
    /// How much was done.
    pub counts: UsageCounts,
}

/// Usage of one key in a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopKey {
    /// The key.
    pub key: KeyId,
    /// The name of whose it is; `None` when the key no longer exists.
    pub consumer: Option<String>,
    /// How much was done.
    pub counts: UsageCounts,
}

impl Period {
    /// Each of them, by its word.
    pub const WORDS: [&str; 2] = ["hour", "day"];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// How long one is.
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
    /// The periods that `from` and `to`, which is left out, are in and between.
    ///
    /// # Errors
    /// There is none, or there are too many.
    pub fn new(from: UnixMillis, to: UnixMillis, by: Period) -> Result<Self, InvalidRange> {
        if to <= from {
            return Err(InvalidRange::Empty);
        }
        let (first, last) = (
            from.0.div_euclid(by.millis()),
            (to.0 - 1).div_euclid(by.millis()),
        );
        if last.saturating_sub(first) >= MOST_PERIODS {
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

/// The sums of a group of rows of `u`. Cast, for PostgreSQL adds BIGINTs up to a NUMERIC.
macro_rules! sums {
    () => {
        "CAST(SUM(u.requests) AS BIGINT) AS requests, CAST(SUM(u.refusals) AS BIGINT) AS refusals, \
         CAST(SUM(u.bytes_in) AS BIGINT) AS bytes_in, CAST(SUM(u.bytes_out) AS BIGINT) AS bytes_out"
    };
}

impl UsageOf {
    /// The tables and the condition; `$1` and `$2` are the range, `$3` is [`Self::whose`].
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
    /// Adds what was done, and tells the keys when they were last used; all of it or nothing. Several gateways may do so
    /// at once. Keys that are gone are counted too. A batch that was added before, or one of its writer with a higher
    /// number, does nothing: one whose outcome is not known is sent again.
    pub async fn add_usage(
        &self,
        batch: UsageBatch<'_>,
        rows: &[KeyUsage],
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
            transaction.commit().await
        })
        .await
    }

    /// What was done in a range, by period.
    pub async fn usage(&self, of: &UsageOf, range: UsageRange) -> Result<UsageReport, StoreError> {
        let _turn = self.scan().await?;
        // The period is one of two numbers, not text from outside.
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

    /// The keys with the most requests in a range, at most `limit`.
    pub async fn top_keys(
        &self,
        of: &UsageOf,
        range: UsageRange,
        limit: u32,
    ) -> Result<Vec<TopKey>, StoreError> {
        let _turn = self.scan().await?;
        // At most so many rows are named: the names are looked up last.
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

/// Each key once, with the last time.
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

/// `($1, $2), ($3, $4)`: as many tuples of as many parameters. The first is a text, the others are numbers, and each is told
/// to be, because PostgreSQL takes a parameter that stands in no column's place for a text.
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
                MOST_PERIODS * hour,
                Period::Hour,
                Ok((0, MOST_PERIODS * hour)),
            ),
            (
                0,
                MOST_PERIODS * hour + 1,
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
