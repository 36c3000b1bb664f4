//! Catching up: from the table's revision to the store's, by the changes in between or by a full
//! load.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Connection, Row};
use tokio::time::Instant;

use crate::keys::{Change, Consumer, ConsumerId, KeyEntry, Plan, PlanName};
use crate::store::columns::{Column, Kind, Stored, in_row, of_row};
use crate::store::feed::bulk::{self, or_gone};
use crate::store::feed::watch::Watch;
use crate::store::feed::{Followed, Follower, Known};
use crate::store::{StoreError, within};

/// Timeout of the query for changes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Number of changes above which a full load is faster.
const MAX_CHANGES: i64 = 10_000;

/// Fingerprint of a history up to a change: its subject, and the last audit row before it was read,
/// with its time. Another history with the same numbers has another fingerprint.
macro_rules! mark {
    ($revision:literal, $audited:literal) => {
        concat!(
            "COALESCE((SELECT subject_id FROM changes WHERE revision = ", $revision, "), '-') || ' ' || \
             COALESCE((SELECT CAST(id AS TEXT) || ' ' || CAST(at AS TEXT) || ' ' || subject_id FROM audit WHERE id = ", $audited, "), '0 0 -')"
        )
    };
}

/// All changes in one statement: one snapshot, and a revocation waits for one round trip only. The
/// table is keyed by digest, so the query returns the current owner of each digest in the window,
/// and the current state of each plan and consumer. Rows come in the order of application: plans,
/// consumers, keys to put or remove, then removed consumers, which have no key left by then, and
/// removed plans, which have no consumer left.
static NEWS: LazyLock<String> = LazyLock::new(|| {
    let (plan, consumer, key) = (
        Plan::columns(""),
        Consumer::columns(""),
        KeyEntry::columns(""),
    );
    let has = |columns: &[Column], wanted: &Column| {
        columns.iter().any(|column| column.name == wanted.name)
    };
    // Some columns are shared.
    let mut all = consumer.clone();
    for column in plan.iter().chain(&key) {
        if !has(&all, column) {
            all.push(*column);
        }
    }
    let list = |of: &dyn Fn(&Column) -> String| all.iter().map(of).collect::<Vec<_>>().join(", ");
    let nulls = list(&|column| {
        let kind = match column.kind {
            Kind::Text => "TEXT",
            Kind::Number => "BIGINT",
            Kind::Digest => "BYTEA",
        };
        format!("CAST(NULL AS {kind}) AS {}", column.name)
    });
    let those_of = |columns: &[Column], table: &str| {
        list(&|column| match has(columns, column) {
            true => format!("{table}.{}", column.name),
            false => "NULL".to_owned(),
        })
    };
    let (plans, consumers, keys) = (
        those_of(&plan, "p"),
        those_of(&consumer, "c"),
        those_of(&key, "k"),
    );
    let (mark_then, mark) = (
        mark!("CAST($1 AS BIGINT)", "CAST($3 AS BIGINT)"),
        mark!("kept.newest", "kept.audited"),
    );
    format!(
        "WITH kept AS (SELECT (SELECT min(revision) FROM changes) AS oldest, (SELECT max(revision) FROM changes) AS newest, \
               (SELECT max(revision) FROM awaited) AS awaited, (SELECT max(id) FROM audit) AS audited), \
        new AS (SELECT DISTINCT ch.subject, CASE WHEN ch.subject <> 'key' THEN ch.subject_id END AS subject_id, ch.digest \
                FROM changes ch, kept \
                WHERE ch.revision > CAST($1 AS BIGINT) AND kept.newest - CAST($1 AS BIGINT) <= CAST($2 AS BIGINT)) \
        SELECT CAST(0 AS BIGINT) AS kind, kept.oldest, kept.newest, kept.awaited, CAST(NULL AS TEXT) AS subject_id, \
               CAST(NULL AS BYTEA) AS touched, CAST(NULL AS TEXT) AS hint, {mark_then} AS mark_then, {mark} AS mark, {nulls} FROM kept \
        UNION ALL SELECT CASE WHEN p.name IS NULL THEN 5 ELSE 1 END, NULL, NULL, NULL, new.subject_id, NULL, NULL, NULL, NULL, {plans} \
               FROM new LEFT JOIN plans p ON p.name = new.subject_id WHERE new.subject = 'plan' \
        UNION ALL SELECT CASE WHEN c.id IS NULL THEN 4 ELSE 2 END, NULL, NULL, NULL, new.subject_id, NULL, NULL, NULL, NULL, {consumers} \
               FROM new LEFT JOIN consumers c ON c.id = new.subject_id WHERE new.subject = 'consumer' \
        UNION ALL SELECT 3, NULL, NULL, NULL, NULL, new.digest, k.hint, NULL, NULL, {keys} \
               FROM new LEFT JOIN keys k ON k.digest = new.digest WHERE new.subject = 'key' AND new.digest IS NOT NULL \
        ORDER BY 1"
    )
});
/// Newest revision and its fingerprint.
const NEWEST: &str = concat!(
    "WITH kept AS (SELECT (SELECT max(revision) FROM changes) AS newest, (SELECT max(id) FROM audit) AS audited) \
    SELECT kept.newest, (SELECT max(revision) FROM awaited) AS awaited, ",
    mark!("kept.newest", "kept.audited"),
    " AS mark FROM kept"
);
/// Number of foreign keys (hint unlike this gateway's), at most one.
const FOREIGN: &str = "SELECT count(*) FROM (SELECT 1 FROM keys k WHERE substr(k.hint, 1, CAST($1 AS INT)) <> $2 \
    OR length(k.hint) <> CAST($3 AS INT) LIMIT 1) AS found";

