//! Keys that were found where they do not belong.

use std::time::Duration;

use postern_gateway::keys::{BucketName, KeyDigest, KeyStatus};
use postern_gateway::store::{
    AuditFilter, BucketEdit, DatabaseUrl, KeyAttributes, Leak, LeakAction, LeakPolicy, LeakRule,
    NewKey, StoreError,
};

use super::making::{NOW, create_key, key, later, open, owner, stamp};

pub(crate) async fn a_leaked_key_gets_what_its_bucket_says(url: &DatabaseUrl) {
    let store = open(url).await;
    let bucket = BucketName::default();
    let before = store.bucket(&bucket).await.unwrap().unwrap();
    assert_eq!(
        before.leaks,
        LeakRule {
            policy: LeakPolicy::Notify,
            grace: Duration::from_hours(24)
        }
    );
    let hour = Duration::from_hours(1);
    for (policy, action, expires_at, status) in [
        (
            LeakPolicy::Notify,
            LeakAction::Notified,
            None,
            KeyStatus::Active,
        ),
        (
            LeakPolicy::Roll,
            LeakAction::Ending,
            Some(NOW.after(hour)),
            KeyStatus::Active,
        ),
        (
            LeakPolicy::Revoke,
            LeakAction::Revoked,
            None,
            KeyStatus::Revoked,
        ),
    ] {
        let edit = BucketEdit {
            leak_policy: Some(policy),
            leak_grace: Some(hour),
            ..BucketEdit::default()
        };
        let changed = store.update_bucket(&bucket, edit, &stamp()).await.unwrap();
        assert_eq!(
            changed.leaks,
            LeakRule {
                policy,
                grace: hour
            }
        );
        assert_eq!(store.bucket(&bucket).await.unwrap(), Some(changed));
        let text = policy.as_str();
        let key = create_key(&store, "acme", text).await.key;
        let leak = Leak {
            digest: KeyDigest::of(text.as_bytes()),
            url: Some("https://example.org/commit/1".to_owned()),
            source: Some("commit".to_owned()),
        };
        let outcome = store.report_leak(&leak, &stamp()).await.unwrap().unwrap();
        assert_eq!(
            (outcome.key.id, outcome.action),
            (key.id, action),
            "{policy:?}"
        );
        let stored = store.key(&key.id).await.unwrap().unwrap();
        assert_eq!(
            (stored.status(NOW), stored.attributes.expires_at),
            (status, expires_at),
            "{policy:?}"
        );
        assert_eq!(stored.rolled.is_some(), action == LeakAction::Ending);
        assert_eq!(outcome.key, stored, "{policy:?}");
        let of_key = AuditFilter {
            subject_id: Some(key.id.to_string()),
            ..AuditFilter::default()
        };
        let newest = store.audit(&of_key, None, 1).await.unwrap().remove(0);
        assert_eq!(
            (newest.action.as_str(), newest.detail["policy"].as_str()),
            ("key.leak", Some(text))
        );
        assert_eq!(newest.detail["url"], "https://example.org/commit/1");
        if action == LeakAction::Revoked {
            let again = store.report_leak(&leak, &stamp()).await.unwrap().unwrap();
            assert_eq!(again.action, LeakAction::AlreadyRefused);
        }
    }
    // The policy is to revoke by now, and that holds for one that has expired too: its end could be put off again.
    let gone = NewKey {
        attributes: KeyAttributes {
            expires_at: Some(NOW),
            ..KeyAttributes::default()
        },
        ..key(owner("acme"), "gone")
    };
    let gone = store.create_key(gone, &stamp()).await.unwrap().key;
    let leak = Leak {
        digest: KeyDigest::of(b"gone"),
        url: None,
        source: None,
    };
    assert_eq!(
        store
            .report_leak(&leak, &later(1))
            .await
            .unwrap()
            .unwrap()
            .action,
        LeakAction::Revoked
    );
    assert_eq!(
        store.key(&gone.id).await.unwrap().unwrap().status(NOW),
        KeyStatus::Revoked
    );
    let unknown = Leak {
        digest: KeyDigest::of(b"nobody's"),
        url: None,
        source: None,
    };
    assert_eq!(store.report_leak(&unknown, &stamp()).await.unwrap(), None);
    let elsewhere = store
        .update_bucket(
            &"elsewhere".parse().unwrap(),
            BucketEdit::default(),
            &stamp(),
        )
        .await;
    assert!(
        matches!(elsewhere, Err(StoreError::UnknownBucket { .. })),
        "{elsewhere:?}"
    );
}
