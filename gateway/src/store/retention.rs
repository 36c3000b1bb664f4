//! Retention of audit and usage, and sizes of all tables.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde_json::json;
use sqlx::Executor;

use crate::keys::UnixMillis;
use crate::store::connections::limited;
use crate::store::journal::Actor;
use crate::store::{Database, Stamp, Store, StoreError, WRITE_LIMIT, journal, quotas};

/// Number of rows deleted in one transaction, to limit the wait of other writers.
const ROWS_AT_ONCE: i64 = 500;
/// Retention of the last batch number of a stopped gateway.
const WRITERS_KEPT: Duration = Duration::from_hours(24 * 30);

/// Retention of who came to routes that only observe.
const ADOPTION_KEPT: Duration = Duration::from_hours(24 * 90);

/// Retention of records; `None` keeps them forever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Retention of audit rows.
    pub audit: Option<Duration>,
    /// Retention of usage by key and hour.
    pub usage: Option<Duration>,
}

/// Tables to count.
pub const TABLES: [&str; 6] = ["buckets", "consumers", "keys", "audit", "usage", "changes"];

/// Sizes of the store as of the last count. Written by the control plane, read from anywhere
/// without a lock.
#[derive(Debug)]
pub struct StoreSizes {
    rows: [AtomicI64; TABLES.len()],
    database_bytes: AtomicI64,
    log_bytes: AtomicI64,
    unused_keys: AtomicI64,
}

/// Placeholder for a number not counted yet.
const UNKNOWN: i64 = -1;

impl Default for StoreSizes {
    fn default() -> Self {
        Self {
            rows: std::array::from_fn(|_| AtomicI64::new(UNKNOWN)),
            database_bytes: AtomicI64::new(UNKNOWN),
            log_bytes: AtomicI64::new(UNKNOWN),
            unused_keys: AtomicI64::new(0),
        }
    }
}

impl StoreSizes {
    /// Returns the tables with their row counts, once counted.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, i64)> {
        let counted = TABLES.into_iter().zip(&self.rows);
        counted.filter_map(|(table, rows)| Some((table, known(rows)?)))
    }

    /// Returns the number of keys that their buckets report as unused; 0 before the first count.
    #[must_use]
    pub fn unused_keys(&self) -> i64 {
        self.unused_keys.load(Ordering::Relaxed)
    }

    pub(super) fn found_unused(&self, keys: u64) {
        let keys = i64::try_from(keys).unwrap_or(i64::MAX);
        self.unused_keys.store(keys, Ordering::Relaxed);
    }

    /// Returns the size of the database in bytes and, for SQLite, of its log.
    pub fn bytes(&self) -> impl Iterator<Item = (&'static str, i64)> {
        let parts = [("database", &self.database_bytes), ("log", &self.log_bytes)];
        parts
            .into_iter()
            .filter_map(|(part, bytes)| Some((part, known(bytes)?)))
    }
}

fn known(number: &AtomicI64) -> Option<i64> {
    Some(number.load(Ordering::Relaxed)).filter(|number| *number != UNKNOWN)
}

impl Store {
    /// Deletes expired records in small transactions; returns the number of audit rows and of usage
    /// rows. An audit row announces the pruning before the first deletion.
    pub async fn prune(&self, keep: Keep) -> Result<(u64, u64), StoreError> {
        let now = self.now().await?;
        let before = |kept: Duration| now.saturating_sub(millis(kept));
        let (mut audit, mut usage) = (0, 0);
        if let Some(kept) = keep.audit {
            loop {
                match limited(WRITE_LIMIT, self.prune_audit(before(kept), now)).await? {
                    0 => break,
                    rows => audit += rows,
                }
            }
        }
        if let Some(kept) = keep.usage {
            loop {
                match limited(WRITE_LIMIT, self.prune_usage(before(kept))).await? {
                    0 => break,
                    rows => usage += rows,
                }
            }
        }
        limited(WRITE_LIMIT, self.forget_writers(before(WRITERS_KEPT))).await?;
        let ended_before = now.saturating_sub(quotas::KEPT_AFTER_END);
        while limited(WRITE_LIMIT, self.prune_quotas(ended_before, ROWS_AT_ONCE)).await? > 0 {}
        let adopted_before = before(ADOPTION_KEPT);
        while limited(
            WRITE_LIMIT,
            self.prune_adoption(adopted_before, ROWS_AT_ONCE),
        )
        .await?
            > 0
        {}
        Ok((audit, usage))
    }