/// Changes in the store.
struct News {
    /// Oldest and newest revision in the feed.
    kept: (i64, i64),
    /// Newest revision that a command waits for.
    awaited: i64,
    /// Fingerprints of the history: at the known revision, and at the newest.
    marks: (String, String),
    /// Changed consumers and keys, unless there are too many.
    rows: Vec<AnyRow>,
}

impl Follower {
    /// Brings the table to one snapshot of the store.
    pub(super) async fn catch_up(&mut self, watch: &mut Watch) -> Result<(), StoreError> {
        let connection = &mut watch.connection;
        let known = match &self.known {
            None => self.load_all(connection).await?,
            Some(before) => {
                let (known, asked) = (before.revision, News::since(before, connection));
                let News {
                    kept: (oldest, newest),
                    awaited,
                    marks: (mark_then, mark),
                    rows,
                } = within(ANSWER_TIMEOUT, asked).await?;
                if !before.is_of_history(&mark_then, &mark) {
                    self.is_of_another();
                }
                // Continuing needs every change after `known`.
                let is_told_all = self.known.is_some()
                    && oldest <= known + 1
                    && (known..=known + MAX_CHANGES).contains(&newest);
                self.status.awaits(awaited);
                match is_told_all.then(|| self.apply(&rows)) {
                    Some(Ok(true)) => Known {
                        revision: newest,
                        mark: mark.into(),
                    },
                    Some(Ok(false)) => {
                        log::info!("loading all keys again: a consumer has become readable");
                        self.load_all(connection).await?
                    }
                    Some(Err(StoreError::OutOfStep(error))) => {
                        log::warn!("loading all keys again: {error}");
                        self.load_all(connection).await?
                    }
                    Some(Err(error)) => return Err(error),
                    None if self.known.is_none() => {
                        log::warn!(
                            "loading all keys again: the store's history diverged before change {known}: it was restored from a backup, or lost changes in a failover"
                        );
                        self.load_all(connection).await?
                    }
                    None => {
                        log::info!(
                            "loading all keys again: the table is at change {known}, the feed holds {oldest} to {newest}"
                        );
                        self.load_all(connection).await?
                    }
                }
            }
        };
        let of = Followed {
            generation: watch.generation,
            store: self.followed.clone().unwrap_or_default(),
            mark: Arc::clone(&known.mark),
        };
        self.status.reaches_now(known.revision, of);
        self.known = Some(known);
        Ok(())
    }

    /// Applies changes in the order of their kinds. Returns whether that suffices: the keys of a
    /// consumer skipped so far are not in the window.
    fn apply(&mut self, rows: &[AnyRow]) -> Result<bool, StoreError> {
        let (mut gone, mut gone_plans) = (Vec::new(), Vec::new());
        for row in rows {
            // Registered before the key is applied: texts are searched for it from the first
            // moment.
            if let Some(hint) = row.try_get::<Option<&str>, _>("hint")? {
                self.table.saw_hint(hint);
            }
            match row.try_get::<i64, _>("kind")? {
                1 => {
                    let plan = or_gone(|| of_row::<Plan>(row))?;
                    self.table.apply(match plan {
                        Some(plan) => Change::Plan(plan),
                        None => match row.try_get::<&str, _>("subject_id")?.parse() {
                            Ok(name) => Change::PlanRemoved(name),
                            // Was never in the table.
                            Err(_) => continue,
                        },
                    })?;
                }
                2 => match or_gone(|| of_row::<Consumer>(row))? {
                    Some(consumer) if self.left_out.contains(consumer.id.as_str()) => {
                        return Ok(false);
                    }
                    Some(consumer) => self.table.apply(Change::Consumer(consumer))?,
                    None => {
                        let id: String = row.try_get("subject_id")?;
                        gone.extend(id.parse::<ConsumerId>());
                        self.left_out.insert(id);
                    }
                },
                3 => {
                    let is_there = row.try_get::<Option<&str>, _>("id")?.is_some();
                    let found = is_there.then(|| or_gone(|| of_row(row))).transpose()?;
                    self.table.apply(match found.flatten() {
                        Some(entry) => Change::Key(entry),
                        None => Change::KeyRemoved(in_row(row, "touched")?),
                    })?;
                }
                // A text that is not an id or a name was never in the table.
                4 => gone.extend(row.try_get::<&str, _>("subject_id")?.parse::<ConsumerId>()),
                _ => gone_plans.extend(row.try_get::<&str, _>("subject_id")?.parse::<PlanName>()),
            }
        }
        for id in gone {
            self.table.apply(Change::ConsumerRemoved(id))?;
        }
        for name in gone_plans {
            self.table.apply(Change::PlanRemoved(name))?;
        }
        Ok(true)
    }

