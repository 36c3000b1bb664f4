//! What is kept, and how much there is.

use std::time::Duration;

use postern_gateway::keys::{Hour, KeyUsage, UnixMillis, UsageCounts};
use postern_gateway::store::{
    Actor, AuditFilter, DatabaseUrl, Keep, Stamp, Store, StoreSizes, UsageBatch, UsageOf,
    UsageRange,
};

use super::making::{consumer, create_key, open};

const DAY: Duration = Duration::from_hours(24);

/// What happens `days` before now.
fn ago(days: u32) -> Stamp {
    let now = Stamp::now(Actor::command_line(Some("tester")));
    let millis = i64::try_from((days * DAY).as_millis()).unwrap();
    Stamp {
        at: UnixMillis(now.at.0 - millis),
        ..now
    }
}

async fn audit(store: &Store) -> Vec<(String, String)> {
    let rows = store
        .audit(&AuditFilter::default(), None, 10_000)
        .await
        .unwrap();
    rows.into_iter()
        .map(|row| (row.action, row.actor))
        .collect()
}

pub(crate) async fn what_is_not_kept_goes_and_the_audit_says_so(url: &DatabaseUrl) {
    let store = open(url).await;
    // More than one transaction deletes.
    for number in 0..1_203 {
        let name = format!("old {number}");
        store
            .create_consumer(consumer(&name), &ago(100))
            .await
            .unwrap();
    }
    store
        .create_consumer(consumer("new"), &ago(1))
        .await
        .unwrap();
    let key = create_key(&store, "acme", "one").await.key.id;
    let hours = [100, 1].map(|days| Hour::of(ago(days).at));
    let rows = hours.map(|hour| KeyUsage {
        key,
        hour,
        counts: UsageCounts {
            requests: 7,
            ..UsageCounts::default()
        },
        last_used_at: None,
    });
    let batch = UsageBatch {
        writer: "w",
        number: 1,
    };
    store.add_usage(batch, &rows).await.unwrap();
    let before = audit(&store).await.len();
    assert_eq!(store.prune(Keep::default()).await.unwrap(), (0, 0));
    assert_eq!(audit(&store).await.len(), before);

    let keep = Keep {
        audit: Some(30 * DAY),
        usage: Some(30 * DAY),
    };
    // `create_key` is stamped long ago too.
    let (gone, usage) = store.prune(keep).await.unwrap();
    assert_eq!((gone, usage), (1_205, 1));
    let left = audit(&store).await;
    assert_eq!(
        left,
        [
            ("audit.prune".to_owned(), "retention".to_owned()),
            ("consumer.create".to_owned(), "cli:tester".to_owned()),
        ]
    );
    let all = UsageRange::new(ago(150).at, ago(0).at, Default::default()).unwrap();
    let total = store.usage(&UsageOf::All, all).await.unwrap().total;
    assert_eq!(total.requests, 7);
    // Nothing to do leaves no trace.
    assert_eq!(store.prune(keep).await.unwrap(), (0, 0));
    assert_eq!(audit(&store).await.len(), 2);
}

pub(crate) async fn what_there_is_is_counted(url: &DatabaseUrl) {
    let store = open(url).await;
    create_key(&store, "acme", "one").await;
    let sizes = StoreSizes::default();
    assert_eq!(sizes.rows().count() + sizes.bytes().count(), 0);
    store.measure(&sizes).await.unwrap();
    let rows: Vec<_> = sizes.rows().collect();
    assert_eq!(
        rows,
        [
            ("buckets", 1),
            ("consumers", 1),
            ("keys", 1),
            ("audit", 2),
            ("usage", 0),
            ("changes", 2),
        ]
    );
    let database = sizes.bytes().find(|(part, _)| *part == "database").unwrap();
    assert!(database.1 > 10_000, "{database:?}");
}
