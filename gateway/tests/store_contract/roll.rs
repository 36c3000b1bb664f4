//! Rolling keys.

use std::time::Duration;

use postern_gateway::keys::{ConsumerId, KeyDigest, KeyId, KeyState, KeyStatus};
use postern_gateway::store::{
    AuditFilter, BucketEdit, DatabaseUrl, InvalidRoll, KeyAttributes, KeyEdit, KeyFilter, Leak,
    LeakPolicy, NewConsumer, NewKey, Roll, RollTarget, RolledKeys, Store, StoreError, TransferRow,
};

use super::feed::Following;
use super::making::{
    NOW, consumer, create_key, full_consumer, full_key, key, later, open, owner, stamp,
};
use super::transfer;

const DAY: Duration = Duration::from_secs(86_400);

async fn roll(
    store: &Store,
    target: RollTarget,
    text: &str,
    grace: Duration,
) -> Result<RolledKeys, StoreError> {
    let roll = Roll {
        target,
        digest: KeyDigest::of(text.as_bytes()),
        hint: "pstn_efgh".to_owned(),
        grace,
    };
    store.roll(roll, &stamp()).await
}

pub(crate) async fn a_new_key_inherits_and_the_old_one_ends_after_the_grace(url: &DatabaseUrl) {
    let store = open(url).await;
    store
        .create_consumer(
            NewConsumer {
                attributes: full_consumer(),
                ..consumer("acme")
            },
            &stamp(),
        )
        .await
        .unwrap();
    let new = NewKey {
        attributes: full_key(NOW.after(30 * DAY)),
        ..key(owner("acme"), "one")
    };
    let old = store.create_key(new, &stamp()).await.unwrap().key;
    let following = Following::new(&store).await;

    let rolled = roll(&store, RollTarget::Key(old.id), "two", DAY)
        .await
        .unwrap();
    assert_eq!(rolled.key.attributes, full_key(NOW.after(30 * DAY)));
    assert_eq!(rolled.key.consumer, old.consumer);
    let [ending] = &rolled.ending[..] else {
        panic!("{:?}", rolled.ending)
    };
    assert_eq!(ending.attributes.expires_at, Some(NOW.after(DAY)));
    assert_eq!(
        ending.rolled.map(|rolled| (rolled.at, rolled.successor)),
        Some((NOW, Some(rolled.key.id)))
    );
    assert_eq!(store.key(&old.id).await.unwrap().as_ref(), Some(ending));
    assert_eq!(
        store.key(&rolled.key.id).await.unwrap().as_ref(),
        Some(&rolled.key)
    );

    following
        .until("rolled", |following| following.find("two").is_some())
        .await;
    let old_end = following.find("one").unwrap();
    assert_eq!(old_end.expires_at(), Some(NOW.after(DAY)));
    assert_eq!(old_end.status(NOW.after(DAY)), KeyStatus::Expired);
    assert_eq!(old_end.status(NOW), KeyStatus::Active);
}

pub(crate) async fn a_grace_only_ever_shortens(url: &DatabaseUrl) {
    let store = open(url).await;
    let soon = NewKey {
        attributes: KeyAttributes {
            expires_at: Some(NOW.after(DAY)),
            ..KeyAttributes::default()
        },
        ..key(owner("acme"), "one")
    };
    let old = store.create_key(soon, &stamp()).await.unwrap().key;
    let first = roll(&store, RollTarget::Key(old.id), "two", 7 * DAY)
        .await
        .unwrap();
    assert_eq!(first.ending[0].attributes.expires_at, Some(NOW.after(DAY)));
    // Once more, with less time: it is still the first moment that it was deprecated at, and the end that the key had at
    // first is what its second successor inherits.
    let again = Roll {
        target: RollTarget::Key(old.id),
        digest: KeyDigest::of(b"three"),
        hint: "pstn_ijkl".to_owned(),
        grace: Duration::from_secs(60),
    };
    let second = store.roll(again, &later(10)).await.unwrap();
    assert_eq!(
        second.ending[0].attributes.expires_at,
        Some(later(10).at.after(Duration::from_secs(60)))
    );
    assert_eq!(second.ending[0].rolled.unwrap().at, NOW);
    assert_eq!(second.key.attributes.expires_at, Some(NOW.after(DAY)));
}

