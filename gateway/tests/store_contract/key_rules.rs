//! What a bucket says about the keys in it.

use std::time::Duration;

use postern_gateway::keys::{BucketName, KeyDigest, KeyId, KeyState, UnixMillis};
use postern_gateway::store::{
    Actor, AuditFilter, BucketEdit, ConsumerAttributes, DatabaseUrl, KeyAttributes, KeyEdit,
    KeyRule, KeyRuleEdit, NewConsumer, NewEnd, NewKey, NewPlan, PlanAttributes, Roll, RollTarget,
    Stamp, Store, StoreError, Unused, UnusedAction,
};

use super::making::{NOW, consumer, create_key, key, later, open, owner, stamp};

const DAY: Duration = Duration::from_hours(24);

async fn set(store: &Store, keys: KeyRuleEdit) -> Result<KeyRule, StoreError> {
    let edit = BucketEdit {
        keys,
        ..BucketEdit::default()
    };
    let bucket = BucketName::default();
    let changed = store.update_bucket(&bucket, edit, &stamp()).await;
    changed.map(|bucket| bucket.keys)
}

fn new_key(name: &str, text: &str, expires_at: Option<UnixMillis>, end: NewEnd) -> NewKey {
    NewKey {
        attributes: KeyAttributes {
            expires_at,
            ..KeyAttributes::default()
        },
        end,
        ..key(owner(name), text)
    }
}

async fn roll(store: &Store, id: KeyId, text: &str, stamp: &Stamp) -> Result<KeyId, StoreError> {
    let roll = Roll {
        target: RollTarget::Key(id),
        digest: KeyDigest::of(text.as_bytes()),
        hint: "pstn_abcd".to_owned(),
        grace: DAY,
    };
    store.roll(roll, stamp).await.map(|rolled| rolled.key.id)
}

pub(crate) async fn a_bucket_bounds_the_lifetimes_of_its_keys(url: &DatabaseUrl) {
    let store = open(url).await;
    let before = create_key(&store, "acme", "before").await.key;
    assert_eq!(
        before.attributes.expires_at, None,
        "by default a key has no end"
    );
    let days = |days: u32| NOW.after(days * DAY);
    let edit = KeyRuleEdit {
        default_lifetime: Some(Some("90d".parse().unwrap())),
        max_lifetime: Some(Some("365d".parse().unwrap())),
        ..KeyRuleEdit::default()
    };
    let rule = set(&store, edit).await.unwrap();
    let stored = store.bucket(&BucketName::default()).await.unwrap().unwrap();
    assert_eq!(stored.keys, rule);
    let refused = KeyRuleEdit {
        max_lifetime: Some(Some("89d".parse().unwrap())),
        ..KeyRuleEdit::default()
    };
    let refused = set(&store, refused).await;
    assert!(
        matches!(refused, Err(StoreError::DefaultAboveLongest)),
        "{refused:?}"
    );

    let gold = NewPlan {
        name: "gold".parse().unwrap(),
        attributes: PlanAttributes {
            default_key_lifetime: Some("30d".parse().unwrap()),
            max_key_lifetime: Some("60d".parse().unwrap()),
            ..PlanAttributes::default()
        },
    };
    let gold = store.create_plan(gold, &stamp()).await.unwrap();
    let golden = NewConsumer {
        attributes: ConsumerAttributes {
            plan: Some(gold.name),
            ..ConsumerAttributes::default()
        },
        ..consumer("golden")
    };
    store.create_consumer(golden, &stamp()).await.unwrap();

    for (name, given, end, is) in [
        ("acme", None, NewEnd::Default, Some(days(90))),
        ("acme", None, NewEnd::Never, None),
        ("acme", Some(days(365)), NewEnd::Default, Some(days(365))),
        (
            "acme",
            Some(UnixMillis(days(365).0 + 1)),
            NewEnd::Default,
            None,
        ),
        ("golden", None, NewEnd::Default, Some(days(30))),
        ("golden", Some(days(60)), NewEnd::Default, Some(days(60))),
        ("golden", Some(days(61)), NewEnd::Default, None),
    ] {
        let text = format!("{name} {given:?} {end:?}");
        let made = store
            .create_key(new_key(name, &text, given, end), &stamp())
            .await;
        match (made, is) {
            (Ok(made), Some(end)) => {
                assert_eq!(made.key.attributes.expires_at, Some(end), "{text}")
            }
            (Err(StoreError::LifetimeTooLong { .. }), None) => {}
            (other, _) => panic!("{text}: {other:?}"),
        }
    }

    let made = create_key(&store, "acme", "changed").await.key;
    let to = |end: Option<UnixMillis>| KeyEdit {
        expires_at: Some(end),
        ..KeyEdit::default()
    };
    for (end, is_allowed) in [
        (Some(days(365)), true),
        (Some(days(366)), false),
        (None, false),
        (Some(days(1)), true),
    ] {
        let changed = store.update_key(&made.id, to(end), &later(1)).await;
        match changed {
            Ok(changed) if is_allowed => assert_eq!(changed.attributes.expires_at, end),
            Err(StoreError::LifetimeTooLong { .. }) if !is_allowed => {}
            other => panic!("{end:?}: {other:?}"),
        }
    }
    // Keys from before the rule stay as they are, may end sooner, and their successors are bounded.
    let sooner = to(Some(days(900)));
    let sooner = store.update_key(&before.id, sooner, &later(2)).await;
    assert_eq!(sooner.unwrap().attributes.expires_at, Some(days(900)));
    let older = create_key_of(&store, "older").await;
    let successor = roll(&store, older, "successor", &later(5)).await.unwrap();
    let successor = store.key(&successor).await.unwrap().unwrap();
    assert_eq!(
        successor.attributes.expires_at,
        Some(later(5).at.after(365 * DAY))
    );
}

