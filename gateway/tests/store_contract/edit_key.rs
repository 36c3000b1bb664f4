//! Changing keys.

use std::time::Duration;

use postern_gateway::keys::{
    AllowedIps, AllowedMethods, AllowedRoutes, KeyDigest, KeyId, KeyState, Quotas, Rates, Tag,
    Tags, UnixMillis,
};
use postern_gateway::store::{
    ConsumerAttributes, ConsumerEdit, DatabaseUrl, KeyEdit, NewConsumer, Owner, Roll, RollTarget,
    Stamp, StoreError,
};

use super::making::{NOW, consumer, create_key, key, later, open, stamp};

pub(crate) async fn an_edit_of_a_key_changes_only_what_it_names(url: &DatabaseUrl) {
    let store = open(url).await;
    let granted = NewConsumer {
        attributes: ConsumerAttributes {
            scopes: "a b".parse().unwrap(),
            ..ConsumerAttributes::default()
        },
        ..consumer("acme")
    };
    let acme = store.create_consumer(granted, &stamp()).await.unwrap();
    let mut expected = store
        .create_key(key(Owner::Id(acme.id), "one"), &stamp())
        .await
        .unwrap()
        .key;
    let end = UnixMillis(NOW.0 + 5_000);
    for (seconds, edit) in [
        (
            1,
            KeyEdit {
                description: Some(Some("d".parse().unwrap())),
                ..KeyEdit::default()
            },
        ),
        (
            2,
            KeyEdit {
                expires_at: Some(Some(end)),
                scopes: Some(Some("a".parse().unwrap())),
                limits: Some("burst=5/1m".parse().unwrap()),
                quotas: Some("monthly=50".parse().unwrap()),
                max_in_flight: Some(Some("2".parse().unwrap())),
                allowed_ips: Some("192.0.2.1".parse().unwrap()),
                allowed_methods: Some("DELETE".parse().unwrap()),
                allowed_routes: Some(r#"["a"]"#.parse().unwrap()),
                exempt_from_unused: Some(true),
                ..KeyEdit::default()
            },
        ),
        (
            3,
            KeyEdit {
                disabled: Some(true),
                ..KeyEdit::default()
            },
        ),
        (
            4,
            KeyEdit {
                description: Some(None),
                expires_at: Some(None),
                scopes: Some(None),
                limits: Some(Rates::default()),
                quotas: Some(Quotas::default()),
                max_in_flight: Some(None),
                allowed_ips: Some(AllowedIps::default()),
                allowed_methods: Some(AllowedMethods::default()),
                allowed_routes: Some(AllowedRoutes::default()),
                exempt_from_unused: Some(false),
                disabled: Some(false),
            },
        ),
    ] {
        let after = store
            .update_key(&expected.id, edit.clone(), &later(seconds))
            .await
            .unwrap();
        let KeyEdit {
            description,
            expires_at,
            scopes,
            limits,
            quotas,
            max_in_flight,
            allowed_ips,
            allowed_methods,
            allowed_routes,
            exempt_from_unused,
            disabled,
        } = edit;
        expected.attributes.description = description.unwrap_or(expected.attributes.description);
        expected.attributes.expires_at = expires_at.unwrap_or(expected.attributes.expires_at);
        expected.attributes.scopes = scopes.unwrap_or(expected.attributes.scopes);
        expected.attributes.limits = limits.unwrap_or(expected.attributes.limits);
        expected.attributes.quotas = quotas.unwrap_or(expected.attributes.quotas);
        expected.attributes.max_in_flight =
            max_in_flight.unwrap_or(expected.attributes.max_in_flight);
        let attributes = &mut expected.attributes;
        attributes.allowed_ips = allowed_ips.unwrap_or(attributes.allowed_ips.clone());
        attributes.allowed_methods = allowed_methods.unwrap_or(attributes.allowed_methods);
        attributes.allowed_routes = allowed_routes.unwrap_or(attributes.allowed_routes.clone());
        expected.attributes.exempt_from_unused =
            exempt_from_unused.unwrap_or(expected.attributes.exempt_from_unused);
        if let Some(disabled) = disabled {
            expected.state = if disabled {
                KeyState::Disabled
            } else {
                KeyState::Active
            };
        }
        expected.updated_at = later(seconds).at;
        assert_eq!(after, expected);
        assert_eq!(store.key(&expected.id).await.unwrap(), Some(after));
    }
    let unchanged = store
        .update_key(
            &expected.id,
            KeyEdit {
                disabled: Some(false),
                ..KeyEdit::default()
            },
            &later(9),
        )
        .await;
    assert_eq!(
        unchanged.unwrap(),
        expected,
        "an edit that changes nothing leaves no trace"
    );
}

pub(crate) async fn an_edit_of_a_key_that_cannot_be_changes_nothing(url: &DatabaseUrl) {
    let store = open(url).await;
    let made = create_key(&store, "acme", "one").await.key;
    let wide = KeyEdit {
        scopes: Some(Some("a".parse().unwrap())),
        disabled: Some(true),
        ..KeyEdit::default()
    };
    let refused = store.update_key(&made.id, wide, &later(1)).await;
    assert!(
        matches!(refused, Err(StoreError::ScopeNotGranted { .. })),
        "{refused:?}"
    );
    assert_eq!(store.key(&made.id).await.unwrap(), Some(made.clone()));
    store
        .set_key_state(&made.id, KeyState::Revoked, &later(2))
        .await
        .unwrap();
    for edit in [
        KeyEdit {
            description: Some(Some("d".parse().unwrap())),
            ..KeyEdit::default()
        },
        KeyEdit {
            disabled: Some(false),
            ..KeyEdit::default()
        },
    ] {
        let refused = store.update_key(&made.id, edit, &later(3)).await;
        assert!(
            matches!(refused, Err(StoreError::KeyRevoked(_))),
            "{refused:?}"
        );
    }
    let nobody = store
        .update_key(&KeyId::generate().unwrap(), KeyEdit::default(), &stamp())
        .await;
    assert!(
        matches!(nobody, Err(StoreError::UnknownKey(_))),
        "{nobody:?}"
    );
}

pub(crate) async fn a_change_of_someone_elses_touches_nothing(url: &DatabaseUrl) {
    let store = open(url).await;
    let tags = Tags::new([Tag::new("org", "a").unwrap()]).unwrap();
    let owned = store
        .create_consumer(
            NewConsumer {
                attributes: ConsumerAttributes {
                    tags: tags.clone(),
                    ..ConsumerAttributes::default()
                },
                ..consumer("acme")
            },
            &stamp(),
        )
        .await
        .unwrap();
    let id = owned.id;
    let made = store
        .create_key(
            key(Owner::Id(id), "one"),
            &Stamp {
                guard: tags,
                ..stamp()
            },
        )
        .await
        .unwrap()
        .key;
    let other = Stamp {
        guard: Tags::new([Tag::new("org", "b").unwrap()]).unwrap(),
        ..later(1)
    };
    let roll = |target| Roll {
        target,
        digest: KeyDigest::of(b"two"),
        hint: "x".to_owned(),
        grace: Duration::ZERO,
    };
    let edit = || KeyEdit {
        disabled: Some(true),
        ..KeyEdit::default()
    };
    let rename = ConsumerEdit {
        name: Some("taken over".parse().unwrap()),
        ..ConsumerEdit::default()
    };
    let refused = [
        (
            "create",
            store
                .create_key(key(Owner::Id(id), "three"), &other)
                .await
                .map(drop),
        ),
        (
            "revoke",
            store
                .set_key_state(&made.id, KeyState::Revoked, &other)
                .await
                .map(drop),
        ),
        (
            "edit",
            store.update_key(&made.id, edit(), &other).await.map(drop),
        ),
        (
            "roll one",
            store
                .roll(roll(RollTarget::Key(made.id)), &other)
                .await
                .map(drop),
        ),
        (
            "roll all",
            store
                .roll(roll(RollTarget::Consumer(id)), &other)
                .await
                .map(drop),
        ),
        (
            "rename",
            store.update_consumer(&id, rename, &other).await.map(drop),
        ),
        ("delete", store.delete_consumer(&id, &other).await.map(drop)),
    ];
    for (what, outcome) in refused {
        assert!(
            matches!(outcome, Err(StoreError::TagMismatch)),
            "{what}: {outcome:?}"
        );
    }
    assert_eq!(
        (
            store.key(&made.id).await.unwrap(),
            store.consumer(&id).await.unwrap()
        ),
        (Some(made), Some(owned))
    );
    assert_eq!(store.newest_revision().await.unwrap(), 2);
}