pub(crate) async fn rolling_a_consumer_ends_all_its_good_keys(url: &DatabaseUrl) {
    let store = open(url).await;
    let first = create_key(&store, "acme", "one").await.key;
    let gone = create_key(&store, "acme", "revoked").await.key;
    store
        .set_key_state(&gone.id, KeyState::Revoked, &stamp())
        .await
        .unwrap();
    let off = create_key(&store, "acme", "disabled").await.key;
    store
        .set_key_state(&off.id, KeyState::Disabled, &stamp())
        .await
        .unwrap();
    let last = store
        .create_key(
            NewKey {
                attributes: KeyAttributes {
                    description: Some("the newest".parse().unwrap()),
                    ..KeyAttributes::default()
                },
                ..key(owner("acme"), "two")
            },
            &later(5),
        )
        .await
        .unwrap()
        .key;
    let other = create_key(&store, "other", "three").await.key;

    let rolled = roll(
        &store,
        RollTarget::Consumer(first.consumer),
        "four",
        Duration::ZERO,
    )
    .await
    .unwrap();
    assert_eq!(
        rolled.key.attributes.description,
        last.attributes.description
    );
    assert_eq!(
        rolled.ending.iter().map(|key| key.id).collect::<Vec<_>>(),
        [first.id, last.id]
    );
    for ending in &rolled.ending {
        assert_eq!(ending.status(NOW), KeyStatus::Expired);
    }
    assert_eq!(store.key(&other.id).await.unwrap().unwrap(), other);
    assert_eq!(
        store
            .key(&off.id)
            .await
            .unwrap()
            .unwrap()
            .attributes
            .expires_at,
        None
    );
}

pub(crate) async fn only_good_keys_are_rolled(url: &DatabaseUrl) {
    let store = open(url).await;
    let expired = NewKey {
        attributes: KeyAttributes {
            expires_at: Some(NOW),
            ..KeyAttributes::default()
        },
        ..key(owner("acme"), "expired")
    };
    let expired = store.create_key(expired, &stamp()).await.unwrap().key;
    for (state, status) in [
        (None, KeyStatus::Expired),
        (Some(KeyState::Disabled), KeyStatus::Disabled),
        (Some(KeyState::Revoked), KeyStatus::Revoked),
    ] {
        let id = match state {
            None => expired.id,
            Some(state) => {
                let id = create_key(&store, "acme", status.as_str()).await.key.id;
                store.set_key_state(&id, state, &stamp()).await.unwrap();
                id
            }
        };
        let error = roll(&store, RollTarget::Key(id), "new", DAY)
            .await
            .unwrap_err();
        assert!(
            matches!(&error, StoreError::InvalidRoll(InvalidRoll::NotGood { status: found, .. }) if *found == status),
            "{error:?}"
        );
    }
    let none = roll(&store, RollTarget::Consumer(expired.consumer), "new", DAY)
        .await
        .unwrap_err();
    assert!(
        matches!(none, StoreError::InvalidRoll(InvalidRoll::NoneGood(_))),
        "{none:?}"
    );
    let unknown = roll(
        &store,
        RollTarget::Key(KeyId::generate().unwrap()),
        "new",
        DAY,
    )
    .await
    .unwrap_err();
    assert!(matches!(unknown, StoreError::UnknownKey(_)), "{unknown:?}");
    let unknown = roll(
        &store,
        RollTarget::Consumer(ConsumerId::generate().unwrap()),
        "new",
        DAY,
    )
    .await
    .unwrap_err();
    assert!(
        matches!(unknown, StoreError::UnknownConsumer { .. }),
        "{unknown:?}"
    );
    // Nothing of all that was half-done.
    assert_eq!(store.count_keys(&expired.consumer).await.unwrap(), 3);
}

