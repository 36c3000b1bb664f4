//! Who comes to routes that only observe.

use std::net::IpAddr;

use postern_gateway::keys::adoption::{
    AdoptionCounts, AdoptionKey, ClientClass, Day, Network, Newcomer,
};
use postern_gateway::keys::{ConsumerId, UnixMillis};
use postern_gateway::store::{AdoptionReport, DatabaseUrl, Keep, Store, UsageBatch};

use super::making::{NOW, consumer, open, stamp};

const DAY: i64 = 86_400_000;

fn key(route: &str, at: UnixMillis, newcomer: Option<Newcomer>) -> AdoptionKey {
    AdoptionKey {
        route: route.into(),
        day: Day::of(at),
        newcomer,
    }
}

fn newcomer(consumer: Option<ConsumerId>, host: u8) -> Newcomer {
    Newcomer {
        code: "insufficient_scope".into(),
        cause: "scope".into(),
        consumer,
        network: Network::of(IpAddr::from([192, 0, host, 1]).into()),
        client: ClientClass::of(Some(b"curl/8")),
    }
}

fn counts(requests: u64, first_at: i64, last_at: i64) -> AdoptionCounts {
    AdoptionCounts {
        requests,
        first_at: UnixMillis(first_at),
        last_at: UnixMillis(last_at),
    }
}

async fn add(store: &Store, number: i64, rows: &[(AdoptionKey, AdoptionCounts)]) {
    let batch = UsageBatch {
        writer: "one",
        number,
    };
    store.add_counts(batch, &[], &[], rows).await.unwrap();
}

async fn report(store: &Store, since: i64, route: Option<&str>, limit: u32) -> AdoptionReport {
    store
        .adoption(UnixMillis(since), route, limit)
        .await
        .unwrap()
}

pub(crate) async fn those_who_come_without_a_good_key_are_told_apart(url: &DatabaseUrl) {
    let store = open(url).await;
    let acme = store
        .create_consumer(consumer("acme"), &stamp())
        .await
        .unwrap();
    let (gone, now) = (ConsumerId::generate().unwrap(), NOW.0);
    let rows = [
        (key("v1", NOW, None), counts(7, now, now)),
        (
            key("v1", NOW, Some(newcomer(Some(acme.id), 2))),
            counts(2, now + 5, now + 9),
        ),
        (
            key("v1", NOW, Some(newcomer(Some(gone), 2))),
            counts(1, now, now),
        ),
        (key("v1", NOW, Some(newcomer(None, 3))), counts(5, now, now)),
        (key("v2", NOW, None), counts(1, now, now)),
    ];
    // A batch that is sent again is counted once, and another one adds up.
    for number in [1, 1, 2] {
        add(&store, number, &rows).await;
    }
    let yesterday = UnixMillis(now - DAY);
    let earlier = counts(3, yesterday.0, yesterday.0 + 1);
    add(
        &store,
        3,
        &[(
            key("v1", yesterday, Some(newcomer(Some(acme.id), 2))),
            earlier,
        )],
    )
    .await;

    let all = report(&store, now - DAY, None, 10).await;
    assert_eq!(all.from, Day::of(yesterday).start());
    let routes: Vec<_> = all
        .routes
        .iter()
        .map(|one| (one.route.as_str(), one.good, one.refused, one.all_callers))
        .collect();
    assert_eq!(routes, [("v1", 14, 19, 3), ("v2", 2, 0, 0)]);
    let callers: Vec<_> = all.routes[0]
        .callers
        .iter()
        .map(|one| {
            (
                one.consumer,
                one.consumer_name.as_deref(),
                one.network.as_str(),
                one.requests,
                one.first_at.0,
                one.last_at.0,
            )
        })
        .collect();
    assert_eq!(
        callers,
        [
            (None, None, "192.0.3.0/24", 10, now, now),
            (
                Some(acme.id),
                Some("acme"),
                "192.0.2.0/24",
                7,
                yesterday.0,
                now + 9
            ),
            (Some(gone), None, "192.0.2.0/24", 2, now, now),
        ]
    );
    let first = &all.routes[0].callers[0];
    assert_eq!(
        (
            first.code.as_str(),
            first.cause.as_str(),
            first.client.as_str()
        ),
        ("insufficient_scope", "scope", "curl")
    );

    let today = report(&store, now, Some("v1"), 1).await;
    assert_eq!(today.routes.len(), 1);
    assert_eq!(
        (
            today.routes[0].refused,
            today.routes[0].all_callers,
            today.routes[0].callers.len()
        ),
        (16, 3, 1)
    );
    assert_eq!(report(&store, now, Some("v3"), 1).await.routes, []);
    assert_eq!(report(&store, now + DAY, None, 1).await.routes, []);
    assert_eq!(
        store.newest_revision().await.unwrap(),
        1,
        "no change of the model"
    );
}

pub(crate) async fn rows_of_adoption_are_kept_for_ninety_days(url: &DatabaseUrl) {
    let store = open(url).await;
    let today = UnixMillis::now();
    for (number, days) in [(1, 0), (2, 80), (3, 95), (4, 200)] {
        let at = UnixMillis(today.0 - days * DAY);
        let rows: Vec<_> = (0..=255)
            .map(|host| {
                (
                    key("v1", at, Some(newcomer(None, host))),
                    counts(1, at.0, at.0),
                )
            })
            .collect();
        add(&store, number, &rows).await;
    }
    store.prune(Keep::default()).await.unwrap();
    let left = report(&store, today.0 - 300 * DAY, None, 10).await;
    assert_eq!(
        (left.routes[0].refused, left.routes[0].all_callers),
        (512, 256)
    );
}
