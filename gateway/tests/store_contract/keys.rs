//! Keys.

use std::collections::HashSet;

use postern_gateway::keys::{KeyId, KeyState, KeyStatus, UnixMillis};
use postern_gateway::store::{
    ConsumerAttributes, DatabaseUrl, KeyAttributes, KeyFilter, NewConsumer, NewKey, Owner,
    StoreError,
};

use super::making::{NOW, consumer, create_key, full_key, key, later, open, owner, stamp};

pub(crate) async fn a_key_reads_back_as_it_was_made(url: &DatabaseUrl) {
    let store = open(url).await;
    let granted = NewConsumer {
        attributes: ConsumerAttributes {
            scopes: "read write".parse().unwrap(),
            ..ConsumerAttributes::default()
        },
        ..consumer("acme")
    };
    let acme = store.create_consumer(granted, &stamp()).await.unwrap();
    let bare = key(Owner::Id(acme.id), "bare");
    let full = NewKey {
        attributes: full_key(UnixMillis(NOW.0 + 1)),
        ..key(owner("acme"), "full")
    };
    for new in [bare, full] {
        let made = store.create_key(new.clone(), &stamp()).await.unwrap();
        assert!(made.new_consumer.is_none());
        let stored = made.key;
        assert_eq!(
            (stored.consumer, &stored.consumer_name),
            (acme.id, &acme.name)
        );
        assert_eq!((&stored.hint, stored.state), (&new.hint, KeyState::Active));
        assert_eq!(stored.attributes, new.attributes);
        assert_eq!((stored.created_at, stored.last_used_at), (NOW, None));
        assert_eq!(stored.status(NOW), KeyStatus::Active);
        assert_eq!(store.key(&stored.id).await.unwrap(), Some(stored));
    }
    assert_eq!(store.count_keys(&acme.id).await.unwrap(), 2);
    assert_eq!(store.key(&KeyId::generate().unwrap()).await.unwrap(), None);
}

pub(crate) async fn a_key_by_name_makes_its_consumer_once(url: &DatabaseUrl) {
    let store = open(url).await;
    let scoped = NewKey {
        attributes: KeyAttributes {
            scopes: Some("read".parse().unwrap()),
            ..KeyAttributes::default()
        },
        ..key(owner("acme"), "one")
    };
    let first = store.create_key(scoped, &stamp()).await.unwrap();
    let made = first.new_consumer.unwrap();
    assert_eq!(
        made.attributes.scopes.as_str(),
        "read",
        "a new consumer gets the scopes of its first key"
    );
    let second = create_key(&store, "acme", "two").await;
    assert!(second.new_consumer.is_none());
    assert_eq!(second.key.consumer, made.id);
}

pub(crate) async fn a_refused_key_leaves_no_consumer_behind(url: &DatabaseUrl) {
    let store = open(url).await;
    create_key(&store, "acme", "one").await;
    let error = store.create_key(key(owner("new"), "one"), &stamp()).await;
    assert!(
        matches!(error, Err(StoreError::Duplicate { field: "the key" })),
        "{error:?}"
    );
    assert_eq!(
        store
            .consumer_named(&"default".parse().unwrap(), &"new".parse().unwrap())
            .await
            .unwrap(),
        None
    );
}

