//! The gateways that follow a store.

use postern_gateway::keys::UnixMillis;
use postern_gateway::store::{DatabaseUrl, GatewayId, Presence};

use super::making::{NOW, create_key, open};

fn presence(name: &str) -> Presence {
    Presence {
        id: GatewayId::generate().unwrap(),
        name: name.to_owned(),
        started_at: NOW,
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
