//! Lists with filters.

use postern_gateway::keys::{
    Hour, KeyDigest, KeyState, KeyStatus, KeyUsage, Tags, UnixMillis, UsageCounts,
};
use postern_gateway::store::{
    After, ConsumerAttributes, ConsumerEdit, ConsumerFilter, DatabaseUrl, KeyAttributes, KeyFilter,
    NewConsumer, NewKey, StoreError, UsageBatch,
};

use super::making::{NOW, consumer, create_key, key, later, open, owner, stamp};

fn tags(tags: &[&str]) -> Tags {
    Tags::new(tags.iter().map(|tag| tag.parse().unwrap())).unwrap()
}

pub(crate) async fn lists_go_on_after_a_place_oldest_first(url: &DatabaseUrl) {
    let store = open(url).await;
    // Two of each at every moment, so that the id decides too.
    for number in 0..7 {
        store
            .create_consumer(consumer(&format!("c{number}")), &later(number / 2))
            .await
            .unwrap();
        create_key(&store, "c0", &format!("k{number}")).await;
    }
    let all = store
        .list_consumers(&ConsumerFilter::default(), None, 100)
        .await
        .unwrap();
    let places: Vec<_> = all.iter().map(|one| (one.created_at, one.id)).collect();
    assert!(places.len() == 7 && places.is_sorted(), "{places:?}");
    for (index, (created_at, id)) in places.iter().enumerate() {
        let after = After {
            created_at: *created_at,
            id: id.to_string(),
        };
        assert_eq!(
            store
                .list_consumers(&ConsumerFilter::default(), Some(&after), 100)
                .await
                .unwrap(),
            all[index + 1..]
        );
        let next = store
            .list_consumers(&ConsumerFilter::default(), Some(&after), 1)
            .await
            .unwrap();
        assert_eq!(next.first(), all.get(index + 1));
    }
    let keys = store
        .list_keys(&KeyFilter::default(), None, 100)
        .await
        .unwrap();
    let after = After {
        created_at: keys[2].created_at,
        id: keys[2].id.to_string(),
    };
    assert_eq!(
        store
            .list_keys(&KeyFilter::default(), Some(&after), 100)
            .await
            .unwrap(),
        keys[3..]
    );
}

pub(crate) async fn filters_are_exact(url: &DatabaseUrl) {
    let store = open(url).await;
    for (name, own) in [
        ("a", &["org=acme"][..]),
        ("b", &["org=Acme", "plan=100%"]),
        ("c", &[]),
        ("d", &["xorg=acme", "n=\"org\":\"acme\""]),
    ] {
        let new = NewConsumer {
            attributes: ConsumerAttributes {
                tags: tags(own),
                custom_id: Some(format!("id-{name}").parse().unwrap()),
                ..ConsumerAttributes::default()
            },
            ..consumer(name)
        };
        store.create_consumer(new, &later(0)).await.unwrap();
        create_key(&store, name, name).await;
    }
    let none = ConsumerFilter::default;
    let other = ConsumerFilter {
        bucket: Some("other".parse().unwrap()),
        ..none()
    };
    let listed = store.list_consumers(&other, None, 10).await;
    assert!(
        matches!(listed, Err(StoreError::UnknownBucket { .. })),
        "{listed:?}"
    );
    for (filter, names) in [
        (none(), "abcd"),
        (
            ConsumerFilter {
                bucket: Some("default".parse().unwrap()),
                ..none()
            },
            "abcd",
        ),
        (
            ConsumerFilter {
                name: Some("b".parse().unwrap()),
                ..none()
            },
            "b",
        ),
        (
            ConsumerFilter {
                custom_id: Some("id-c".parse().unwrap()),
                ..none()
            },
            "c",
        ),
        (
            ConsumerFilter {
                tags: tags(&["org=acme"]),
                ..none()
            },
            "a",
        ),
        (
            ConsumerFilter {
                tags: tags(&["org=Acme", "plan=100%"]),
                ..none()
            },
            "b",
        ),
        (
            ConsumerFilter {
                tags: tags(&["plan=1"]),
                ..none()
            },
            "",
        ),
        (
            ConsumerFilter {
                name: Some("a".parse().unwrap()),
                tags: tags(&["org=Acme"]),
                ..none()
            },
            "",
        ),
    ] {
        let mut found: Vec<_> = store
            .list_consumers(&filter, None, 100)
            .await
            .unwrap()
            .iter()
            .map(|one| one.name.to_string())
            .collect();
        found.sort();
        assert_eq!(found.concat(), names, "{filter:?}");
        if filter.name.is_none() && filter.custom_id.is_none() {
            let filter = KeyFilter {
                consumer: None,
                bucket: filter.bucket,
                tags: filter.tags,
                ..KeyFilter::default()
            };
            let mut found: Vec<_> = store
                .list_keys(&filter, None, 100)
                .await
                .unwrap()
                .iter()
                .map(|one| one.consumer_name.to_string())
                .collect();
            found.sort();
            assert_eq!(found.concat(), names, "{filter:?}");
        }
    }
}

