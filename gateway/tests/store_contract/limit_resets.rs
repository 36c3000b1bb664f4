//! Resets of rate limits.

use postern_gateway::keys::ConsumerId;
use postern_gateway::store::{DatabaseUrl, LimitReset, StoreError};

use super::making::{create_key, open, stamp};

pub(crate) async fn a_reset_is_told_to_every_gateway_once(url: &DatabaseUrl) {
    let (store, other) = (open(url).await, open(url).await);
    let key = create_key(&store, "acme", "one").await.key;
    let (consumer, key) = (key.consumer, key.id);
    let mut resets = Vec::new();
    for (key, name) in [
        (None, None),
        (None, Some("burst")),
        (Some(&key), None),
        (Some(&key), Some("burst")),
    ] {
        let stamp = stamp();
        let made = store.record_limit_reset(&consumer, key, name, &stamp);
        resets.push(LimitReset {
            revision: made.await.unwrap(),
            consumer,
            key: key.copied(),
            name: name.map(str::to_owned),
        });
    }
    let last = resets[3].revision;
    assert_eq!(other.limit_resets(0, last).await.unwrap(), resets);
    let after = other.limit_resets(resets[1].revision, resets[2].revision);
    assert_eq!(after.await.unwrap(), resets[2..3]);
    assert_eq!(other.limit_resets(last, last).await.unwrap(), []);
    for reset in &resets {
        let party = other.limit_party(reset).await.unwrap().unwrap();
        assert_eq!(party.consumer.id, consumer);
        assert_eq!(party.key.map(|key| key.id), reset.key);
    }
    store.delete_consumer(&consumer, &stamp()).await.unwrap();
    let gone = other.limit_party(&resets[0]).await.unwrap();
    assert!(gone.is_none());
    let nobody = ConsumerId::generate().unwrap();
    let refused = store
        .record_limit_reset(&nobody, None, None, &stamp())
        .await;
    assert!(
        matches!(refused, Err(StoreError::UnknownConsumer { .. })),
        "{refused:?}"
    );
}
