//! Changing keys.

use postern_gateway::keys::{KeyId, KeyState, UnixMillis};
use postern_gateway::store::{DatabaseUrl, KeyEdit, NewConsumer, Owner, StoreError};

use super::making::{NOW, consumer, create_key, key, later, open, stamp};

pub(crate) async fn an_edit_of_a_key_changes_only_what_it_names(url: &DatabaseUrl) {
    let store = open(url).await;
    let granted = NewConsumer { scopes: "a b".parse().unwrap(), ..consumer("acme") };
    let acme = store.create_consumer(granted, &stamp()).await.unwrap();
    let mut expected = store.create_key(key(Owner::Id(acme.consumer.id), "one"), &stamp()).await.unwrap().key;
    let end = UnixMillis(NOW.0 + 5_000);
    for (seconds, edit) in [
        (1, KeyEdit { description: Some(Some("d".parse().unwrap())), ..KeyEdit::default() }),
        (2, KeyEdit { expires_at: Some(Some(end)), scopes: Some(Some("a".parse().unwrap())), ..KeyEdit::default() }),
        (3, KeyEdit { disabled: Some(true), ..KeyEdit::default() }),
        (4, KeyEdit { description: Some(None), expires_at: Some(None), scopes: Some(None), disabled: Some(false) }),
    ] {
        let after = store.update_key(&expected.id, edit.clone(), &later(seconds)).await.unwrap();
        let KeyEdit { description, expires_at, scopes, disabled } = edit;
        expected.description = description.unwrap_or(expected.description);
        expected.expires_at = expires_at.unwrap_or(expected.expires_at);
        expected.scopes = scopes.unwrap_or(expected.scopes);
        if let Some(disabled) = disabled {
            expected.state = if disabled { KeyState::Disabled } else { KeyState::Active };
        }
        expected.updated_at = later(seconds).at;
        assert_eq!(after, expected);
        assert_eq!(store.key(&expected.id).await.unwrap(), Some(after));
    }
    let unchanged = store.update_key(&expected.id, KeyEdit { disabled: Some(false), ..KeyEdit::default() }, &later(9)).await;
    assert_eq!(unchanged.unwrap(), expected, "an edit that changes nothing leaves no trace");
}

pub(crate) async fn an_edit_of_a_key_that_cannot_be_changes_nothing(url: &DatabaseUrl) {
    let store = open(url).await;
    let made = create_key(&store, "acme", "one").await.key;
    let wide = KeyEdit { scopes: Some(Some("a".parse().unwrap())), disabled: Some(true), ..KeyEdit::default() };
    let refused = store.update_key(&made.id, wide, &later(1)).await;
    assert!(matches!(refused, Err(StoreError::ScopeNotGranted { .. })), "{refused:?}");
    assert_eq!(store.key(&made.id).await.unwrap(), Some(made.clone()));
    store.set_key_state(&made.id, KeyState::Revoked, &later(2)).await.unwrap();
    for edit in [
        KeyEdit { description: Some(Some("d".parse().unwrap())), ..KeyEdit::default() },
        KeyEdit { disabled: Some(false), ..KeyEdit::default() },
    ] {
        let refused = store.update_key(&made.id, edit, &later(3)).await;
        assert!(matches!(refused, Err(StoreError::KeyRevoked(_))), "{refused:?}");
    }
    let nobody = store.update_key(&KeyId::generate().unwrap(), KeyEdit::default(), &stamp()).await;
    assert!(matches!(nobody, Err(StoreError::UnknownKey(_))), "{nobody:?}");
}
