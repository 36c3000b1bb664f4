//! Numbers of keys and consumers, and the chain of rolls.

use std::time::Duration;

use postern_gateway::keys::{KeyDigest, Tags};
use postern_gateway::store::{
    ConsumerAttributes, ConsumerEdit, DatabaseUrl, KeyAttributes, KeyEdit, NewConsumer, NewKey,
    Owner, Roll, RollTarget, StoreError,
};

use super::feed::Following;
use super::making::{
    consumer, create_key, full_consumer, full_key, key, later, open, owner, stamp,
};

pub(crate) async fn the_numbers_of_consumer_and_key_are_in_the_table(url: &DatabaseUrl) {
    let store = open(url).await;
    let following = Following::new(&store).await;
    let acme = NewConsumer {
        attributes: full_consumer(),
        ..consumer("acme")
    };
    let acme = store.create_consumer(acme, &stamp()).await.unwrap();
    let new = NewKey {
        attributes: full_key(later(100).at),
        ..key(Owner::Id(acme.id), "one")
    };
    let made = store.create_key(new, &stamp()).await.unwrap().key;
    create_key(&store, "plain", "two").await;
    let is_known = |following: &Following| following.find("two").is_some();
    following.until("known", is_known).await;
    // By the feed, and by a load.
    for following in [&following, &Following::new(&store).await] {
        let one = following.find("one").unwrap();
        assert_eq!(one.allowance(), Some(&made.attributes.allowance()));
        assert_eq!(one.consumer_allowance(), Some(&acme.attributes.allowance()));
        assert_eq!((one.tag("org"), one.tag("or")), (Some("acme"), None));
        assert_eq!(one.chain(), made.id);
        let two = following.find("two").unwrap();
        assert_eq!((two.allowance(), two.consumer_allowance()), (None, None));
        assert_eq!(two.tag("org"), None);
    }
    // Each change is in force by itself.
    let edits = [
        ConsumerEdit {
            limits: Some("burst=501/1m".parse().unwrap()),
            ..ConsumerEdit::default()
        },
        ConsumerEdit {
            quotas: Some("monthly=5001".parse().unwrap()),
            ..ConsumerEdit::default()
        },
        ConsumerEdit {
            max_in_flight: Some(Some("21".parse().unwrap())),
            ..ConsumerEdit::default()
        },
        ConsumerEdit {
            tags: Some(Tags::new(["org=other".parse().unwrap()]).unwrap()),
            ..ConsumerEdit::default()
        },
        ConsumerEdit {
            limits: Some("".parse().unwrap()),
            quotas: Some("".parse().unwrap()),
            max_in_flight: Some(None),
            tags: Some(Tags::default()),
            ..ConsumerEdit::default()
        },
    ];
    for (seconds, edit) in (1..).zip(edits) {
        let at = later(seconds);
        let edited = store.update_consumer(&acme.id, edit, &at).await;
        let wanted = edited.unwrap().attributes;
        let is_there = |following: &Following| {
            let one = following.find("one").unwrap();
            let numbers = one.consumer_allowance().cloned().unwrap_or_default();
            let org = wanted.tags.iter().find(|(name, _)| *name == "org");
            numbers == wanted.allowance() && one.tag("org") == org.map(|(_, value)| value)
        };
        following.until("the consumer's change", is_there).await;
    }
    let edits = [
        KeyEdit {
            limits: Some("burst=49/1m".parse().unwrap()),
            ..KeyEdit::default()
        },
        KeyEdit {
            quotas: Some("monthly=499".parse().unwrap()),
            ..KeyEdit::default()
        },
        KeyEdit {
            max_in_flight: Some(Some("4".parse().unwrap())),
            ..KeyEdit::default()
        },
        KeyEdit {
            limits: Some("".parse().unwrap()),
            quotas: Some("".parse().unwrap()),
            max_in_flight: Some(None),
            ..KeyEdit::default()
        },
    ];
    for (seconds, edit) in (11..).zip(edits) {
        let at = later(seconds);
        let edited = store.update_key(&made.id, edit, &at).await;
        let wanted = edited.unwrap().attributes.allowance();
        let is_there = |following: &Following| {
            let one = following.find("one").unwrap();
            one.allowance().cloned().unwrap_or_default() == wanted
        };
        following.until("the key's change", is_there).await;
    }
    assert_eq!(following.find("one").unwrap().allowance(), None);
}