pub(crate) async fn a_successor_ends_when_the_first_key_would_have(url: &DatabaseUrl) {
    let store = open(url).await;
    let never = create_key(&store, "acme", "one").await.key;
    let second = roll(&store, RollTarget::Key(never.id), "two", DAY)
        .await
        .unwrap()
        .key;
    let third = roll(&store, RollTarget::Key(second.id), "three", DAY)
        .await
        .unwrap()
        .key;
    // The first again, whose successor is ending itself by now.
    let fourth = roll(&store, RollTarget::Key(never.id), "four", DAY)
        .await
        .unwrap()
        .key;
    assert_eq!(
        (
            second.attributes.expires_at,
            third.attributes.expires_at,
            fourth.attributes.expires_at
        ),
        (None, None, None)
    );

    let leaky = create_key(&store, "leaky", "leaked").await.key;
    let edit = BucketEdit {
        leak_policy: Some(LeakPolicy::Roll),
        leak_grace: Some(DAY),
        ..BucketEdit::default()
    };
    store
        .update_bucket(&leaky.bucket, edit, &stamp())
        .await
        .unwrap();
    let leak = Leak {
        digest: KeyDigest::of(b"leaked"),
        url: None,
        source: None,
    };
    let ending = store
        .report_leak(&leak, &stamp())
        .await
        .unwrap()
        .unwrap()
        .key;
    assert_eq!(ending.attributes.expires_at, Some(NOW.after(DAY)));
    let rolled = roll(&store, RollTarget::Key(leaky.id), "its successor", 7 * DAY)
        .await
        .unwrap();
    assert_eq!(
        rolled.key.attributes.expires_at, None,
        "the new key has not leaked"
    );
    assert_eq!(
        rolled.ending[0].attributes.expires_at,
        Some(NOW.after(DAY)),
        "and the old one goes on for no longer"
    );
}

pub(crate) async fn a_key_that_is_ending_ends_no_later(url: &DatabaseUrl) {
    let store = open(url).await;
    let key = create_key(&store, "acme", "one").await.key;
    roll(&store, RollTarget::Key(key.id), "two", DAY)
        .await
        .unwrap();
    for later in [None, Some(NOW.after(2 * DAY))] {
        let edit = KeyEdit {
            expires_at: Some(later),
            ..KeyEdit::default()
        };
        let refused = store.update_key(&key.id, edit, &stamp()).await;
        assert!(
            matches!(refused, Err(StoreError::KeyEnding(id)) if id == key.id),
            "{refused:?}"
        );
    }
    let sooner = Some(NOW.after(Duration::from_secs(60)));
    let edit = KeyEdit {
        expires_at: Some(sooner),
        ..KeyEdit::default()
    };
    assert_eq!(
        store
            .update_key(&key.id, edit, &stamp())
            .await
            .unwrap()
            .attributes
            .expires_at,
        sooner
    );
}

pub(crate) async fn a_consumer_with_thousands_of_keys_is_rolled_at_once(url: &DatabaseUrl) {
    const KEYS: usize = 2_100;
    let store = open(url).await;
    let rows: Vec<TransferRow> = (0..KEYS as u64)
        .map(|line| transfer::row(line, "acme", &format!("k{line}")))
        .collect();
    store.import(&rows, &stamp()).await.unwrap();
    let following = Following::new(&store).await;
    let consumer = store
        .list_keys(&KeyFilter::default(), None, 1)
        .await
        .unwrap()[0]
        .consumer;
    let rolled = roll(
        &store,
        RollTarget::Consumer(consumer),
        "new",
        Duration::ZERO,
    )
    .await
    .unwrap();
    assert_eq!(rolled.ending.len(), KEYS);
    let now = later(1).at;
    for key in [&rolled.ending[0], &rolled.ending[KEYS - 1]] {
        let stored = store.key(&key.id).await.unwrap();
        assert_eq!(
            (stored.as_ref(), key.status(now)),
            (Some(key), KeyStatus::Expired)
        );
    }
    following
        .until("ended", |following| {
            following
                .find("k2099")
                .is_some_and(|key| key.status(now) == KeyStatus::Expired)
        })
        .await;
    let of_key = AuditFilter {
        subject_id: Some(rolled.ending[9].id.to_string()),
        ..AuditFilter::default()
    };
    assert_eq!(
        store.audit(&of_key, None, 1).await.unwrap()[0].action,
        "key.roll"
    );
}

pub(crate) async fn of_two_rolls_at_once_without_a_grace_one_is_refused(url: &DatabaseUrl) {
    let store = open(url).await;
    let old = create_key(&store, "acme", "one").await.key;
    let roll_at = async |text: &str, seconds: u64| {
        let roll = Roll {
            target: RollTarget::Key(old.id),
            digest: KeyDigest::of(text.as_bytes()),
            hint: "pstn_efgh".to_owned(),
            grace: Duration::ZERO,
        };
        store.roll(roll, &later(seconds)).await
    };
    roll_at("two", 5).await.unwrap();
    // It began before the other one, by its clock, and waited for its turn.
    let second = roll_at("three", 1).await;
    assert!(
        matches!(
            second,
            Err(StoreError::InvalidRoll(InvalidRoll::NotGood { .. }))
        ),
        "{second:?}"
    );
}