pub(crate) async fn tags_are_found_as_they_are_now(url: &DatabaseUrl) {
    let store = open(url).await;
    let tagged = |name: &str, texts: &[&str]| NewConsumer {
        attributes: ConsumerAttributes {
            tags: tags(texts),
            ..ConsumerAttributes::default()
        },
        ..consumer(name)
    };
    let found = async |texts: &[&str]| -> String {
        let filter = ConsumerFilter {
            tags: tags(texts),
            ..ConsumerFilter::default()
        };
        let found = store.list_consumers(&filter, None, 100).await.unwrap();
        let mut names: Vec<_> = found.iter().map(|one| one.name.to_string()).collect();
        names.sort();
        names.concat()
    };
    let a = store
        .create_consumer(tagged("a", &["org=x", "plan=gold"]), &stamp())
        .await
        .unwrap();
    store
        .create_consumer(tagged("b", &["org=x"]), &stamp())
        .await
        .unwrap();
    assert_eq!(found(&["org=x"]).await, "ab");
    assert_eq!(found(&["org=x", "plan=gold"]).await, "a");
    let edit = ConsumerEdit {
        tags: Some(tags(&["org=y"])),
        ..ConsumerEdit::default()
    };
    store.update_consumer(&a.id, edit, &stamp()).await.unwrap();
    assert_eq!(found(&["org=x"]).await, "b");
    assert_eq!(found(&["plan=gold"]).await, "");
    assert_eq!(found(&["org=y"]).await, "a");
    store.delete_consumer(&a.id, &stamp()).await.unwrap();
    assert_eq!(found(&["org=y"]).await, "");
    // More than a list begins with.
    for number in 0..520 {
        store
            .create_consumer(tagged(&format!("m{number:03}"), &["org=many"]), &stamp())
            .await
            .unwrap();
    }
    let filter = ConsumerFilter {
        tags: tags(&["org=many"]),
        ..ConsumerFilter::default()
    };
    let listed = store.list_consumers(&filter, None, 1_000).await.unwrap();
    assert_eq!(listed.len(), 520);
}

