//! The gateways that follow a store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_gateway::keys::UnixMillis;
use postern_gateway::store::{DatabaseUrl, GatewayId, Presence, WaitFor};

use super::making::{NOW, create_key, open};

fn presence(name: &str) -> Presence {
    Presence {
        id: GatewayId::generate().unwrap(),
        name: name.to_owned(),
        started_at: NOW,
        max_staleness: None,
        listener: None,
        config_hash: Arc::default(),
    }
}

pub(crate) async fn each_says_how_far_it_has_come(url: &DatabaseUrl) {
    let store = open(url).await;
    assert_eq!(store.newest_revision().await.unwrap(), 0);
    create_key(&store, "acme", "one").await;
    let newest = store.newest_revision().await.unwrap();
    assert_eq!(newest, 2);

    let (first, second) = (presence("b:8080"), presence("a:8080"));
    store.announce(&first, 1).await.unwrap();
    store.announce(&second, newest).await.unwrap();
    let hash = async || {
        let gateways = store.gateways().await.unwrap();
        let second = gateways
            .into_iter()
            .find(|gateway| gateway.name == second.name);
        second.unwrap().config_hash
    };
    assert_eq!(hash().await, None);
    for settings in ["0123456789abcdef", "fedcba9876543210"] {
        second.config_hash.store(Arc::new(settings.to_owned()));
        store.announce(&second, newest).await.unwrap();
        assert_eq!(hash().await.as_deref(), Some(settings));
    }
    let told = |gateways: &[postern_gateway::store::FollowingGateway]| -> Vec<(String, i64, bool)> {
        gateways
            .iter()
            .map(|gateway| (gateway.name.clone(), gateway.revision, gateway.live))
            .collect()
    };
    let gateways = store.gateways().await.unwrap();
    assert_eq!(
        told(&gateways),
        [
            ("a:8080".to_owned(), 2, true),
            ("b:8080".to_owned(), 1, true)
        ]
    );
    assert_eq!(gateways[0].started_at, NOW);
    let age = UnixMillis::now().0 - gateways[0].seen_at.0;
    assert!((-1_000..60_000).contains(&age), "{age}");

    store.announce(&first, newest).await.unwrap();
    store.leave(&second.id).await.unwrap();
    assert_eq!(
        told(&store.gateways().await.unwrap()),
        [("b:8080".to_owned(), 2, true)]
    );
}

pub(crate) async fn a_successor_takes_the_place_of_one_that_was_killed(url: &DatabaseUrl) {
    let store = open(url).await;
    let at = |listener: &str| Presence {
        listener: Some(listener.to_owned()),
        ..presence(listener)
    };
    let (killed, other, successor) = (at("here"), at("there"), at("here"));
    for gateway in [&killed, &other, &presence("anywhere"), &successor] {
        store.announce(gateway, 0).await.unwrap();
        store.succeed(gateway).await.unwrap();
    }
    let known: Vec<String> = store
        .gateways()
        .await
        .unwrap()
        .into_iter()
        .map(|gateway| gateway.id)
        .collect();
    assert_eq!(known.len(), 3);
    assert!(!known.contains(&killed.id.to_string()));
}

pub(crate) async fn one_that_is_silent_for_longer_than_its_table_may_get_old_refuses(
    url: &DatabaseUrl,
) {
    let store = open(url).await;
    create_key(&store, "acme", "one").await;
    let strict = Presence {
        max_staleness: Some(Duration::from_millis(50)),
        ..presence("strict")
    };
    store.announce(&strict, 1).await.unwrap();
    let patience = Duration::from_millis(1);
    let now = store.confirmed_by(WaitFor::All, patience).await.unwrap();
    assert_eq!((now.missing.len(), now.refusing.len()), (1, 0));
    assert!(!now.is_whole(true));
    let begun = Instant::now();
    let then = store
        .confirmed_by(WaitFor::All, Duration::from_secs(10))
        .await
        .unwrap();
    assert!(then.is_whole(false), "{then:?}");
    assert_eq!(then.refusing.len(), 1);
    assert!(begun.elapsed() < Duration::from_secs(9));
}