pub(crate) async fn a_key_has_no_more_than_its_consumer(url: &DatabaseUrl) {
    let store = open(url).await;
    let acme = NewConsumer {
        attributes: ConsumerAttributes {
            limits: "burst=10/1m".parse().unwrap(),
            quotas: "monthly=100".parse().unwrap(),
            max_in_flight: Some("5".parse().unwrap()),
            ..ConsumerAttributes::default()
        },
        ..consumer("acme")
    };
    store.create_consumer(acme, &stamp()).await.unwrap();
    let made = create_key(&store, "acme", "one").await.key;
    for (limits, quotas, most, attribute) in [
        ("burst=11/1m", "", None, "limits"),
        ("other=5/1m burst=unlimited", "", None, "limits"),
        ("burst=10/1m", "monthly=101", None, "quotas"),
        ("", "", Some("6"), "max_in_flight"),
    ] {
        let attributes = KeyAttributes {
            limits: limits.parse().unwrap(),
            quotas: quotas.parse().unwrap(),
            max_in_flight: most.map(|most| most.parse().unwrap()),
            ..KeyAttributes::default()
        };
        let edit = KeyEdit {
            limits: Some(attributes.limits.clone()),
            quotas: Some(attributes.quotas.clone()),
            max_in_flight: Some(attributes.max_in_flight),
            ..KeyEdit::default()
        };
        let new = NewKey {
            attributes,
            ..key(owner("acme"), "two")
        };
        let created = store.create_key(new, &stamp()).await.map(|made| made.key);
        let edited = store.update_key(&made.id, edit, &later(1)).await;
        for refused in [created, edited] {
            match refused {
                Err(StoreError::LimitNotGranted { consumer, what }) => {
                    assert_eq!((&*consumer, what.attribute), ("acme", attribute));
                }
                other => panic!("{limits} {quotas}: {other:?}"),
            }
        }
    }
    assert_eq!(store.key(&made.id).await.unwrap(), Some(made));
}

pub(crate) async fn a_chain_of_rolls_keeps_its_first_key(url: &DatabaseUrl) {
    let store = open(url).await;
    let following = Following::new(&store).await;
    let new = NewKey {
        attributes: KeyAttributes {
            limits: "burst=5/1m".parse().unwrap(),
            ..KeyAttributes::default()
        },
        ..key(owner("acme"), "1")
    };
    let first = store.create_key(new, &stamp()).await.unwrap().key;
    let mut last = first.id;
    for text in ["2", "3", "4"] {
        let roll = Roll {
            target: RollTarget::Key(last),
            digest: KeyDigest::of(text.as_bytes()),
            hint: "pstn_abcd".to_owned(),
            grace: Duration::from_secs(60),
        };
        let rolled = store.roll(roll, &stamp()).await.unwrap();
        assert_eq!(rolled.key.chain, Some(first.id));
        assert_eq!(rolled.key.attributes, first.attributes);
        last = rolled.key.id;
    }
    let is_known = |following: &Following| following.find("4").is_some();
    following.until("rolled", is_known).await;
    for following in [&following, &Following::new(&store).await] {
        for text in ["1", "2", "3", "4"] {
            let known = following.find(text).unwrap();
            assert_eq!(known.chain(), first.id, "{text}");
            let limits = known.allowance().map(|own| own.rates.to_string());
            assert_eq!(limits.as_deref(), Some("burst=5/1m"));
        }
    }
}
