//! Keys that nobody uses: reported or disabled, as their bucket says.

use std::convert::Infallible;
use std::time::Duration;

use serde_json::json;
use sqlx::Row as _;
use tokio::time::sleep;

use crate::keys::{BucketName, KeyId, UnixMillis};
use crate::store::bulk::{self, In};
use crate::store::columns::in_row;
use crate::store::connections::limited;
use crate::store::journal::{self, Action, Actor, Mutation, Subject};
use crate::store::{Stamp, Store, StoreError, StoreSizes, UnusedAction, WRITE_LIMIT};

/// Delay of the first look after the start, and interval of the others.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_mins(15);
/// Number of keys disabled in one transaction, to limit the wait of other writers.
const KEYS_AT_ONCE: i64 = 500;

/// Active keys of a bucket that were neither used nor changed since a moment. A changed key counts
/// as used, so that one that was enabled again stays enabled for a while.
const UNUSED: &str = "FROM keys k JOIN consumers c ON c.id = k.consumer_id WHERE c.bucket = $1 AND k.state = 'active' \
    AND k.exempt_from_unused = 0 AND (k.expires_at IS NULL OR k.expires_at > $2) \
    AND k.updated_at < $3 AND (k.last_used_at IS NULL OR k.last_used_at < $3)";

/// Result of a look at unused keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unused {
    /// Keys disabled by this look.
    pub disabled: u64,
    /// Keys that are unused for too long, in buckets that only report them.
    pub reported: u64,
}

/// Looks at unused keys for ever.
pub async fn attend_unused(store: &Store, sizes: &StoreSizes) -> Infallible {
    let mut told = 0;
    sleep(FIRST_DELAY).await;
    loop {
        match store.end_unused().await {
            Ok(Unused { disabled, reported }) => {
                if disabled > 0 {
                    log::info!(
                        "disabled {disabled} keys unused for longer than their bucket allows"
                    );
                }
                if reported > 0 && reported != told {
                    log::warn!("{reported} keys are unused for longer than their bucket allows");
                }
                told = reported;
                sizes.found_unused(reported);
            }
            Err(error) => log::warn!("cannot look for unused keys: {error}"),
        }
        sleep(INTERVAL).await;
    }
}

impl Store {
    /// Disables the keys that were not used for as long as their bucket allows, or counts them
    /// where it says so, by the database's clock. Safe on several gateways at once.
    ///
    /// # Errors
    /// A failure of the store; what was disabled until then stays so.
    pub async fn end_unused(&self) -> Result<Unused, StoreError> {
        let now = self.now().await?;
        let rules = sqlx::query(
            "SELECT name, unused_after, unused_action FROM buckets WHERE unused_after IS NOT NULL ORDER BY name",
        )
        .fetch_all(&self.pool)
        .await?;
        let mut unused = Unused::default();
        for rule in &rules {
            let bucket: BucketName = in_row(rule, "name")?;
            let seconds: i64 = rule.try_get("unused_after")?;
            let since = now.saturating_sub(seconds.saturating_mul(1_000));
            match in_row::<UnusedAction>(rule, "unused_action")? {
                UnusedAction::Report => {
                    unused.reported += self.count_unused(&bucket, now, since).await?;
                }
                UnusedAction::Disable => loop {
                    let some = self.disable_some(&bucket, now, since);
                    match limited(WRITE_LIMIT, some).await? {
                        0 => break,
                        disabled => unused.disabled += disabled,
                    }
                },
            }
        }
        Ok(unused)
    }

    async fn count_unused(
        &self,
        bucket: &BucketName,
        now: i64,
        since: i64,
    ) -> Result<u64, StoreError> {
        let _turn = self.scan().await?;
        let count = sqlx::AssertSqlSafe(format!("SELECT count(*) {UNUSED}"));
        let count: i64 = sqlx::query_scalar(count)
            .bind(bucket.as_str())
            .bind(now)
            .bind(since)
            .fetch_one(&self.scans)
            .await?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// Disables some of the unused keys of a bucket; returns their number. Looks before it takes
    /// the write lock, and again under it.
    async fn disable_some(
        &self,
        bucket: &BucketName,
        now: i64,
        since: i64,
    ) -> Result<u64, StoreError> {
        let select = || {
            let sql =
                format!("SELECT k.id, k.last_used_at {UNUSED} ORDER BY k.id LIMIT {KEYS_AT_ONCE}");
            sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(bucket.as_str())
                .bind(now)
                .bind(since)
        };
        if select().fetch_optional(&self.pool).await?.is_none() {
            return Ok(0);
        }
        let mut transaction = self.begin_write().await?;
        let rows = select().fetch_all(&mut *transaction).await?;
        let mut found: Vec<(KeyId, Option<UnixMillis>)> = Vec::with_capacity(rows.len());
        for row in &rows {
            found.push((in_row(row, "id")?, in_row(row, "last_used_at")?));
        }
        if found.is_empty() {
            return Ok(0);
        }
        let stamp = Stamp {
            at: UnixMillis(now),
            ..Stamp::now(Actor::gateway())
        };
        bulk::each_in(
            &mut transaction,
            &In {
                before: "UPDATE keys SET state = 'disabled', updated_at = $1 WHERE id".into(),
                values: 1,
                after: "",
            },
            |query| query.bind(now),
            &found,
            |query, (id, _)| query.bind(id.as_str()),
            |_| Ok(()),
        )
        .await?;
        let mutations = found.iter().map(|(id, last_used_at)| Mutation {
            action: Action::KeyDisable,
            subject: Subject::Key(id),
            detail: json!({ "before": "active", "reason": "unused", "last_used_at": last_used_at }),
        });
        let mutations: Vec<Mutation<'_>> = mutations.collect();
        journal::record_many(&mut transaction, &stamp, &mutations).await?;
        transaction.commit().await?;
        Ok(found.len() as u64)
    }
}
