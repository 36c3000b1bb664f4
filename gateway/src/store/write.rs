//! [`Write`]: a transaction that may write, and [`Commits`]: which change of the store an answer speaks of.
//!
//! Whatever is answered after a write speaks of a revision: the one that it made, or the one that it found where there was
//! nothing to do. A call notes it here by itself, so that no operation can forget it; whoever answers waits for it.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use sqlx::{Any, AnyConnection, Executor, Transaction};
use tokio::sync::watch;

use crate::store::journal::KEPT_CHANGES;
use crate::store::{Database, Store, StoreError, postgres};

/// How many feed rows there may be beyond those that are kept, so that not every write pays for removing one.
const CLEAN_UP_ABOVE: i64 = 1_000;

/// In [`Commits`]: nothing was written.
const NOTHING: i64 = -1;

/// A transaction that may write. Dropped before [`commit`](Self::commit), it changes nothing.
pub(super) struct Write {
    transaction: Transaction<'static, Any>,
    /// The newest revision when its turn began.
    before: i64,
    commits: Commits,
}

/// The newest change that one call has made or found, and the signal that there is one.
#[derive(Clone, Debug)]
pub(super) struct Commits {
    newest: Arc<AtomicI64>,
    told: watch::Sender<()>,
}

impl Store {
    /// Begins a transaction that may write. Writers take turns from the beginning, so none fails halfway for another.
    pub(super) async fn begin_write(&self) -> Result<Write, StoreError> {
        let mut transaction = match &self.database {
            // A plain BEGIN takes the write lock at the first write, and fails there when another took it since.
            Database::Sqlite(_) => self.pool.begin_with("BEGIN IMMEDIATE").await?,
            Database::Postgres(_) => {
                let mut transaction = self.pool.begin().await?;
                transaction.execute(postgres::TAKE_TURN).await?;
                transaction
            }
        };
        let (_, before) = kept(&mut transaction).await?;
        // Also where nothing will be changed: what was found is what a gateway has to have.
        self.commits.note(before);
        Ok(Write {
            transaction,
            before,
            commits: self.commits.clone(),
        })
    }

    /// The same store for one call, which notes for itself what it changes.
    #[must_use]
    pub fn for_one_call(&self) -> Self {
        Self {
            commits: self.commits.for_one_call(),
            ..self.clone()
        }
    }

    /// The revision that a gateway must have reached for what was written with this store, or was found to be so, to be
    /// in force there; `None` when nothing was to be written.
    #[must_use]
    pub fn written(&self) -> Option<i64> {
        let newest = self.commits.newest.load(Ordering::Acquire);
        (newest != NOTHING).then_some(newest)
    }

    /// What was written was waited for: [`written`](Self::written) is nothing again.
    pub fn waited_for(&self) {
        self.commits.newest.store(NOTHING, Ordering::Release);
    }

    /// Wakes whoever follows the store within this process, after each change that the process makes.
    pub(super) fn own_changes(&self) -> watch::Receiver<()> {
        self.commits.told.subscribe()
    }

    /// Notes that an answer speaks of what the store holds now, without writing.
    pub(super) async fn speaks_of_now(
        &self,
        connection: &mut AnyConnection,
    ) -> Result<(), StoreError> {
        let (_, newest) = kept(connection).await?;
        self.commits.note(newest);
        Ok(())
    }
}

impl Write {
    /// Makes it last. When this returns, what was written survives a crash.
    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        let (oldest, newest) = kept(&mut self.transaction).await?;
        if newest - oldest > KEPT_CHANGES + CLEAN_UP_ABOVE {
            sqlx::query("DELETE FROM changes WHERE revision <= $1")
                .bind(newest - KEPT_CHANGES)
                .execute(&mut *self.transaction)
                .await?;
        }
        self.transaction.commit().await?;
        self.commits.note(newest);
        if newest != self.before {
            self.commits.told.send_replace(());
        }
        Ok(())
    }
}

impl Deref for Write {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        &self.transaction
    }
}

impl DerefMut for Write {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }
}

impl Commits {
    /// Nothing was written so far.
    pub(super) fn new() -> Self {
        Self {
            newest: Arc::new(AtomicI64::new(NOTHING)),
            told: watch::Sender::new(()),
        }
    }

    fn for_one_call(&self) -> Self {
        Self {
            newest: Arc::new(AtomicI64::new(NOTHING)),
            told: self.told.clone(),
        }
    }

    fn note(&self, revision: i64) {
        self.newest.fetch_max(revision, Ordering::AcqRel);
    }
}

/// The oldest and the newest revision that the feed has; both 0 when it never had any.
async fn kept(connection: &mut AnyConnection) -> Result<(i64, i64), StoreError> {
    let (oldest, newest): (Option<i64>, Option<i64>) = sqlx::query_as(
        "SELECT (SELECT min(revision) FROM changes), (SELECT max(revision) FROM changes)",
    )
    .fetch_one(connection)
    .await?;
    Ok((oldest.unwrap_or(0), newest.unwrap_or(0)))
}
