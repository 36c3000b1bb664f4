//! [`Write`]: a write transaction. [`Commits`]: the revision that the current answer refers to.
//!
//! Every answer after a write refers to a revision: the one that it created or, if nothing changed,
//! the one that it found. Each call records its revision here by itself, so that no operation can
//! forget it; the caller waits for it.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::{Any, AnyConnection, Executor, Row, Transaction};
use tokio::sync::watch;

use crate::store::journal::KEPT_CHANGES;
use crate::store::{Database, Fault, Store, StoreError, connections, postgres};

/// Number of surplus feed rows that triggers a clean-up, so that not every write pays for one.
const CLEAN_UP_ABOVE: i64 = 1_000;

/// Change that a gateway must have applied for a write to be in force there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Generation of the file or server; revisions are specific to it.
    pub generation: u64,
    /// Revision of the change.
    pub revision: i64,
}

/// A write transaction. Dropped before [`commit`](Self::commit), it changes nothing.
pub(super) struct Write {
    transaction: Transaction<'static, Any>,
    /// Newest revision when the write lock was acquired.
    before: Written,
    commits: Commits,
    database: Database,
}

/// Newest revision created or found by one call, with a signal for new ones.
#[derive(Clone, Debug)]
pub(super) struct Commits {
    newest: Arc<Mutex<Option<Written>>>,
    told: watch::Sender<()>,
}

impl Store {
    /// Begins a write transaction. Takes the write lock at once, so none fails halfway for another
    /// writer.
    pub(super) async fn begin_write(&self) -> Result<Write, StoreError> {
        let begun = match self.take_turn().await {
            // The sessions belong to a demoted primary; another server may have replaced it.
            Err(error) if error.fault() == Some(Fault::ReadOnlyServer) => {
                self.find_the_primary().await?;
                self.take_turn().await
            }
            begun => begun,
        };
        let mut transaction = match begun {
            Err(StoreError::Busy { holder: None }) => {
                return Err(StoreError::Busy {
                    holder: self.database.holder().await,
                });
            }
            begun => begun?,
        };
        let (_, revision) = kept(&mut transaction).await?;
        let before = Written {
            generation: self.database.generation(),
            revision,
        };
        // Recorded even if nothing changes: a gateway must have reached the state that was found.
        self.commits.note(before);
        Ok(Write {
            transaction,
            before,
            commits: self.commits.clone(),
            database: self.database.clone(),
        })
    }

    async fn take_turn(&self) -> Result<Transaction<'static, Any>, StoreError> {
        let transaction = match &self.database {
            // A plain BEGIN takes the write lock at the first write, and fails if another writer
            // had it since.
            Database::Sqlite(file) => {
                file.in_place()?;
                self.pool.begin_with("BEGIN IMMEDIATE").await?
            }
            Database::Postgres(server) => {
                let begun = self.pool.begin_with("BEGIN").await;
                let mut transaction = match begun {
                    Ok(transaction) => transaction,
                    Err(error) => {
                        let error = StoreError::from(error);
                        // The pool stays with one host; the next write finds its replacement.
                        if error.is_unreachable() && server.has_several_hosts() {
                            self.find_the_primary().await?;
                        }
                        return Err(error);
                    }
                };
                let turn = transaction.fetch_one(postgres::TAKE_TURN).await?;
                if turn.try_get::<&str, _>("read_only")? == "on" {
                    return Err(postgres::read_only(server.location().to_owned()));
                }
                transaction
            }
        };
        Ok(transaction)
    }

    /// Returns a handle for one call, which records its own revision.
    #[must_use]
    pub fn for_one_call(&self) -> Self {
        Self {
            commits: self.commits.for_one_call(),
            ..self.clone()
        }
    }

    /// Returns the revision that a gateway must have applied for this call's result to be in force
    /// there; `None` if the call wrote nothing.
    #[must_use]
    pub fn written(&self) -> Option<Written> {
        *self
            .commits
            .newest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks the revision as confirmed: resets [`written`](Self::written).
    pub fn waited_for(&self) {
        *self
            .commits
            .newest
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Signals each change that this process makes.
    pub(super) fn own_changes(&self) -> watch::Receiver<()> {
        self.commits.told.subscribe()
    }

    /// Records the current revision for an answer that writes nothing.
    pub(super) async fn speaks_of_now(
        &self,
        connection: &mut AnyConnection,
    ) -> Result<(), StoreError> {
        let (_, revision) = kept(connection).await?;
        self.commits.note(Written {
            generation: self.database.generation(),
            revision,
        });
        Ok(())
    }
}

impl Write {
    /// Commits. On return the changes are durable.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        self.commit_of(None).await
    }

    /// Commits a change of the item with the id `subject`, which an error then names.
    pub(super) async fn commit_of(mut self, subject: Option<&str>) -> Result<(), StoreError> {
        let (oldest, newest) = kept(&mut self.transaction).await?;
        if newest - oldest > KEPT_CHANGES + CLEAN_UP_ABOVE {
            sqlx::query("DELETE FROM changes WHERE revision <= $1")
                .bind(newest - KEPT_CHANGES)
                .execute(&mut *self.transaction)
                .await?;
        }
        connections::committing(subject);
        let committed = self.transaction.commit().await;
        committed.map_err(|error| StoreError::from(error).while_committing(subject))?;
        self.commits.note(Written {
            revision: newest,
            ..self.before
        });
        if newest != self.before.revision {
            self.commits.told.send_replace(());
        }
        // If the file was replaced meanwhile, the change is in the lost one.
        self.database
            .in_place()
            .map_err(|error| error.while_committing(subject))
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
    /// Returns a record without a revision.
    pub(super) fn new() -> Self {
        Self {
            newest: Arc::default(),
            told: watch::Sender::new(()),
        }
    }

    fn for_one_call(&self) -> Self {
        Self {
            newest: Arc::default(),
            told: self.told.clone(),
        }
    }

    fn note(&self, written: Written) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let is_newer = |known: Written| {
            known.generation != written.generation || known.revision < written.revision
        };
        if newest.is_none_or(is_newer) {
            *newest = Some(written);
        }
    }
}

/// Returns the oldest and the newest revision of the feed; both 0 for an empty feed.
async fn kept(connection: &mut AnyConnection) -> Result<(i64, i64), StoreError> {
    let (oldest, newest): (Option<i64>, Option<i64>) = sqlx::query_as(
        "SELECT (SELECT min(revision) FROM changes), (SELECT max(revision) FROM changes)",
    )
    .fetch_one(connection)
    .await?;
    Ok((oldest.unwrap_or(0), newest.unwrap_or(0)))
}
