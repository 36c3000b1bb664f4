//! The audit.

use postern_gateway::keys::KeyState;
use postern_gateway::store::{Actor, AuditFilter, DatabaseUrl, Stamp};

use super::making::{NOW, create_key, later, open};

pub(crate) async fn it_tells_who_did_what_when_and_from_where(url: &DatabaseUrl) {
    let store = open(url).await;
    let key = create_key(&store, "acme", "one").await.key;
    let remote = Stamp {
        at: later(7).at,
        source: Some("192.0.2.7".parse().unwrap()),
        ..Stamp::now(Actor::api("ci"))
    };
    store
        .set_key_state(&key.id, KeyState::Revoked, &remote)
        .await
        .unwrap();

    let rows = store
        .audit(&AuditFilter::default(), None, 10)
        .await
        .unwrap();
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row.action.as_str(),
                row.actor.as_str(),
                row.source.as_deref(),
                row.at,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("key.revoke", "api:ci", Some("192.0.2.7"), later(7).at),
            ("key.create", "cli:tester", None, NOW),
            ("consumer.create", "cli:tester", None, NOW),
        ]
    );
    assert_eq!(rows[0].subject_id, key.id.as_str());
    assert_eq!(rows[0].detail["before"], "active");
}

pub(crate) async fn it_is_read_page_by_page_and_by_filter(url: &DatabaseUrl) {
    let store = open(url).await;
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(
            create_key(&store, "acme", &format!("key {number}"))
                .await
                .key
                .id,
        );
    }
    store
        .set_key_state(&ids[2], KeyState::Disabled, &later(60))
        .await
        .unwrap();
    let (mut actions, mut before) = (Vec::new(), None);
    loop {
        let page = store
            .audit(&AuditFilter::default(), before, 2)
            .await
            .unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.cursor());
        actions.extend(page.into_iter().map(|row| row.action));
    }
    assert_eq!(
        actions.join(" "),
        "key.disable key.create key.create key.create key.create key.create consumer.create"
    );

    for (filter, count) in [
        (
            AuditFilter {
                subject_id: Some(ids[2].to_string()),
                ..AuditFilter::default()
            },
            2,
        ),
        (
            AuditFilter {
                action: Some("key.disable".to_owned()),
                ..AuditFilter::default()
            },
            1,
        ),
        (
            AuditFilter {
                actor: Some("cli:tester".to_owned()),
                ..AuditFilter::default()
            },
            7,
        ),
        (
            AuditFilter {
                actor: Some("cli:nobody".to_owned()),
                ..AuditFilter::default()
            },
            0,
        ),
        (
            AuditFilter {
                since: Some(later(60).at),
                ..AuditFilter::default()
            },
            1,
        ),
        (
            AuditFilter {
                until: Some(later(60).at),
                ..AuditFilter::default()
            },
            6,
        ),
    ] {
        assert_eq!(
            store.audit(&filter, None, 10).await.unwrap().len(),
            count,
            "{filter:?}"
        );
    }
}
