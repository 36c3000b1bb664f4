//! Usage.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use postern_gateway::keys::{Hour, KeyId, KeyUsage, UnixMillis, UsageCounts};
use postern_gateway::store::{
    DatabaseUrl, Period, Store, StoreError, UsageBatch, UsageOf, UsageRange,
};

use super::feed::Following;
use super::making::{NOW, create_key, open, stamp};

const HOUR: Duration = Duration::from_secs(3600);

fn counts(requests: u64) -> UsageCounts {
    UsageCounts {
        requests,
        refusals: requests / 2,
        bytes_in: requests * 10,
        bytes_out: requests * 1_000,
    }
}

/// `requests` requests with `key` at `at`, and that it was used then.
fn used(key: KeyId, at: UnixMillis, requests: u64) -> KeyUsage {
    KeyUsage {
        key,
        hour: Hour::of(at),
        counts: counts(requests),
        last_used_at: Some(at),
    }
}

/// Adds `rows` as a batch that was not added before.
async fn add(store: &Store, rows: &[KeyUsage]) -> Result<(), StoreError> {
    static NUMBER: AtomicI64 = AtomicI64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let writer = format!("writer {number}");
    store
        .add_usage(
            UsageBatch {
                writer: &writer,
                number,
            },
            rows,
        )
        .await
}

pub(crate) async fn a_batch_that_is_sent_again_is_counted_once(url: &DatabaseUrl) {
    let store = open(url).await;
    let key = create_key(&store, "acme", "one").await.key.id;
    let send = async |writer, number, requests| {
        let rows = [used(key, NOW, requests)];
        let batch = UsageBatch { writer, number };
        store.add_usage(batch, &rows).await.unwrap();
    };
    for (writer, number, requests, sum) in [
        ("a", 1, 2, 2),
        ("a", 1, 2, 2),
        ("a", 2, 4, 6),
        ("a", 2, 4, 6),
        ("a", 1, 2, 6),
        ("b", 1, 6, 12),
        ("b", 1, 6, 12),
        ("a", 3, 8, 20),
    ] {
        send(writer, number, requests).await;
        assert_eq!(
            total(&store, UsageOf::All).await.requests,
            sum,
            "{writer} {number}"
        );
    }
    // Two at once: one of them counts.
    let other = open(url).await;
    let rows = [used(key, NOW, 10)];
    let batch = UsageBatch {
        writer: "a",
        number: 4,
    };
    let (one, two) = tokio::join!(store.add_usage(batch, &rows), other.add_usage(batch, &rows));
    one.and(two).unwrap();
    assert_eq!(total(&store, UsageOf::All).await.requests, 30);
}

async fn total(store: &Store, of: UsageOf) -> UsageCounts {
    let range = UsageRange::new(
        UnixMillis(NOW.0 - 50 * Hour::MILLIS),
        NOW.after(50 * HOUR),
        Period::Hour,
    )
    .unwrap();
    store.usage(&of, range).await.unwrap().total
}

pub(crate) async fn usage_adds_up_and_a_key_knows_its_last_use(url: &DatabaseUrl) {
    let store = open(url).await;
    let key = create_key(&store, "acme", "one").await.key.id;
    let other = create_key(&store, "acme", "two").await.key.id;
    let last_used = async |id| store.key(id).await.unwrap().unwrap().last_used_at;
    assert_eq!(last_used(&key).await, None);

    let refused = KeyUsage {
        last_used_at: None,
        ..used(key, NOW, 1)
    };
    add(&store, &[refused]).await.unwrap();
    assert_eq!(last_used(&key).await, None, "a refused request is no use");

    let later = NOW.after(Duration::from_secs(5));
    add(&store, &[used(key, NOW, 3), used(key, NOW.after(HOUR), 5)])
        .await
        .unwrap();
    add(&store, &[used(key, later, 7)]).await.unwrap();
    // The end of the list is not the last use, and what comes late does not turn it back.
    assert_eq!(last_used(&key).await, Some(NOW.after(HOUR)));
    assert_eq!(last_used(&other).await, None);
    let mut wanted = counts(1);
    [counts(3), counts(5), counts(7)]
        .into_iter()
        .for_each(|more| wanted += more);
    assert_eq!(total(&store, UsageOf::Key(key)).await, wanted);
    assert_eq!(
        total(&store, UsageOf::Key(other)).await,
        UsageCounts::default()
    );
    add(&store, &[]).await.unwrap();
}

pub(crate) async fn many_keys_are_written_at_once(url: &DatabaseUrl) {
    let store = open(url).await;
    let mine = create_key(&store, "acme", "one").await.key.id;
    // More than one statement takes, and a last one that is not full.
    let keys: Vec<KeyId> = (0..450)
        .map(|_| KeyId::generate().unwrap())
        .chain([mine])
        .collect();
    for round in 1..=2 {
        let rows: Vec<KeyUsage> = keys
            .iter()
            .map(|key| used(*key, NOW.after(HOUR * round), 2))
            .collect();
        add(&store, &rows).await.unwrap();
    }
    assert_eq!(total(&store, UsageOf::All).await, counts(4 * 451));
    assert_eq!(
        store.key(&mine).await.unwrap().unwrap().last_used_at,
        Some(NOW.after(HOUR * 2))
    );
}

