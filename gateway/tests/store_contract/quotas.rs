//! Use of quotas.

use postern_gateway::keys::{ConsumerId, UnixMillis};
use postern_gateway::limits::period::Bounds;
use postern_gateway::limits::quota::{QuotaCell, QuotaDelta, QuotaSubject};
use postern_gateway::store::{
    AuditFilter, DatabaseUrl, QuotaEdit, QuotaOwner, Store, StoreError, UsageBatch,
};

use super::making::{NOW, create_key, open, stamp};

const DAY: i64 = 24 * 3_600_000;

fn day(number: i64) -> Bounds {
    Bounds {
        start: UnixMillis(NOW.0 + (number - 1) * DAY),
        end: Some(UnixMillis(NOW.0 + number * DAY)),
    }
}

fn cell(subject: &QuotaSubject) -> QuotaCell {
    QuotaCell {
        quota: "daily".into(),
        kind: "day calendar UTC".into(),
        subject: subject.clone(),
    }
}

fn delta(subject: &QuotaSubject, period: Bounds, units: i64) -> QuotaDelta {
    QuotaDelta {
        cell: cell(subject),
        period,
        units,
    }
}

async fn add(store: &Store, writer: &str, number: i64, deltas: &[QuotaDelta]) {
    let batch = UsageBatch { writer, number };
    store.add_batch(batch, &[], deltas).await.unwrap();
}

/// Start of the period and units, of all that changed since `tick`; and the next tick.
async fn changed(store: &Store, tick: i64) -> (Vec<(i64, i64)>, i64) {
    let changes = store.quota_changes(tick, NOW).await.unwrap();
    assert!(!changes.has_more);
    let rows = changes.rows.iter();
    let rows = rows.map(|row| (row.period.start.0, row.units)).collect();
    (rows, changes.tick)
}

pub(crate) async fn a_batch_of_quotas_counts_once_and_gateways_see_each_others(url: &DatabaseUrl) {
    let (store, other) = (open(url).await, open(url).await);
    let subject = QuotaSubject::Consumer(ConsumerId::generate().unwrap());
    let (today, tomorrow) = (day(1), day(2));
    assert_eq!(changed(&store, 0).await, (vec![], 0));
    let batch = [delta(&subject, today, 5), delta(&subject, tomorrow, 2)];
    add(&store, "a", 1, &batch).await;
    add(&store, "a", 1, &batch).await;
    let (rows, tick) = changed(&other, 0).await;
    assert_eq!(rows, [(today.start.0, 5), (tomorrow.start.0, 2)]);
    assert_eq!(changed(&other, tick).await, (vec![], tick));
    add(&other, "b", 1, &[delta(&subject, today, -1)]).await;
    let (rows, next) = changed(&store, tick).await;
    assert_eq!(rows, [(today.start.0, 4)]);
    // A tick of another database: everything is read.
    let (rows, _) = changed(&store, next + 1_000).await;
    assert_eq!(rows, [(tomorrow.start.0, 2), (today.start.0, 4)]);
    // Periods that are over are not read.
    let over = delta(&subject, day(-1), 9);
    add(&store, "a", 2, &[over]).await;
    let (rows, last) = changed(&store, next).await;
    assert_eq!(rows, []);
    assert!(last > next);
    let shown = store.quota_use(&subject, NOW).await.unwrap();
    let units: Vec<i64> = shown.iter().map(|row| row.units).collect();
    assert_eq!(units, [4], "of today alone");
}

pub(crate) async fn many_subjects_are_written_at_once_and_read_in_order(url: &DatabaseUrl) {
    let store = open(url).await;
    let subjects: Vec<QuotaSubject> = (0..450)
        .map(|number| QuotaSubject::Tag(format!("org={number}").into()))
        .collect();
    let deltas: Vec<QuotaDelta> = subjects
        .iter()
        .map(|subject| delta(subject, day(1), 1))
        .collect();
    add(&store, "a", 1, &deltas).await;
    let changes = store.quota_changes(0, NOW).await.unwrap();
    assert_eq!((changes.rows.len(), changes.tick), (450, 450));
    let lifetime = Bounds {
        start: UnixMillis(0),
        end: None,
    };
    add(&store, "a", 2, &[delta(&subjects[0], lifetime, 3)]).await;
    let changes = store.quota_changes(450, NOW).await.unwrap();
    assert_eq!(changes.rows[0].period, lifetime);
}

pub(crate) async fn an_operator_changes_the_use_with_an_audit_row(url: &DatabaseUrl) {
    let store = open(url).await;
    let made = create_key(&store, "acme", "one").await.key;
    let id = made.consumer;
    let subject = QuotaSubject::Consumer(id);
    let (of, by) = (cell(&subject), stamp());
    let edit = async |edit, reason| {
        let owner = QuotaOwner::Consumer(&id);
        let edited = store.edit_quota(owner, &of, day(1), edit, reason, &by);
        edited.await.unwrap().units
    };
    add(&store, "a", 1, &[delta(&subject, day(1), 10)]).await;
    assert_eq!(edit(QuotaEdit::By(-4), Some("an outage")).await, 6);
    assert_eq!(edit(QuotaEdit::By(-10), None).await, -4);
    assert_eq!(edit(QuotaEdit::Reset, None).await, 0);
    assert_eq!(edit(QuotaEdit::By(3), None).await, 3);
    let (rows, _) = changed(&store, 1).await;
    assert_eq!(rows, [(day(1).start.0, 3)]);
    let filter = AuditFilter {
        subject_id: Some(id.to_string()),
        ..AuditFilter::default()
    };
    let audit = store.audit(&filter, None, 10).await.unwrap();
    let actions: Vec<&str> = audit
        .iter()
        .map(|row| row.action.as_str())
        .take(4)
        .collect();
    assert_eq!(
        actions,
        [
            "quota.adjust",
            "quota.reset",
            "quota.adjust",
            "quota.adjust"
        ]
    );
    assert!(
        audit
            .iter()
            .any(|row| row.detail.to_string().contains("an outage"))
    );
    let nobody = ConsumerId::generate().unwrap();
    let owner = QuotaOwner::Consumer(&nobody);
    let refused = store.edit_quota(owner, &of, day(1), QuotaEdit::Reset, None, &by);
    assert!(matches!(
        refused.await,
        Err(StoreError::UnknownConsumer { .. })
    ));
}