pub(crate) async fn a_key_is_never_wider_than_its_consumer(url: &DatabaseUrl) {
    let store = open(url).await;
    let granted = NewConsumer {
        attributes: ConsumerAttributes {
            scopes: "read write".parse().unwrap(),
            ..ConsumerAttributes::default()
        },
        ..consumer("acme")
    };
    store.create_consumer(granted, &stamp()).await.unwrap();
    let wide = NewKey {
        attributes: KeyAttributes {
            scopes: Some("admin read".parse().unwrap()),
            ..KeyAttributes::default()
        },
        ..key(owner("acme"), "one")
    };
    match store.create_key(wide, &stamp()).await {
        Err(StoreError::ScopeNotGranted { consumer, scope }) => {
            assert_eq!((&*consumer, &*scope), ("acme", "admin"))
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn the_same_key_is_refused_twice(url: &DatabaseUrl) {
    let store = open(url).await;
    create_key(&store, "acme", "one").await;
    let again = store.create_key(key(owner("acme"), "one"), &stamp()).await;
    assert!(
        matches!(again, Err(StoreError::Duplicate { field: "the key" })),
        "{again:?}"
    );
}

pub(crate) async fn revoking_is_final_and_disabling_is_not(url: &DatabaseUrl) {
    use KeyState::{Active, Disabled, Revoked};
    let store = open(url).await;
    let id = create_key(&store, "acme", "one").await.key.id;
    let steps = [
        (Disabled, Active),
        (Disabled, Disabled),
        (Active, Disabled),
        (Active, Active),
        (Revoked, Active),
    ];
    for (second, (to, from)) in (1..).zip(steps) {
        let change = store.set_key_state(&id, to, &later(second)).await.unwrap();
        assert_eq!((change.before, change.key.state), (from, to));
        assert_eq!(store.key(&id).await.unwrap(), Some(change.key));
    }
    assert_eq!(
        store
            .set_key_state(&id, Revoked, &later(9))
            .await
            .unwrap()
            .before,
        Revoked
    );
    for state in [Active, Disabled] {
        let error = store.set_key_state(&id, state, &later(9)).await;
        assert!(
            matches!(error, Err(StoreError::KeyRevoked(refused)) if refused == id),
            "{error:?}"
        );
    }
    assert_eq!(store.key(&id).await.unwrap().unwrap().state, Revoked);

    let unknown = KeyId::generate().unwrap();
    let error = store.set_key_state(&unknown, Revoked, &stamp()).await;
    assert!(
        matches!(error, Err(StoreError::UnknownKey(refused)) if refused == unknown),
        "{error:?}"
    );
}

pub(crate) async fn keys_are_listed_oldest_first_page_by_page(url: &DatabaseUrl) {
    let store = open(url).await;
    let mut made = Vec::new();
    for number in 0..7_u64 {
        // Some in the same millisecond.
        let new = key(
            owner(if number % 2 == 0 { "even" } else { "odd" }),
            &format!("key {number}"),
        );
        made.push(store.create_key(new, &later(number / 3)).await.unwrap().key);
    }
    made.sort_by_key(|key| (key.created_at, key.id));
    let pages = [1, 2, 3, 100]
        .into_iter()
        .flat_map(|limit| [(limit, None), (limit, Some(made[0].consumer))]);
    for (limit, wanted) in pages {
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let page = store
                .list_keys(
                    &KeyFilter {
                        consumer: wanted,
                        ..KeyFilter::default()
                    },
                    after.as_ref(),
                    limit,
                )
                .await
                .unwrap();
            assert!(page.len() <= limit as usize);
            let Some(last) = page.last() else { break };
            after = Some(last.cursor());
            listed.extend(page);
        }
        let expected: Vec<_> = made
            .iter()
            .filter(|key| wanted.is_none_or(|consumer| key.consumer == consumer))
            .cloned()
            .collect();
        assert_eq!(listed, expected, "{limit} a page, {wanted:?}");
    }
}

pub(crate) async fn what_was_acknowledged_is_there_after_opening_again(url: &DatabaseUrl) {
    let store = open(url).await;
    let made = create_key(&store, "acme", "one").await.key;
    // Not closed: as after a crash, nothing was tidied up.
    let again = open(url).await;
    assert_eq!(again.key(&made.id).await.unwrap().as_ref(), Some(&made));
    store.close().await;
    again.close().await;
    assert_eq!(open(url).await.key(&made.id).await.unwrap(), Some(made));
}

pub(crate) async fn two_writers_at_once_lose_nothing(url: &DatabaseUrl) {
    const EACH: usize = 60;
    // Opened at once too: both find no schema.
    let (left, right) = tokio::join!(open(url), open(url));
    let write = async |store, side: &str| {
        let mut ids = Vec::new();
        for number in 0..EACH {
            ids.push(
                create_key(store, "shared", &format!("{side} {number}"))
                    .await
                    .key
                    .id,
            );
        }
        ids
    };
    let (mut made, others) = tokio::join!(write(&left, "left"), write(&right, "right"));
    made.extend(others);
    let made: HashSet<KeyId> = made.into_iter().collect();
    let listed: HashSet<KeyId> = left
        .list_keys(&KeyFilter::default(), None, 1000)
        .await
        .unwrap()
        .into_iter()
        .map(|key| key.id)
        .collect();
    assert_eq!(made.len(), 2 * EACH);
    assert_eq!(listed, made);
    assert_eq!(
        left.consumers(&"default".parse().unwrap(), None, 10)
            .await
            .unwrap()
            .len(),
        1
    );
}
