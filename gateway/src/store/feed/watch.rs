//! [`Watch`]: detects possible changes for the feed.

use std::time::Duration;

use sqlx::AnyConnection;
use sqlx::postgres::PgListener;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use crate::store::{Database, Store, StoreError};

/// Poll interval for writes by other SQLite connections. A poll reads no file, and leaves most of
/// the 100 ms limit for refusing a revoked key to the following steps.
const POLL_SQLITE_EVERY: Duration = Duration::from_millis(20);
/// Poll interval for PostgreSQL beside its notifications, which may be lost with their connection.
const POLL_POSTGRES_EVERY: Duration = Duration::from_secs(1);

/// A connection for reading, and a signal of changes.
pub(super) struct Watch {
    pub(super) connection: AnyConnection,
    signal: Signal,
    /// Changes of this process, effective without a poll.
    own: watch::Receiver<()>,
    database: Database,
    /// Generation of the file or server.
    pub(super) generation: u64,
}

enum Signal {
    Poll { every: Interval, seen: Option<i64> },
    Notifications(PgListener),
}

/// Result of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// There may be changes.
    Changed,
    /// No changes.
    Same,
}

impl Watch {
    /// Connects to the store.
    pub(super) async fn open(store: &Store) -> Result<Self, StoreError> {
        let own = store.own_changes();
        let signal = match &store.database {
            Database::Sqlite(_) => {
                let mut every = interval(POLL_SQLITE_EVERY);
                every.set_missed_tick_behavior(MissedTickBehavior::Delay);
                Signal::Poll { every, seen: None }
            }
            // Subscribed before the first read, so no later change is missed.
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

    /// Waits until there may be changes, or until their absence is certain.
    pub(super) async fn look(&mut self) -> Result<Look, StoreError> {
        self.database.in_place()?;
        if self.database.generation() != self.generation {
            return Err(StoreError::Unreachable {
                reason: "another server is the primary now".to_owned(),
            });
        }
        let own = self.own.changed();
        match &mut self.signal {
            Signal::Poll { every, seen } => {
                tokio::select! {
                    _ = own => {}
                    _ = every.tick() => {}
                }
                // Read first: the next poll detects any write after this.
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
                            reason: "the connection for notifications broke".to_owned(),
                        });
                    }
                    Ok(Err(error)) => return Err(error.into()),
                }
                // One look covers all pending notifications.
                while listener.next_buffered().is_some() {}
                Ok(Look::Changed)
            }
        }
    }
}

/// Returns a number that changes with each write by another connection of any process.
async fn data_version(connection: &mut AnyConnection) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar("PRAGMA data_version")
        .fetch_one(connection)
        .await?)
}
