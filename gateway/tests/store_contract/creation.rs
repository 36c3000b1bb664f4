//! Creations that are sent again.

use postern_gateway::store::{
    Creation, CreationKey, DatabaseUrl, KeyFilter, NewConsumer, Store, StoreError, StoredConsumer,
};

use super::making::{answer, consumer, key, later, open, owner, stamp};

fn sent(key: &str, body: &str) -> CreationKey {
    CreationKey::new("admin", key.as_bytes(), [b"POST", b"/", body.as_bytes()])
}

async fn create(
    store: &Store,
    new: NewConsumer,
    key: &CreationKey,
    hours: u64,
) -> Result<Creation<StoredConsumer>, StoreError> {
    store
        .create_consumer_once(new, Some(key), |_| answer("/first"), &later(hours * 3600))
        .await
}

pub(crate) async fn a_creation_is_answered_again_whatever_a_gateways_clock_says(url: &DatabaseUrl) {
    let store = open(url).await;
    let key = sent("one", "acme");
    assert!(matches!(
        create(&store, consumer("acme"), &key, 0).await.unwrap(),
        Creation::Made(_)
    ));
    // The database's clock decides: that of a gateway may be days ahead.
    for hours in [0, 23, 25, 1_000] {
        match create(&store, consumer("acme"), &key, hours).await.unwrap() {
            Creation::Repeated(told) => assert_eq!(told, answer("/first")),
            Creation::Made(made) => panic!("{made:?} after {hours} hours"),
        }
    }
    let other = create(&store, consumer("other"), &sent("one", "other"), 23).await;
    assert!(
        matches!(other, Err(StoreError::IdempotencyKeyReused)),
        "{other:?}"
    );
}

pub(crate) async fn a_creation_that_failed_is_not_remembered(url: &DatabaseUrl) {
    let store = open(url).await;
    store
        .create_consumer(consumer("acme"), &stamp())
        .await
        .unwrap();
    let key = sent("one", "acme");
    let taken = create(&store, consumer("acme"), &key, 0).await;
    assert!(
        matches!(taken, Err(StoreError::Duplicate { .. })),
        "{taken:?}"
    );
    let found = store
        .consumer_named(&"default".parse().unwrap(), &"acme".parse().unwrap())
        .await
        .unwrap()
        .unwrap();
    store.delete_consumer(&found.id, &stamp()).await.unwrap();
    assert!(matches!(
        create(&store, consumer("acme"), &key, 0).await.unwrap(),
        Creation::Made(_)
    ));
}

pub(crate) async fn two_at_once_make_one(url: &DatabaseUrl) {
    let (one, two) = (open(url).await, open(url).await);
    let create = async |store: &Store, text: &str| {
        let new = key(owner("acme"), text);
        store
            .create_key_once(
                new,
                Some(&sent("one", "key")),
                |_| answer("/first"),
                &stamp(),
            )
            .await
            .unwrap()
    };
    let (first, second) = tokio::join!(create(&one, "a"), create(&two, "b"));
    let made = [&first, &second]
        .into_iter()
        .filter(|creation| matches!(creation, Creation::Made(_)))
        .count();
    assert_eq!(made, 1, "{first:?} {second:?}");
    assert_eq!(
        one.list_keys(&KeyFilter::default(), None, 10)
            .await
            .unwrap()
            .len(),
        1
    );
}
