//! Use of quotas in the store, of all gateways together. Gateways write what they counted with the
//! usage of keys, and read what others wrote by its order.

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use crate::keys::{ConsumerId, KeyId, UnixMillis};
use crate::limits::period::Bounds;
use crate::limits::quota::{QuotaCell, QuotaDelta, QuotaSubject, QuotaUse};
use crate::store::connections::limited;
use crate::store::journal::{self, Action, Subject};
use crate::store::{Stamp, Store, StoreError, WRITE_LIMIT, consumers, keys};

/// Rows per statement.
const ROWS_PER_STATEMENT: usize = 200;
/// Rows per read.
const ROWS_PER_READ: i64 = 5_000;
/// Time that the use of a period is kept after its end, in milliseconds.
pub(super) const KEPT_AFTER_END: i64 = 400 * 24 * 3_600_000;

/// Use that changed since a tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaChanges {
    /// The rows, in the order of their last change.
    pub rows: Vec<QuotaUse>,
    /// Tick to go on from.
    pub tick: i64,
    /// Whether there may be more.
    pub has_more: bool,
}

/// Owner of a quota, for the audit and the tag precondition.
#[derive(Clone, Copy, Debug)]
pub enum QuotaOwner<'o> {
    /// A consumer.
    Consumer(&'o ConsumerId),
    /// A key.
    Key(&'o KeyId),
}

/// What an operator does to the use of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaEdit {
    /// Adds units used; a negative number gives some back.
    By(i64),
    /// Sets the units used to 0.
    Reset,
}

const COLUMNS: &str = "quota, kind, subject, start, ends, units, tick";

impl Store {
    /// Returns what changed since `tick` in periods that are not over at `now`. A tick that this
    /// database never gave is that of another one: everything is read.
    pub async fn quota_changes(
        &self,
        tick: i64,
        now: UnixMillis,
    ) -> Result<QuotaChanges, StoreError> {
        let newest: i64 = sqlx::query_scalar("SELECT tick FROM quota_ticks")
            .fetch_one(&self.pool)
            .await?;
        let tick = if tick > newest { 0 } else { tick };
        if tick == newest {
            return Ok(QuotaChanges {
                rows: Vec::new(),
                tick,
                has_more: false,
            });
        }
        let text = format!(
            "SELECT {COLUMNS} FROM quota_use WHERE tick > $1 AND (ends IS NULL OR ends > $2) ORDER BY tick LIMIT {ROWS_PER_READ}"
        );
        let rows = sqlx::query(AssertSqlSafe(text))
            .bind(tick)
            .bind(now.0)
            .fetch_all(&self.pool)
            .await?;
        let last = rows.last().map(|row| row.try_get("tick")).transpose()?;
        let has_more = i64::try_from(rows.len()).unwrap_or(i64::MAX) >= ROWS_PER_READ;
        Ok(QuotaChanges {
            rows: rows.iter().map(of_row).collect::<Result<_, _>>()?,
            // What was written since `newest` was read may be missing.
            tick: if has_more {
                last.unwrap_or(newest)
            } else {
                last.unwrap_or(newest).max(newest)
            },
            has_more,
        })
    }

    /// Returns the use of a subject in the periods that are not over at `now`.
    pub async fn quota_use(
        &self,
        subject: &QuotaSubject,
        now: UnixMillis,
    ) -> Result<Vec<QuotaUse>, StoreError> {
        let text = format!(
            "SELECT {COLUMNS} FROM quota_use WHERE subject = $1 AND (ends IS NULL OR ends > $2) AND start <= $2 \
             ORDER BY quota, kind"
        );
        let rows = sqlx::query(AssertSqlSafe(text))
            .bind(subject.to_string())
            .bind(now.0)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(of_row).collect()
    }

    /// Changes the use of a quota in `period`, with an audit row, and returns the new use.
    ///
    /// # Errors
    /// The owner is unknown or lacks a tag of the precondition.
    pub async fn edit_quota(
        &self,
        owner: QuotaOwner<'_>,
        cell: &QuotaCell,
        period: Bounds,
        edit: QuotaEdit,
        reason: Option<&str>,
        stamp: &Stamp,
    ) -> Result<QuotaUse, StoreError> {
        let edited = self.edit_quota_in_turn(owner, cell, period, edit, reason, stamp);
        limited(WRITE_LIMIT, edited).await
    }

