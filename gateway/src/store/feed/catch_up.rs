//! From the revision that the table has to the one that the store has: by the changes in between, or by loading all.

use std::time::Duration;

use sqlx::{AnyConnection, Connection, Row};
use tokio::time::Instant;

use crate::keys::{Change, ConsumerId};
use crate::store::feed::{Follower, bulk};
use crate::store::rows;
use crate::store::{StoreError, within};

/// How long the store may take to say what is new, and to tell the changes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const CHANGES_TIMEOUT: Duration = Duration::from_secs(30);
/// Above this many changes, loading everything is the shorter way.
const MOST_CHANGES: i64 = 10_000;

impl Follower {
    /// Brings the table to the state of the store, as one snapshot of it shows.
    pub(super) async fn catch_up(&mut self, connection: &mut AnyConnection) -> Result<(), StoreError> {
        let store = self.store.clone();
        let (mut snapshot, (oldest, newest)) = within(ANSWER_TIMEOUT, async {
            let mut snapshot = connection.begin_with(store.database.begin_read()).await?;
            let kept = kept_revisions(&mut snapshot).await?;
            Ok((snapshot, kept))
        })
        .await?;
        match self.revision {
            Some(known) if known == newest => {}
            // Going on needs every change after `known`; a store that went back was restored from a copy.
            Some(known) if oldest <= known + 1 && newest > known && newest - known <= MOST_CHANGES => {
                match within(CHANGES_TIMEOUT, self.apply_changes(&mut snapshot, known)).await {
                    Err(StoreError::OutOfStep(error)) => {
                        log::warn!("loading all keys again: {error}");
                        self.load_all(&mut snapshot).await?;
                    }
                    outcome => outcome?,
                }
            }
            Some(known) => {
                log::info!("loading all keys again: the table is at change {known}, the store keeps {oldest} to {newest}");
                self.load_all(&mut snapshot).await?;
            }
            None => self.load_all(&mut snapshot).await?,
        }
        snapshot.commit().await?;
        self.revision = Some(newest);
        self.status.reached(newest);
        Ok(())
    }

    async fn apply_changes(&self, snapshot: &mut AnyConnection, known: i64) -> Result<(), StoreError> {
        // The rows as they are now: in between they may have changed several times. Consumers first, because a new key
        // may belong to a new consumer.
        let consumers = sqlx::query(
            "SELECT DISTINCT ch.subject_id, c.id, c.bucket, c.name, c.custom_id, c.metadata, c.scopes, c.allowed_ips \
             FROM changes ch LEFT JOIN consumers c ON c.id = ch.subject_id \
             WHERE ch.revision > $1 AND ch.subject = 'consumer'",
        )
        .bind(known)
        .fetch_all(&mut *snapshot)
        .await?;
        for row in &consumers {
            let id: ConsumerId = rows::required(row, "subject_id")?;
            let is_there = row.try_get::<Option<&str>, _>("id")?.is_some();
            self.table.apply(match or_gone(is_there, || rows::consumer(row))? {
                Some(consumer) => Change::Consumer(consumer),
                None => Change::ConsumerRemoved(id),
            })?;
        }
        let keys = sqlx::query(
            "SELECT DISTINCT ch.digest, k.id, k.consumer_id, k.state, k.expires_at, k.deprecated_at, k.scopes \
             FROM changes ch LEFT JOIN keys k ON k.id = ch.subject_id \
             WHERE ch.revision > $1 AND ch.subject = 'key'",
        )
        .bind(known)
        .fetch_all(snapshot)
        .await?;
        for row in &keys {
            let is_there = row.try_get::<Option<&str>, _>("id")?.is_some();
            self.table.apply(match or_gone(is_there, || rows::key_entry(row))? {
                Some(entry) => Change::Key(entry),
                None => Change::KeyRemoved(rows::digest(row)?),
            })?;
        }
        Ok(())
    }

    async fn load_all(&mut self, snapshot: &mut AnyConnection) -> Result<(), StoreError> {
        let begun = Instant::now();
        let mut reload = self.table.reload();
        bulk::read_all(snapshot, &mut reload).await?;
        reload.finish();
        self.status.loaded();
        self.loaded_at = Some(Instant::now());
        log::info!("loaded {} keys in {:.3} s", self.table.len(), begun.elapsed().as_secs_f64());
        Ok(())
    }
}

/// The oldest and the newest change that the store keeps; `(1, 0)` when there was never any.
async fn kept_revisions(snapshot: &mut AnyConnection) -> Result<(i64, i64), StoreError> {
    let row = sqlx::query("SELECT (SELECT min(revision) FROM changes) AS oldest, (SELECT max(revision) FROM changes) AS newest")
        .fetch_one(snapshot)
        .await?;
    let (oldest, newest): (Option<i64>, Option<i64>) = (row.try_get("oldest")?, row.try_get("newest")?);
    Ok((oldest.unwrap_or(1), newest.unwrap_or(0)))
}

/// What `read` reads. A row that cannot be read counts as gone: its key is refused, and the others are not held up.
pub(super) fn or_gone<T>(is_there: bool, read: impl FnOnce() -> Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    if !is_there {
        return Ok(None);
    }
    match read() {
        Ok(read) => Ok(Some(read)),
        Err(error @ StoreError::UnreadableRow { .. }) => {
            log::error!("a consumer or key was left out, its keys are refused: {error}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
