//! The change feed: keeps a [`KeyTable`] as the store is.
//!
//! It reads only, on a connection of its own. When the database cannot be read, the table stays as it is and requests
//! go on.

mod catch_up;
mod status;

pub use status::FeedStatus;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use sqlx::AnyConnection;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::keys::KeyTable;
use crate::store::{Database, Store, StoreError};

/// How often SQLite is asked whether another connection wrote. It costs no read of the file, and leaves most of the
/// 100 ms, within which a revoked key must be refused, to the rest of the way.
const POLL_EVERY: Duration = Duration::from_millis(20);
/// How long to wait after the first failure, and the longest wait.
const RETRY_AFTER: Duration = Duration::from_millis(100);
const RETRY_AT_LEAST_EVERY: Duration = Duration::from_secs(5);

/// Loads `table` and then keeps it as the store is, for ever. `status` tells how current it is.
///
/// Drop the future to stop: the table stays as it is at that moment.
pub async fn follow(store: Store, table: Arc<KeyTable>, status: Arc<FeedStatus>) -> Infallible {
    let mut follower = Follower { store, table, status, revision: None, health: Health::Unknown };
    let mut retry_after = RETRY_AFTER;
    loop {
        let error = match follower.follow_on_one_connection().await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        if follower.health == Health::Following {
            retry_after = RETRY_AFTER;
        }
        follower.tell_interrupted(&error);
        sleep(retry_after).await;
        retry_after = (retry_after * 2).min(RETRY_AT_LEAST_EVERY);
    }
}

struct Follower {
    store: Store,
    table: Arc<KeyTable>,
    status: Arc<FeedStatus>,
    /// The last change that the table has; `None` before it was loaded.
    revision: Option<i64>,
    health: Health,
}

/// What the log was told last, so that it is told once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Unknown,
    Following,
    Interrupted,
}

impl Follower {
    async fn follow_on_one_connection(&mut self) -> Result<Infallible, StoreError> {
        let Database::Sqlite(file) = &self.store.database;
        let mut connection = file.connect().await?;
        let mut polls = interval(POLL_EVERY);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = None;
        loop {
            polls.tick().await;
            // Asked before anything is read: what is written after the question is found by the next one.
            let version = Some(data_version(&mut connection).await?);
            if version != seen {
                self.catch_up(&mut connection).await?;
                seen = version;
            }
            self.status.checked(Instant::now().into_std());
            self.tell_following();
        }
    }

    fn tell_following(&mut self) {
        if self.health == Health::Interrupted {
            log::info!("the key table follows the store again");
        }
        self.health = Health::Following;
    }

    fn tell_interrupted(&mut self, error: &StoreError) {
        if self.health != Health::Interrupted {
            if self.table.is_loaded() {
                log::warn!("the key table cannot follow the store; requests go on with the keys known so far: {error}");
            } else {
                log::error!("the keys cannot be loaded: {error}");
            }
        }
        self.health = Health::Interrupted;
    }
}

/// A number that differs from the last time when another connection, of whatever process, wrote in between.
async fn data_version(connection: &mut AnyConnection) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar("PRAGMA data_version").fetch_one(connection).await?)
}