    async fn edit_quota_in_turn(
        &self,
        owner: QuotaOwner<'_>,
        cell: &QuotaCell,
        period: Bounds,
        edit: QuotaEdit,
        reason: Option<&str>,
        stamp: &Stamp,
    ) -> Result<QuotaUse, StoreError> {
        let mut transaction = self.begin_write().await?;
        let subject = match owner {
            QuotaOwner::Consumer(id) => {
                consumers::guarded(&mut transaction, id, stamp).await?;
                Subject::Consumer(id)
            }
            QuotaOwner::Key(id) => {
                keys::guarded(&mut transaction, id, stamp).await?;
                Subject::Key(id)
            }
        };
        let units = match edit {
            QuotaEdit::By(units) => units,
            QuotaEdit::Reset => {
                let used: Option<i64> = sqlx::query_scalar(
                    "SELECT units FROM quota_use WHERE quota = $1 AND kind = $2 AND subject = $3 AND start = $4",
                )
                .bind(&*cell.quota)
                .bind(&*cell.kind)
                .bind(cell.subject.to_string())
                .bind(period.start.0)
                .fetch_optional(&mut *transaction)
                .await?;
                used.unwrap_or(0).saturating_neg()
            }
        };
        let delta = QuotaDelta {
            cell: cell.clone(),
            period,
            units,
        };
        add(&mut transaction, std::slice::from_ref(&delta)).await?;
        let row = sqlx::query(AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM quota_use WHERE quota = $1 AND kind = $2 AND subject = $3 AND start = $4"
        )))
        .bind(&*cell.quota)
        .bind(&*cell.kind)
        .bind(cell.subject.to_string())
        .bind(period.start.0)
        .fetch_one(&mut *transaction)
        .await?;
        let after = of_row(&row)?;
        let detail = json!({
            "quota": &*cell.quota,
            "subject": cell.subject.to_string(),
            "period_start": period.start,
            "by": units,
            "used": after.units,
            "reason": reason,
        });
        let action = match edit {
            QuotaEdit::By(_) => Action::QuotaAdjust,
            QuotaEdit::Reset => Action::QuotaReset,
        };
        journal::record(&mut transaction, stamp, action, subject, &detail).await?;
        transaction.commit().await?;
        Ok(after)
    }

    /// Deletes some rows of periods that ended long ago.
    pub(super) async fn prune_quotas(&self, before: i64, most: i64) -> Result<u64, StoreError> {
        let old: i64 = sqlx::query_scalar("SELECT count(*) FROM quota_use WHERE ends < $1")
            .bind(before)
            .fetch_one(&self.pool)
            .await?;
        if old == 0 {
            return Ok(0);
        }
        let mut transaction = self.begin_write().await?;
        let deleted = sqlx::query(
            "DELETE FROM quota_use WHERE tick IN \
             (SELECT q.tick FROM quota_use q WHERE q.ends < $1 ORDER BY q.ends LIMIT $2)",
        )
        .bind(before)
        .bind(most)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        transaction.commit().await?;
        Ok(deleted)
    }
}

/// Adds `deltas` within a transaction, each row with a tick of its own.
pub(super) async fn add(
    transaction: &mut AnyConnection,
    deltas: &[QuotaDelta],
) -> Result<(), StoreError> {
    if deltas.is_empty() {
        return Ok(());
    }
    let count = i64::try_from(deltas.len()).unwrap_or(i64::MAX);
    let last: i64 = sqlx::query_scalar("UPDATE quota_ticks SET tick = tick + $1 RETURNING tick")
        .bind(count)
        .fetch_one(&mut *transaction)
        .await?;
    let mut tick = last - count;
    for deltas in deltas.chunks(ROWS_PER_STATEMENT) {
        let text = format!(
            "INSERT INTO quota_use ({COLUMNS}) VALUES {} \
             ON CONFLICT (quota, kind, subject, start) DO UPDATE \
             SET units = quota_use.units + excluded.units, tick = excluded.tick",
            tuples(deltas.len())
        );
        let is_whole = deltas.len() == ROWS_PER_STATEMENT;
        let mut query = sqlx::query(AssertSqlSafe(text)).persistent(is_whole);
        for QuotaDelta {
            cell,
            period,
            units,
        } in deltas
        {
            tick += 1;
            query = query
                .bind(cell.quota.to_string())
                .bind(cell.kind.to_string())
                .bind(cell.subject.to_string())
                .bind(period.start.0)
                .bind(period.end.map(|end| end.0))
                .bind(*units)
                .bind(tick);
        }
        query.execute(&mut *transaction).await?;
    }
    Ok(())
}

/// Builds `count` tuples of the parameters of a row. Cast, because PostgreSQL types a free-standing
/// parameter as text.
fn tuples(count: usize) -> String {
    let mut text = String::with_capacity(count * 160);
    for tuple in 0..count {
        text.push_str(if tuple == 0 { "(" } else { ", (" });
        for column in 0..7 {
            let kind = if column < 3 { "TEXT" } else { "BIGINT" };
            let comma = if column == 0 { "" } else { ", " };
            text.push_str(&format!(
                "{comma}CAST(${} AS {kind})",
                tuple * 7 + column + 1
            ));
        }
        text.push(')');
    }
    text
}

fn of_row(row: &AnyRow) -> Result<QuotaUse, StoreError> {
    Ok(QuotaUse {
        quota: row.try_get("quota")?,
        kind: row.try_get("kind")?,
        subject: row.try_get("subject")?,
        period: Bounds {
            start: UnixMillis(row.try_get("start")?),
            end: row.try_get::<Option<i64>, _>("ends")?.map(UnixMillis),
        },
        units: row.try_get("units")?,
    })
}
