//! Buckets.

use postern_gateway::store::{
    DatabaseUrl, KeyRule, LeakRule, NewBucket, NewConsumer, Store, StoreError, StoredBucket,
};

use super::making::{NOW, consumer, later, open, stamp};

async fn create(store: &Store, name: &str) -> Result<StoredBucket, StoreError> {
    store
        .create_bucket(
            NewBucket {
                name: name.parse().unwrap(),
                leaks: LeakRule::default(),
                keys: KeyRule::default(),
            },
            &stamp(),
        )
        .await
}

pub(crate) async fn a_bucket_is_made_once_and_listed_by_name(url: &DatabaseUrl) {
    let store = open(url).await;
    let made = create(&store, "second").await.unwrap();
    assert_eq!((made.name.as_str(), made.created_at), ("second", NOW));
    assert_eq!(store.bucket(&made.name).await.unwrap(), Some(made));
    assert_eq!(store.bucket(&"third".parse().unwrap()).await.unwrap(), None);
    for name in ["second", "default"] {
        let again = create(&store, name).await;
        assert!(
            matches!(again, Err(StoreError::Duplicate { field: "the name" })),
            "{again:?}"
        );
    }
    create(&store, "a").await.unwrap();
    let names = async |after: &str, limit| -> Vec<String> {
        store
            .buckets(after, limit)
            .await
            .unwrap()
            .iter()
            .map(|bucket| bucket.name.to_string())
            .collect()
    };
    assert_eq!(names("", 10).await, ["a", "default", "second"]);
    assert_eq!(names("", 2).await, ["a", "default"]);
    assert_eq!(names("default", 2).await, ["second"]);
}

pub(crate) async fn a_consumer_needs_a_bucket_that_is_there(url: &DatabaseUrl) {
    let store = open(url).await;
    let elsewhere = || NewConsumer {
        bucket: "second".parse().unwrap(),
        ..consumer("acme")
    };
    let refused = store.create_consumer(elsewhere(), &stamp()).await;
    assert!(
        matches!(&refused, Err(StoreError::UnknownBucket { wanted }) if wanted == "second"),
        "{refused:?}"
    );
    create(&store, "second").await.unwrap();
    store
        .create_consumer(consumer("acme"), &later(1))
        .await
        .unwrap();
    store.create_consumer(elsewhere(), &later(2)).await.unwrap();
}