pub(crate) async fn usage_of_a_deleted_key_stays(url: &DatabaseUrl) {
    let store = open(url).await;
    let gone = create_key(&store, "acme", "one").await.key;
    add(&store, &[used(gone.id, NOW, 3)]).await.unwrap();
    store
        .delete_consumer(&gone.consumer, &stamp())
        .await
        .unwrap();
    // A gateway may still hold counts of it.
    add(&store, &[used(gone.id, NOW, 4)]).await.unwrap();
    let wanted = UsageCounts {
        refusals: 1 + 2,
        ..counts(7)
    };
    assert_eq!(total(&store, UsageOf::Key(gone.id)).await, wanted);
    assert_eq!(total(&store, UsageOf::All).await, wanted);
    assert_eq!(
        total(&store, UsageOf::Consumer(gone.consumer)).await,
        UsageCounts::default()
    );
    let range = UsageRange::new(NOW, NOW.after(HOUR), Period::Day).unwrap();
    let top = store.top_keys(&UsageOf::All, range, 10).await.unwrap();
    assert_eq!(
        (top.len(), top[0].key, &top[0].consumer),
        (1, gone.id, &None)
    );
}

pub(crate) async fn usage_is_told_by_period_of_whoever_is_asked_for(url: &DatabaseUrl) {
    let store = open(url).await;
    let one = create_key(&store, "acme", "one").await.key;
    let two = create_key(&store, "acme", "two").await.key;
    let three = create_key(&store, "other", "three").await.key;
    // 2023-11-14T22:00Z: the next day begins two hours later.
    let begin = Hour::of(NOW).start();
    let at = |hours: u32| begin.after(HOUR * hours);
    let rows = [
        used(one.id, at(0), 2),
        used(two.id, at(0), 4),
        used(two.id, at(3), 6),
        used(three.id, at(3), 20),
    ];
    add(&store, &rows).await.unwrap();

    let range = |by| UsageRange::new(at(0), at(4), by).unwrap();
    let of_acme = UsageOf::Consumer(one.consumer);
    for (of, by, wanted) in [
        (UsageOf::All, Period::Hour, vec![6, 0, 0, 26]),
        (
            UsageOf::Bucket("default".parse().unwrap()),
            Period::Hour,
            vec![6, 0, 0, 26],
        ),
        (
            UsageOf::Bucket("elsewhere".parse().unwrap()),
            Period::Hour,
            vec![0, 0, 0, 0],
        ),
        (of_acme.clone(), Period::Hour, vec![6, 0, 0, 6]),
        (UsageOf::Key(two.id), Period::Hour, vec![4, 0, 0, 6]),
        (UsageOf::Key(two.id), Period::Day, vec![4, 6]),
        (UsageOf::All, Period::Day, vec![6, 26]),
    ] {
        let report = store.usage(&of, range(by)).await.unwrap();
        let requests: Vec<u64> = report
            .periods
            .iter()
            .map(|period| period.counts.requests)
            .collect();
        assert_eq!(requests, wanted, "{of:?} {by:?}");
        assert_eq!(report.total, counts(wanted.iter().sum()), "{of:?} {by:?}");
    }
    // What is before the range or begins with its end is not in it.
    let middle = UsageRange::new(at(1), at(3), Period::Hour).unwrap();
    assert_eq!(
        store.usage(&UsageOf::All, middle).await.unwrap().total,
        UsageCounts::default()
    );

    let top = async |of, limit| {
        let top = store
            .top_keys(&of, range(Period::Hour), limit)
            .await
            .unwrap();
        top.into_iter()
            .map(|top| (top.key, top.consumer, top.counts.requests))
            .collect::<Vec<_>>()
    };
    let (acme, other) = (Some("acme".to_owned()), Some("other".to_owned()));
    assert_eq!(
        top(UsageOf::All, 2).await,
        [(three.id, other, 20), (two.id, acme.clone(), 10)]
    );
    assert_eq!(
        top(of_acme, 10).await,
        [(two.id, acme.clone(), 10), (one.id, acme, 2)]
    );
}

pub(crate) async fn several_gateways_write_at_once_and_nothing_is_lost(url: &DatabaseUrl) {
    let store = open(url).await;
    let mut keys = Vec::new();
    for number in 0..20 {
        keys.push(
            create_key(&store, "acme", &format!("key {number}"))
                .await
                .key
                .id,
        );
    }
    let write = async || {
        let store = open(url).await;
        for round in 0..10 {
            let mut rows: Vec<KeyUsage> = keys.iter().map(|key| used(*key, NOW, 2)).collect();
            rows.rotate_left(round);
            add(&store, &rows).await.unwrap();
        }
    };
    tokio::join!(write(), write(), write(), write());
    assert_eq!(total(&store, UsageOf::All).await, counts(4 * 10 * 20 * 2));
}

pub(crate) async fn writing_usage_is_no_change_for_the_feed(url: &DatabaseUrl) {
    let store = open(url).await;
    let key = create_key(&store, "acme", "one").await.key.id;
    let following = Following::new(&store).await;
    let (revision, loads) = (following.status.revision(), following.status.loads());
    assert_eq!(loads, 1);
    for _ in 0..5 {
        add(&store, &[used(key, NOW, 1)]).await.unwrap();
    }
    // What comes after the usage is there, so the feed has looked at it too.
    create_key(&store, "acme", "two").await;
    following
        .until("created", |following| following.find("two").is_some())
        .await;
    following
        .until("at the new change", |following| {
            following.status.revision() == revision + 1
        })
        .await;
    assert_eq!(following.status.loads(), loads, "the table was loaded anew");
}