    async fn prune_audit(&self, before: i64, now: i64) -> Result<u64, StoreError> {
        let oldest: Option<(i64, i64)> =
            sqlx::query_as("SELECT id, at FROM audit ORDER BY id LIMIT 1")
                .fetch_optional(&self.pool)
                .await?;
        let Some((oldest, _)) = oldest.filter(|(_, at)| *at < before) else {
            return Ok(0);
        };
        let mut transaction = self.begin_write().await?;
        let stamp = Stamp {
            at: UnixMillis(now),
            ..Stamp::now(Actor::retention())
        };
        // Once per run, whatever the number of transactions.
        let said: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM audit WHERE action = 'audit.prune' AND subject_id = $1",
        )
        .bind(before.to_string())
        .fetch_one(&mut *transaction)
        .await?;
        if said == 0 {
            let detail = json!({ "before": UnixMillis(before) });
            journal::record_pruning(&mut transaction, &stamp, before, &detail).await?;
        }
        let deleted = sqlx::query("DELETE FROM audit WHERE id < $1 AND at < $2")
            .bind(oldest.saturating_add(ROWS_AT_ONCE))
            .bind(before)
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        transaction.commit().await?;
        Ok(deleted)
    }

    async fn prune_usage(&self, before: i64) -> Result<u64, StoreError> {
        let mut transaction = self.begin_write().await?;
        let deleted = sqlx::query(
            "DELETE FROM usage WHERE (key_id, hour) IN \
             (SELECT u.key_id, u.hour FROM usage u WHERE u.hour < $1 ORDER BY u.hour LIMIT $2)",
        )
        .bind(before)
        .bind(ROWS_AT_ONCE)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        transaction.commit().await?;
        Ok(deleted)
    }

    async fn forget_writers(&self, before: i64) -> Result<(), StoreError> {
        let forgotten: i64 = sqlx::query_scalar("SELECT count(*) FROM usage_writers WHERE at < $1")
            .bind(before)
            .fetch_one(&self.pool)
            .await?;
        if forgotten > 0 {
            let mut transaction = self.begin_write().await?;
            transaction
                .execute(sqlx::query("DELETE FROM usage_writers WHERE at < $1").bind(before))
                .await?;
            transaction.commit().await?;
        }
        Ok(())
    }

    /// Counts rows and bytes.
    pub async fn measure(&self, sizes: &StoreSizes) -> Result<(), StoreError> {
        let _turn = self.scan().await?;
        for (table, rows) in TABLES.into_iter().zip(&sizes.rows) {
            // The names come from the constant list.
            let count = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
            let counted: i64 = sqlx::query_scalar(count).fetch_one(&self.scans).await?;
            rows.store(counted, Ordering::Relaxed);
        }
        let bytes: i64 = match &self.database {
            Database::Sqlite(file) => {
                let log = i64::try_from(file.log_bytes()).unwrap_or(i64::MAX);
                sizes.log_bytes.store(log, Ordering::Relaxed);
                sqlx::query_scalar(
                    "SELECT c.page_count * s.page_size FROM pragma_page_count c, pragma_page_size s",
                )
                .fetch_one(&self.scans)
                .await?
            }
            Database::Postgres(_) => {
                sqlx::query_scalar("SELECT pg_database_size(current_database())")
                    .fetch_one(&self.scans)
                    .await?
            }
        };
        sizes.database_bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Returns the database's clock in milliseconds: those of gateways may differ.
    pub(super) async fn now(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar(self.database.clock())
            .fetch_one(&self.pool)
            .await?)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