pub(crate) async fn keys_are_filtered_by_what_they_are_and_when(url: &DatabaseUrl) {
    let store = open(url).await;
    let made = async |name: &str, hint: &str, ends: Option<u64>, at: u64| {
        let new = NewKey {
            hint: hint.to_owned(),
            attributes: KeyAttributes {
                expires_at: ends.map(|seconds| later(seconds).at),
                ..KeyAttributes::default()
            },
            ..key(owner(name), name)
        };
        store.create_key(new, &later(at)).await.unwrap().key.id
    };
    let a = made("a", "pstn_aaaa", None, 0).await;
    made("b", "pstn_aabb", Some(100), 1).await;
    let c = made("c", "legacy", Some(1_000), 2).await;
    let d = made("d", "", Some(1_000), 3).await;
    let now = later(500).at;
    for (id, state) in [(&c, KeyState::Disabled), (&d, KeyState::Revoked)] {
        store.set_key_state(id, state, &later(4)).await.unwrap();
    }
    let used = [KeyUsage {
        key: a,
        hour: Hour::of(later(50).at),
        counts: UsageCounts {
            requests: 1,
            ..UsageCounts::default()
        },
        last_used_at: Some(later(50).at),
    }];
    let batch = UsageBatch {
        writer: "w",
        number: 1,
    };
    store.add_usage(batch, &used).await.unwrap();
    let none = KeyFilter::default;
    let of = |status| Some((status, now));
    for (filter, names) in [
        (none(), "abcd"),
        (
            KeyFilter {
                hint: Some("pstn_aa".to_owned()),
                ..none()
            },
            "ab",
        ),
        (
            KeyFilter {
                hint: Some("pstn_aab".to_owned()),
                ..none()
            },
            "b",
        ),
        (
            KeyFilter {
                hint: Some("PSTN_AA".to_owned()),
                ..none()
            },
            "",
        ),
        (
            KeyFilter {
                hint: Some("%".to_owned()),
                ..none()
            },
            "",
        ),
        (
            KeyFilter {
                status: of(KeyStatus::Active),
                ..none()
            },
            "a",
        ),
        (
            KeyFilter {
                status: of(KeyStatus::Expired),
                ..none()
            },
            "b",
        ),
        (
            KeyFilter {
                status: of(KeyStatus::Disabled),
                ..none()
            },
            "c",
        ),
        (
            KeyFilter {
                status: of(KeyStatus::Revoked),
                ..none()
            },
            "d",
        ),
        (
            KeyFilter {
                ending: Some(NOW..=later(100).at),
                ..none()
            },
            "b",
        ),
        (
            KeyFilter {
                ending: Some(NOW..=later(99).at),
                ..none()
            },
            "",
        ),
        (
            KeyFilter {
                ending: Some(later(100).at..=later(1_000).at),
                ..none()
            },
            "c",
        ),
        (
            KeyFilter {
                unused_since: Some(later(60).at),
                ..none()
            },
            "abcd",
        ),
        (
            KeyFilter {
                unused_since: Some(later(50).at),
                ..none()
            },
            "bcd",
        ),
        (
            KeyFilter {
                unused_since: Some(later(2).at),
                ..none()
            },
            "b",
        ),
        (
            KeyFilter {
                created_since: Some(later(2).at),
                ..none()
            },
            "cd",
        ),
        (
            KeyFilter {
                created_until: Some(later(2).at),
                ..none()
            },
            "ab",
        ),
        (
            KeyFilter {
                created_since: Some(UnixMillis(i64::MIN)),
                created_until: Some(UnixMillis(i64::MAX)),
                status: of(KeyStatus::Active),
                hint: Some("pstn_".to_owned()),
                ..none()
            },
            "a",
        ),
    ] {
        let found: Vec<_> = store
            .list_keys(&filter, None, 100)
            .await
            .unwrap()
            .iter()
            .map(|one| one.consumer_name.to_string())
            .collect();
        assert_eq!(found.concat(), names, "{filter:?}");
    }
    for (text, names) in [
        ("pstn_aaaa", "a"),
        ("pstn_aaaaBCDEF", "a"),
        ("pstn_aa", "ab"),
        ("legacy-0123", "c"),
        ("leg", "c"),
        ("Legacy", ""),
        ("_", ""),
    ] {
        let found = store.keys_like(text, 10).await.unwrap();
        let names_of: Vec<_> = found
            .iter()
            .map(|one| one.consumer_name.to_string())
            .collect();
        assert_eq!(names_of.concat(), names, "{text}");
    }
    let digest = KeyDigest::of(b"d");
    let found = store.key_with(&digest).await.unwrap().unwrap();
    assert_eq!(found.id, d);
    let revoked = found.revoked.unwrap();
    assert_eq!((revoked.at, &*revoked.by), (later(4).at, "cli:tester"));
    assert_eq!(store.key(&c).await.unwrap().unwrap().revoked, None);
    assert!(
        store
            .key_with(&KeyDigest::of(b"e"))
            .await
            .unwrap()
            .is_none()
    );
    let spelled = store
        .consumer_spelled_like(&"default".parse().unwrap(), &"A".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(spelled.unwrap().as_str(), "a");
}
