//! Keys that were found where they do not belong.

use std::time::Duration;

use postern_gateway::keys::{BucketName, KeyDigest, KeyStatus};
use postern_gateway::store::{AuditFilter, DatabaseUrl, Leak, LeakAction, LeakPolicy, StoreError};

use super::making::{NOW, create_key, open, stamp};

pub(crate) async fn a_leaked_key_gets_what_its_bucket_says(url: &DatabaseUrl) {
    let store = open(url).await;
    let bucket = BucketName::default();
    assert_eq!(store.leak_policy(&bucket).await.unwrap(), LeakPolicy::Notify);
    let hour = Duration::from_secs(3_600);
    for (policy, action, expires_at, status) in [
        (LeakPolicy::Notify, LeakAction::Notified, None, KeyStatus::Active),
        (LeakPolicy::End(hour), LeakAction::Ending, Some(NOW.after(hour)), KeyStatus::Active),
        (LeakPolicy::Revoke, LeakAction::Revoked, None, KeyStatus::Revoked),
    ] {
        store.set_leak_policy(&bucket, policy, &stamp()).await.unwrap();
        assert_eq!(store.leak_policy(&bucket).await.unwrap(), policy);
        let text = policy.as_str();
        let key = create_key(&store, "acme", text).await.key;
        let leak = Leak {
            digest: KeyDigest::of(text.as_bytes()),
            url: Some("https://example.org/commit/1".to_owned()),
            source: Some("commit".to_owned()),
        };
        let outcome = store.report_leak(&leak, &stamp()).await.unwrap().unwrap();
        assert_eq!((outcome.key_id, outcome.action, outcome.expires_at), (key.id, action, expires_at), "{policy:?}");
        let stored = store.key(&key.id).await.unwrap().unwrap();
        assert_eq!((stored.status(NOW), stored.expires_at), (status, expires_at), "{policy:?}");
        assert_eq!(stored.rolled.is_some(), action == LeakAction::Ending);
        let of_key = AuditFilter { subject_id: Some(key.id.to_string()), ..AuditFilter::default() };
        let newest = store.audit(&of_key, None, 1).await.unwrap().remove(0);
        assert_eq!((newest.action.as_str(), newest.detail["policy"].as_str()), ("key.leak", Some(text)));
        assert_eq!(newest.detail["url"], "https://example.org/commit/1");
        if action == LeakAction::Revoked {
            let again = store.report_leak(&leak, &stamp()).await.unwrap().unwrap();
            assert_eq!(again.action, LeakAction::AlreadyRefused);
        }
    }
    let unknown = Leak { digest: KeyDigest::of(b"nobody's"), url: None, source: None };
    assert_eq!(store.report_leak(&unknown, &stamp()).await.unwrap(), None);
    let elsewhere = store.set_leak_policy(&"elsewhere".parse().unwrap(), LeakPolicy::Revoke, &stamp()).await;
    assert!(matches!(elsewhere, Err(StoreError::UnknownBucket { .. })), "{elsewhere:?}");
}
