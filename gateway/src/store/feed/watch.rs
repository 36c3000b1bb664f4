//! [`Watch`]: what tells the feed that there may be something new.

use std::time::Duration;

use sqlx::AnyConnection;
use sqlx::postgres::PgListener;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use crate::store::{Database, Store, StoreError};

/// How often SQLite is asked whether another connection wrote. It costs no read of the file, and leaves most of the
/// 100 ms, within which a revoked key must be refused, to the rest of the way.
const POLL_SQLITE_EVERY: Duration = Duration::from_millis(20);
/// How often PostgreSQL is asked although it told nothing: a notification may be lost with the connection that would
/// have brought it.
const POLL_POSTGRES_EVERY: Duration = Duration::from_secs(1);

/// A connection for reading, and the signal beside it.
pub(super) struct Watch {
    pub(super) connection: AnyConnection,
    signal: Signal,
    /// Changes of this process, which wait for no question.
    own: watch::Receiver<()>,
    database: Database,
    /// Which file, or which of several servers, it is.
    pub(super) generation: u64,
}

enum Signal {
    Poll { every: Interval, seen: Option<i64> },
    Notifications(PgListener),
}

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// There may be something new.
    Changed,
    /// There is nothing new.
    Same,
}

impl Watch {
    /// Connects.
    pub(super) async fn open(store: &Store) -> Result<Self, StoreError> {
        let own = store.own_changes();
        let signal = match &store.database {
            Database::Sqlite(_) => {
                let mut every = interval(POLL_SQLITE_EVERY);
                every.set_missed_tick_behavior(MissedTickBehavior::Delay);
                Signal::Poll { every, seen: None }
            }
            // Before anything is read: what changes after that is told.
            Database::Postgres(server) => Signal::Notifications(server.listen().await?),
        };
        Ok(Self {
            connection: store.database.connect().await?,
            signal,
            own,
            generation: store.database.generation(),
            database: store.database.clone(),
        })
    }

    /// Waits until there may be something new, or until it is known that there is not.
    pub(super) async fn look(&mut self) -> Result<Look, StoreError> {
        self.database.in_place()?;
        if self.database.generation() != self.generation {
            return Err(StoreError::Unreachable {
                reason: "another server takes the writes now".to_owned(),
            });
        }
        let own = self.own.changed();
        match &mut self.signal {
            Signal::Poll { every, seen } => {
                tokio::select! {
                    _ = own => {}
                    _ = every.tick() => {}
                }
                // Asked before anything is read: what is written after the question is found by the next one.
                let version = Some(data_version(&mut self.connection).await?);
                let look = if *seen == version {
                    Look::Same
                } else {
                    Look::Changed
                };
                *seen = version;
                Ok(look)
            }
            Signal::Notifications(listener) => {
                let told = tokio::select! {
                    _ = own => return Ok(Look::Changed),
                    told = timeout(POLL_POSTGRES_EVERY, listener.try_recv()) => told,
                };
                match told {
                    Ok(Ok(Some(_))) | Err(_) => {}
                    Ok(Ok(None)) => {
                        return Err(StoreError::Unreachable {
                            reason: "the connection that tells of changes broke".to_owned(),
                        });
                    }
                    Ok(Err(error)) => return Err(error.into()),
                }
                // One look answers all that was told so far.
                while listener.next_buffered().is_some() {}
                Ok(Look::Changed)
            }
        }
    }
}

/// A number that differs from the last time when another connection, of whatever process, wrote in between.
async fn data_version(connection: &mut AnyConnection) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar("PRAGMA data_version")
        .fetch_one(connection)
        .await?)
}