    /// Returns whether the store has foreign keys.
    async fn has_foreign(&self, snapshot: &mut AnyConnection) -> Result<bool, StoreError> {
        let Some((begin, length)) = self.table.own_hints() else {
            return Ok(true);
        };
        let begin_length = i64::try_from(begin.len()).unwrap_or(i64::MAX);
        let count: i64 = within(bulk::BATCH_TIMEOUT, async {
            Ok(sqlx::query_scalar(FOREIGN)
                .bind(begin_length)
                .bind(begin)
                .bind(i64::try_from(length).unwrap_or(i64::MAX))
                .fetch_one(&mut *snapshot)
                .await?)
        })
        .await?;
        Ok(count > 0)
    }

    /// Loads everything and records the revision.
    async fn load_all(&mut self, connection: &mut AnyConnection) -> Result<Known, StoreError> {
        let begun = Instant::now();
        let (mut snapshot, known, awaited) = within(ANSWER_TIMEOUT, async {
            let mut snapshot = connection
                .begin_with(self.store.database.begin_read())
                .await?;
            let (newest, awaited, mark): (Option<i64>, Option<i64>, String) =
                sqlx::query_as(NEWEST).fetch_one(&mut *snapshot).await?;
            let known = Known {
                revision: newest.unwrap_or(0),
                mark: mark.into(),
            };
            Ok((snapshot, known, awaited.unwrap_or(0)))
        })
        .await?;
        let has_foreign = self.has_foreign(&mut snapshot).await?;
        if has_foreign {
            self.table.may_hold_foreign(true);
        }
        let mut reload = self.table.reload();
        let left_out = bulk::read_all(&mut snapshot, &mut reload).await?;
        reload.finish();
        self.left_out = left_out;
        self.table.may_hold_foreign(has_foreign);
        self.status.awaits(awaited);
        snapshot.commit().await?;
        self.status.loaded();
        self.loaded_at = Some(Instant::now());
        log::info!(
            "loaded {} keys in {:.3} s",
            self.table.len(),
            begun.elapsed().as_secs_f64()
        );
        Ok(known)
    }
}

impl Known {
    /// Returns whether the store has the same history, by the fingerprints at this revision
    /// (`then`) and at the newest (`now`).
    fn is_of_history(&self, then: &str, now: &str) -> bool {
        // A missing audit row was pruned if later ones exist.
        let without_audit = self.mark.split(' ').next().map(|id| format!("{id} 0 0 -"));
        *self.mark == *then
            || (without_audit.as_deref() == Some(then) && audited(now) > audited(&self.mark))
    }
}

/// Returns the number of the audit row in a fingerprint; 0 for none.
fn audited(mark: &str) -> i64 {
    let row = mark.split(' ').nth(1).map(str::parse);
    row.and_then(Result::ok).unwrap_or(0)
}

impl News {
    async fn since(known: &Known, connection: &mut AnyConnection) -> Result<Self, StoreError> {
        let mut rows = sqlx::query(NEWS.as_str())
            .bind(known.revision)
            .bind(MAX_CHANGES)
            .bind(audited(&known.mark))
            .fetch_all(connection)
            .await?
            .into_iter();
        let (mut kept, mut awaited, mut marks) = ((1, 0), 0, Default::default());
        if let Some(first) = rows.next() {
            let (oldest, newest): (Option<i64>, Option<i64>) =
                (first.try_get("oldest")?, first.try_get("newest")?);
            kept = (oldest.unwrap_or(kept.0), newest.unwrap_or(kept.1));
            awaited = first.try_get::<Option<i64>, _>("awaited")?.unwrap_or(0);
            marks = (first.try_get("mark_then")?, first.try_get("mark")?);
        }
        Ok(Self {
            kept,
            awaited,
            marks,
            rows: rows.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_told_by_its_last_change_and_row_of_the_audit() {
        for (mark, then, now, is_same) in [
            ("- 0 0 -", "- 0 0 -", "key_b 2 20 key_b", true),
            (
                "key_a 1 10 key_a",
                "key_a 1 10 key_a",
                "key_b 2 20 key_b",
                true,
            ),
            // Another change, the same at another time, none, and fewer audit rows.
            (
                "key_a 1 10 key_a",
                "key_b 1 10 key_a",
                "key_b 2 20 key_b",
                false,
            ),
            (
                "key_a 1 10 key_a",
                "key_a 1 11 key_a",
                "key_b 2 20 key_b",
                false,
            ),
            ("key_a 1 10 key_a", "- 0 0 -", "- 0 0 -", false),
            ("key_a 7 10 key_a", "key_a 0 0 -", "key_b 6 20 key_b", false),
            // The audit was pruned.
            ("key_a 1 10 key_a", "key_a 0 0 -", "key_b 2 20 store", true),
        ] {
            let known = Known {
                revision: 3,
                mark: mark.into(),
            };
            assert_eq!(
                known.is_of_history(then, now),
                is_same,
                "{mark} {then} {now}"
            );
        }
    }
}
