//! The change feed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_gateway::keys::{KeyDigest, KeyState, KeyStatus, KeyTable, KnownKey};
use postern_gateway::store::{ConsumerEdit, DatabaseUrl, FeedStatus, Store, follow};
use tokio::task::JoinHandle;

use super::making::{NOW, create_key, open, stamp};

/// How soon a change must be in the table.
const SOON: Duration = Duration::from_millis(100);
/// How long a test waits before it gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway's table that follows a store, until it is dropped.
pub(crate) struct Following {
    pub(crate) table: Arc<KeyTable>,
    pub(crate) status: Arc<FeedStatus>,
    task: JoinHandle<std::convert::Infallible>,
}

impl Following {
    /// Follows `store`; returns once the table is loaded.
    pub(crate) async fn new(store: &Store) -> Self {
        let (table, status) = (Arc::new(KeyTable::new()), Arc::new(FeedStatus::new()));
        let task = tokio::spawn(follow(
            store.clone(),
            Arc::clone(&table),
            Arc::clone(&status),
            None,
        ));
        let following = Self {
            table,
            status,
            task,
        };
        following
            .until("loaded", |following| following.table.is_loaded())
            .await;
        // The status follows the table by a moment.
        following
            .until("checked", |following| {
                following.status.age(Instant::now()).is_some()
            })
            .await;
        following
    }

    pub(crate) fn find(&self, text: &str) -> Option<KnownKey> {
        self.table.lookup(&KeyDigest::of(text.as_bytes()))
    }

    pub(crate) fn status_of(&self, text: &str) -> Option<KeyStatus> {
        self.find(text).map(|key| key.status(NOW))
    }

    /// Waits for `is_so` and tells how long that took.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) -> Duration {
        let begun = Instant::now();
        while !is_so(self) {
            assert!(begun.elapsed() < PATIENCE, "never: {what}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        begun.elapsed()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) async fn the_table_is_loaded_with_what_is_there(url: &DatabaseUrl) {
    let store = open(url).await;
    for number in 0..50 {
        create_key(
            &store,
            &format!("consumer {}", number % 7),
            &format!("key {number}"),
        )
        .await;
    }
    let revoked = create_key(&store, "acme", "revoked").await.key;
    store
        .set_key_state(&revoked.id, KeyState::Revoked, &stamp())
        .await
        .unwrap();

    let following = Following::new(&store).await;
    assert_eq!(following.table.len(), 51);
    assert_eq!(
        following.find("key 8").unwrap().consumer().name.as_str(),
        "consumer 1"
    );
    assert_eq!(following.status_of("revoked"), Some(KeyStatus::Revoked));
    assert_eq!(following.status_of("unknown"), None);
}

pub(crate) async fn another_process_is_followed_within_100_ms(url: &DatabaseUrl) {
    let following = Following::new(&open(url).await).await;
    // A store of its own has connections of its own: to the database it is another process.
    let other = open(url).await;
    let (mut changes, mut delays) = (Vec::new(), Vec::new());
    for number in 0..20 {
        let text = format!("key {number}");
        let begun = Instant::now();
        let id = create_key(&other, "acme", &text).await.key.id;
        changes.push(begun.elapsed());
        delays.push(
            following
                .until("created", |following| following.find(&text).is_some())
                .await,
        );
        for (state, status) in [
            (KeyState::Disabled, KeyStatus::Disabled),
            (KeyState::Active, KeyStatus::Active),
            (KeyState::Revoked, KeyStatus::Revoked),
        ] {
            other.set_key_state(&id, state, &stamp()).await.unwrap();
            delays.push(
                following
                    .until("changed", |following| {
                        following.status_of(&text) == Some(status)
                    })
                    .await,
            );
        }
    }
    // A few may be late where a busy machine let this test itself wait, and all where each change takes it long.
    let most = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() * 9 / 10]
    };
    let (change, delay) = (most(changes), most(delays));
    assert!(delay < SOON + change * 4, "{delay:?}, {change:?}");
}

pub(crate) async fn the_own_process_is_followed_too(url: &DatabaseUrl) {
    let store = open(url).await;
    let following = Following::new(&store).await;
    let id = create_key(&store, "acme", "one").await.key.id;
    following
        .until("created", |following| following.find("one").is_some())
        .await;
    store
        .set_key_state(&id, KeyState::Revoked, &stamp())
        .await
        .unwrap();
    following
        .until("revoked", |following| {
            following.status_of("one") == Some(KeyStatus::Revoked)
        })
        .await;
}

pub(crate) async fn a_deleted_consumer_takes_its_keys_along(url: &DatabaseUrl) {
    let store = open(url).await;
    let acme = create_key(&store, "acme", "one").await.key.consumer;
    create_key(&store, "acme", "two").await;
    create_key(&store, "other", "three").await;
    let following = Following::new(&store).await;

    let other = open(url).await;
    // A key that comes and goes between two looks.
    create_key(&other, "acme", "four").await;
    other.delete_consumer(&acme, &stamp()).await.unwrap();
    following
        .until("deleted", |following| following.find("one").is_none())
        .await;
    following
        .until("all deleted", |following| following.table.len() == 1)
        .await;
    assert!(following.find("two").is_none());
    assert!(following.find("four").is_none());
    assert!(following.find("three").is_some());
}

pub(crate) async fn a_changed_consumer_changes_its_keys(url: &DatabaseUrl) {
    let store = open(url).await;
    let acme = create_key(&store, "acme", "one").await.key.consumer;
    let following = Following::new(&store).await;
    assert!(!following.find("one").unwrap().allows("read"));

    let edit = ConsumerEdit {
        scopes: Some("read".parse().unwrap()),
        ..ConsumerEdit::default()
    };
    open(url)
        .await
        .update_consumer(&acme, edit, &stamp())
        .await
        .unwrap();
    following
        .until("changed", |following| {
            following.find("one").unwrap().allows("read")
        })
        .await;
}

pub(crate) async fn the_status_tells_how_current_the_table_is(url: &DatabaseUrl) {
    let store = open(url).await;
    assert_eq!(FeedStatus::new().age(Instant::now()), None);
    let following = Following::new(&store).await;
    following
        .until("checked", |following| {
            following.status.age(Instant::now()).is_some()
        })
        .await;
    let revision = following.status.revision();
    create_key(&store, "acme", "one").await;
    // One change for the consumer, one for the key.
    following
        .until("at the new change", |following| {
            following.status.revision() == revision + 2
        })
        .await;
    let seen = Instant::now();
    following
        .until("checked again", |following| {
            following
                .status
                .age(Instant::now())
                .is_some_and(|age| age < seen.elapsed())
        })
        .await;
}
