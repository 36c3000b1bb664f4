//! [`Write`]: a transaction that may write, and [`Commits`]: which change of the store an answer speaks of.
//!
//! Whatever is answered after a write speaks of a revision: the one that it made, or the one that it found where there was
//! nothing to do. A call notes it here by itself, so that no operation can forget it; whoever answers waits for it.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::{Any, AnyConnection, Executor, Row, Transaction};
use tokio::sync::watch;

use crate::store::journal::KEPT_CHANGES;
use crate::store::{Database, Fault, Store, StoreError, connections, postgres};

/// How many feed rows there may be beyond those that are kept, so that not every write pays for removing one.
const CLEAN_UP_ABOVE: i64 = 1_000;

/// A change that a gateway must have reached for what was written to be in force there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Into which file, or on which of several servers; the numbers of changes mean nothing in another.
    pub generation: u64,
    /// Its number.
    pub revision: i64,
}

/// A transaction that may write. Dropped before [`commit`](Self::commit), it changes nothing.
pub(super) struct Write {
    transaction: Transaction<'static, Any>,
    /// The newest revision when its turn began, and where.
    before: Written,
    commits: Commits,
    database: Database,
}

/// The newest change that one call has made or found, and the signal that there is one.
#[derive(Clone, Debug)]
pub(super) struct Commits {
    newest: Arc<Mutex<Option<Written>>>,
    told: watch::Sender<()>,
}

impl Store {
    /// Begins a transaction that may write. Writers take turns from the beginning, so none fails halfway for another.
    pub(super) async fn begin_write(&self) -> Result<Write, StoreError> {
        let begun = match self.take_turn().await {
            // The sessions are those of a server that became a standby. Another may have taken its place.
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
        // Also where nothing will be changed: what was found is what a gateway has to have.
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
            // A plain BEGIN takes the write lock at the first write, and fails there when another took it since.
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
                        // The pool goes on with one host of several; the next write finds the one that took its place.
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
    pub fn written(&self) -> Option<Written> {
        *self
            .commits
            .newest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What was written was waited for: [`written`](Self::written) is nothing again.
    pub fn waited_for(&self) {
        *self
            .commits
            .newest
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
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
        let (_, revision) = kept(connection).await?;
        self.commits.note(Written {
            generation: self.database.generation(),
            revision,
        });
        Ok(())
    }
}

impl Write {
    /// Makes it last. When this returns, what was written survives a crash.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        self.commit_of(None).await
    }

    /// Makes last what was made or changed of the thing with the id `subject`, which an error then names.
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
        // Where the file was replaced meanwhile, the change is in the one that is gone.
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
    /// Nothing was written so far.
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

/// The oldest and the newest revision that the feed has; both 0 when it never had any.
async fn kept(connection: &mut AnyConnection) -> Result<(i64, i64), StoreError> {
    let (oldest, newest): (Option<i64>, Option<i64>) = sqlx::query_as(
        "SELECT (SELECT min(revision) FROM changes), (SELECT max(revision) FROM changes)",
    )
    .fetch_one(connection)
    .await?;
    Ok((oldest.unwrap_or(0), newest.unwrap_or(0)))
}
