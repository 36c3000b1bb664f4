//! The change feed: keeps a [`KeyTable`] as the store is.
//!
//! It reads only, on connections of its own. When the database cannot be read, the table stays as it is and requests
//! go on. A panic on the way is no more than that: what it left undone is made good by loading everything anew.

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

/// How long to wait after the first failure, and the longest wait.
const RETRY_AFTER: Duration = Duration::from_millis(100);
const RETRY_AT_LEAST_EVERY: Duration = Duration::from_secs(5);
/// How long closing the connection for reading may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Loads `table` and then keeps it as the store is, for ever. `status` tells how current it is. A table that was restored
/// from a snapshot is not loaded again where the changes since then tell it all.
///
/// Drop the future to stop: the table stays as it is at that moment.
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
    /// The own name of the store that the table is of.
    followed: Option<Arc<str>>,
    /// What the table has; `None` before it was loaded, and when it is of another history than the store.
    known: Option<Known>,
    /// When all was loaded, or restored, until the memory that it took for a while was given back.
    loaded_at: Option<Instant>,
    /// Consumers of the store that are not in the table, for their rows cannot be read. Should one become readable, its keys
    /// are missing too.
    left_out: HashSet<String>,
    health: Health,
}

/// The last change that a table has.
struct Known {
    revision: i64,
    /// What the history up to it is known by. A store that was restored from a copy, or whose last changes were lost in a
    /// failover, goes on with the same numbers for other changes.
    mark: Arc<str>,
}

/// What the log was told last, so that it is told once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Unknown,
    Following,
    Interrupted,
}

impl Follower {
    /// Follows one watch after another, each until it is interrupted.
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
                // It waits longer each time, however well it went before: all is loaded again.
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
        // Now, and not when it is dropped: another file may be about to be opened in the place of this one.
        let _ = timeout(CLOSE_TIMEOUT, watch.connection.close()).await;
        ended
    }

    async fn follow_until_interrupted(
        &mut self,
        watch: &mut Watch,
    ) -> Result<Infallible, StoreError> {
        let identity: Arc<str> = self.store.identity().await?.into();
        // The numbers of changes mean nothing in another store, be it at the same place.
        if self
            .followed
            .as_ref()
            .is_some_and(|followed| *followed != identity)
        {
            self.is_of_another();
        }
        self.followed = Some(identity);
        // Whatever is told of, the first look is at all there is.
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

    /// Which changes the table has is not known any more.
    fn begin_anew(&mut self, panicked: &Panicked) {
        log::error!("following the store ended in {panicked}; all keys are loaded again");
        self.is_of_another();
        self.health = Health::Interrupted;
    }

    /// The table is not of the history of the store, or not known to be: all is to be loaded, and until then nobody is told
    /// how far it has come.
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
            // The numbers of its changes may be those of others.
            self.is_of_another();
        }
        if self.health != Health::Interrupted {
            if self.table.is_loaded() {
                log::warn!(
                    "the key table cannot follow the store; requests go on with the keys known so far: {error}"
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
