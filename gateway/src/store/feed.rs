//! The change feed: keeps a [`KeyTable`] in sync with the store.
//!
//! Read-only, on its own connections. While the database cannot be read, the table stays as it is
//! and requests continue. After a panic, a full load repairs the table.

mod bulk;
mod catch_up;
mod status;
mod watch;

pub use status::{FeedStatus, Followed, Reached};

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection;
use tokio::time::{Instant, sleep, timeout};

use crate::keys::KeyTable;
use crate::memory;
use crate::panics::{Panicked, catch_panic};
use crate::store::fault::Fault;
use crate::store::feed::watch::{Look, Watch};
use crate::store::snapshot::Origin;
use crate::store::{Store, StoreError};

/// Minimum and maximum retry delay.
const RETRY_AFTER: Duration = Duration::from_millis(100);
const RETRY_AT_LEAST_EVERY: Duration = Duration::from_secs(5);
/// Timeout for closing the read connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Loads `table` and follows the store forever. `status` reports how current the table is. A table
/// restored from a snapshot is not reloaded if the feed covers the changes since then.
///
/// Drop the future to stop; the table keeps its state.
pub async fn follow(
    store: Store,
    table: Arc<KeyTable>,
    status: Arc<FeedStatus>,
    restored: Option<Origin>,
) -> Infallible {
    let (followed, known) = restored
        .map(|restored| {
            let known = Known {
                revision: restored.revision,
                mark: restored.mark.into(),
            };
            (restored.store.into(), known)
        })
        .unzip();
    let mut follower = Follower {
        store,
        table,
        status,
        followed,
        known,
        loaded_at: Some(Instant::now()),
        left_out: HashSet::new(),
        health: Health::Unknown,
    };
    follower
        .follow_watches(async |follower| follower.follow_one_watch().await)
        .await
}

struct Follower {
    store: Store,
    table: Arc<KeyTable>,
    status: Arc<FeedStatus>,
    /// Identity of the store that the table comes from.
    followed: Option<Arc<str>>,
    /// Last applied change; `None` before the first load and after a change of history.
    known: Option<Known>,
    /// Time of the last load or restore, until its temporary memory was released.
    loaded_at: Option<Instant>,
    /// Consumers with unreadable rows, left out of the table. If one becomes readable, its keys
    /// must be loaded too.
    left_out: HashSet<String>,
    health: Health,
}

/// The last change of a table.
struct Known {
    revision: i64,
    /// Fingerprint of the history up to the change. A store restored from a backup, or one that
    /// lost changes in a failover, reuses the same numbers for other changes.
    mark: Arc<str>,
}

/// Last logged state, so that each is logged once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Unknown,
    Following,
    Interrupted,
}

impl Follower {
    /// Runs one watch after another, each until it fails.
    async fn follow_watches(
        &mut self,
        mut follow_one: impl AsyncFnMut(&mut Self) -> Result<Infallible, StoreError>,
    ) -> Infallible {
        let mut retry_after = RETRY_AFTER;
        loop {
            match catch_panic(follow_one(self)).await {
                Ok(Ok(never)) => match never {},
                Ok(Err(error)) => {
                    if self.health == Health::Following {
                        retry_after = RETRY_AFTER;
                    }
                    self.tell_interrupted(&error);
                }
                // The delay grows after every panic, regardless of progress: each costs a full
                // load.
                Err(panicked) => self.begin_anew(&panicked),
            }
            sleep(retry_after).await;
            retry_after = (retry_after * 2).min(RETRY_AT_LEAST_EVERY);
        }
    }

    async fn follow_one_watch(&mut self) -> Result<Infallible, StoreError> {
        self.store.reopen_if_replaced().await?;
        let mut watch = Watch::open(&self.store).await?;
        let ended = self.follow_until_interrupted(&mut watch).await;
        // Closed now instead of on drop: another file may be about to be opened at this path.
        let _ = timeout(CLOSE_TIMEOUT, watch.connection.close()).await;
        ended
    }

    async fn follow_until_interrupted(
        &mut self,
        watch: &mut Watch,
    ) -> Result<Infallible, StoreError> {
        let identity: Arc<str> = self.store.identity().await?.into();
        // Change numbers are specific to a store, even at the same location.
        if self
            .followed
            .as_ref()
            .is_some_and(|followed| *followed != identity)
        {
            self.is_of_another();
        }
        self.followed = Some(identity);
        // The first look covers everything, whatever was notified.
        self.catch_up(watch).await?;
        loop {
            self.status.checked(Instant::now().into_std());
            self.tell_following();
            if watch.look().await? == Look::Changed {
                self.catch_up(watch).await?;
            }
            if self
                .loaded_at
                .is_some_and(|at| at.elapsed() > memory::PURGE_DELAY)
            {
                memory::purge();
                self.loaded_at = None;
            }
        }
    }

    /// Marks the table's last change as unknown.
    fn begin_anew(&mut self, panicked: &Panicked) {
        log::error!("the change feed ended in {panicked}; loading all keys again");
        self.is_of_another();
        self.health = Health::Interrupted;
    }

    /// Marks the table as belonging to another history: requires a full load, and reports no
    /// revision until then.
    fn is_of_another(&mut self) {
        self.known = None;
        self.status.is_of_another();
    }

    fn tell_following(&mut self) {
        self.status.fails_with(None);
        if self.health == Health::Interrupted {
            log::info!("the key table follows the store again");
        }
        self.health = Health::Following;
    }

    fn tell_interrupted(&mut self, error: &StoreError) {
        let fault = error.fault().unwrap_or(Fault::Other);
        self.status.fails_with(Some(fault));
        if fault == Fault::FileReplaced {
            // The change numbers may belong to another history.
            self.is_of_another();
        }
        if self.health != Health::Interrupted {
            if self.table.is_loaded() {
                log::warn!(
                    "the key table cannot follow the store; requests continue with the known keys: {error}"
                );
            } else {
                log::error!("the keys cannot be loaded: {error}");
            }
        }
        self.health = Health::Interrupted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::DatabaseUrl;

    #[actix_rt::test]
    async fn after_a_panic_the_store_is_followed_again_and_everything_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let url: DatabaseUrl = format!("sqlite://{}/gateway.db", directory.path().display())
            .parse()
            .unwrap();
        let (table, status) = (Arc::new(KeyTable::new()), Arc::new(FeedStatus::new()));
        let mut follower = Follower {
            store: Store::open(&url).await.unwrap(),
            table: Arc::clone(&table),
            status: Arc::clone(&status),
            followed: None,
            known: Some(Known {
                revision: 0,
                mark: "".into(),
            }),
            loaded_at: None,
            left_out: HashSet::new(),
            health: Health::Following,
        };
        let mut watches = 0;
        let following = follower.follow_watches(async |follower| {
            watches += 1;
            assert!(watches > 1, "the first watch");
            follower.follow_one_watch().await
        });
        tokio::select! {
            never = following => match never {},
            () = async {
                while status.age(std::time::Instant::now()).is_none() {
                    sleep(Duration::from_millis(5)).await;
                }
            } => {}
        }
        assert_eq!((status.loads(), table.is_loaded()), (1, true));
    }
}