/// A key without an end, of a time without the rule.
async fn create_key_of(store: &Store, text: &str) -> KeyId {
    let stored = store.bucket(&BucketName::default()).await.unwrap().unwrap();
    let none = KeyRuleEdit {
        default_lifetime: Some(None),
        max_lifetime: Some(None),
        ..KeyRuleEdit::default()
    };
    set(store, none).await.unwrap();
    let made = create_key(store, "acme", text).await.key;
    assert_eq!(made.attributes.expires_at, None);
    let again = KeyRuleEdit {
        default_lifetime: Some(stored.keys.default_lifetime),
        max_lifetime: Some(stored.keys.max_lifetime),
        ..KeyRuleEdit::default()
    };
    set(store, again).await.unwrap();
    made.id
}

pub(crate) async fn a_consumer_has_at_most_so_many_live_keys(url: &DatabaseUrl) {
    let store = open(url).await;
    let two = KeyRuleEdit {
        max_live: Some(Some("2".parse().unwrap())),
        ..KeyRuleEdit::default()
    };
    set(&store, two).await.unwrap();
    let first = create_key(&store, "acme", "1").await.key.id;
    let short = new_key("acme", "2", Some(later(10).at), NewEnd::Default);
    let second = store.create_key(short, &stamp()).await.unwrap().key.id;
    create_key(&store, "other", "0").await;
    let one_more = async |text: &str, stamp: &Stamp| {
        let made = store.create_key(key(owner("acme"), text), stamp).await;
        match made {
            Ok(made) => Some(made.key.id),
            Err(StoreError::TooManyKeys { .. }) => None,
            Err(other) => panic!("{text}: {other:?}"),
        }
    };
    assert_eq!(one_more("3", &stamp()).await, None);
    // A disabled key is live, since it can be enabled again.
    store
        .set_key_state(&first, KeyState::Disabled, &stamp())
        .await
        .unwrap();
    assert_eq!(one_more("4", &stamp()).await, None);
    store
        .set_key_state(&first, KeyState::Active, &stamp())
        .await
        .unwrap();
    // A roll keeps the number, and rolling what was rolled adds one.
    let successor = roll(&store, first, "5", &stamp()).await.unwrap();
    assert_eq!(one_more("6", &stamp()).await, None);
    let again = roll(&store, first, "7", &stamp()).await;
    assert!(
        matches!(again, Err(StoreError::TooManyKeys { .. })),
        "{again:?}"
    );
    // Once one has expired there is room, which its new end would take.
    let third = one_more("8", &later(11)).await.unwrap();
    let revived = KeyEdit {
        expires_at: Some(Some(later(100).at)),
        ..KeyEdit::default()
    };
    let revived = store.update_key(&second, revived, &later(12)).await;
    assert!(
        matches!(revived, Err(StoreError::TooManyKeys { .. })),
        "{revived:?}"
    );
    store
        .set_key_state(&third, KeyState::Revoked, &later(13))
        .await
        .unwrap();
    assert!(one_more("9", &later(14)).await.is_some());
    assert!(store.key(&successor).await.unwrap().is_some());
    let any = KeyRuleEdit {
        max_live: Some(None),
        ..KeyRuleEdit::default()
    };
    set(&store, any).await.unwrap();
    assert!(one_more("10", &later(15)).await.is_some());
}

pub(crate) async fn unused_keys_are_reported_or_disabled_as_their_bucket_says(url: &DatabaseUrl) {
    let store = open(url).await;
    let now = Stamp::now(Actor::command_line(Some("tester")));
    let ago = |days: u32| Stamp {
        at: UnixMillis(now.at.0 - i64::try_from((days * DAY).as_millis()).unwrap()),
        ..now.clone()
    };
    let make = async |text: &str, days: u32, attributes: KeyAttributes| {
        let new = NewKey {
            attributes,
            ..key(owner("acme"), text)
        };
        store.create_key(new, &ago(days)).await.unwrap().key.id
    };
    let plain = KeyAttributes::default;
    let old = make("old", 100, plain()).await;
    let young = make("young", 80, plain()).await;
    let exempt = KeyAttributes {
        exempt_from_unused: true,
        ..plain()
    };
    let exempt = make("exempt", 100, exempt).await;
    let over = KeyAttributes {
        expires_at: Some(ago(1).at),
        ..plain()
    };
    let over = make("over", 100, over).await;
    let off = make("off", 100, plain()).await;
    store
        .set_key_state(&off, KeyState::Disabled, &ago(99))
        .await
        .unwrap();
    let changed = make("changed", 100, plain()).await;
    let note = KeyEdit {
        description: Some(Some("still needed".parse().unwrap())),
        ..KeyEdit::default()
    };
    store.update_key(&changed, note, &ago(10)).await.unwrap();
    assert_eq!(
        store.end_unused().await.unwrap(),
        Unused::default(),
        "no rule"
    );

    let report = KeyRuleEdit {
        unused_after: Some(Some("90d".parse().unwrap())),
        ..KeyRuleEdit::default()
    };
    set(&store, report).await.unwrap();
    let found = Unused {
        disabled: 0,
        reported: 1,
    };
    assert_eq!(store.end_unused().await.unwrap(), found);
    assert_eq!(
        store.key(&old).await.unwrap().unwrap().state,
        KeyState::Active
    );

    let disable = KeyRuleEdit {
        unused_action: Some(UnusedAction::Disable),
        ..KeyRuleEdit::default()
    };
    set(&store, disable).await.unwrap();
    let found = Unused {
        disabled: 1,
        reported: 0,
    };
    assert_eq!(store.end_unused().await.unwrap(), found);
    assert_eq!(store.end_unused().await.unwrap(), Unused::default(), "once");
    for (id, state) in [
        (old, KeyState::Disabled),
        (young, KeyState::Active),
        (exempt, KeyState::Active),
        (over, KeyState::Active),
        (changed, KeyState::Active),
    ] {
        assert_eq!(store.key(&id).await.unwrap().unwrap().state, state, "{id}");
    }
    let of_old = AuditFilter {
        subject_id: Some(old.to_string()),
        ..AuditFilter::default()
    };
    let rows = store.audit(&of_old, None, 1).await.unwrap();
    let row = rows.first().unwrap();
    assert_eq!(
        (row.action.as_str(), row.actor.as_str()),
        ("key.disable", "gateway")
    );
    assert!(
        row.detail.to_string().contains("unused"),
        "{:?}",
        row.detail
    );
    // Enabled again, it stays so: an administrator has looked at it.
    store
        .set_key_state(&old, KeyState::Active, &now)
        .await
        .unwrap();
    assert_eq!(store.end_unused().await.unwrap(), Unused::default());
}
