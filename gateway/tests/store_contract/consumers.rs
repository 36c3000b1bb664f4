//! Consumers.

use postern_gateway::keys::{BucketName, ConsumerId, Scopes};
use postern_gateway::store::{
    ConsumerAttributes, ConsumerEdit, DatabaseUrl, NewConsumer, StoreError,
};

use super::making::{NOW, consumer, create_key, full_consumer, later, open, stamp};

pub(crate) async fn a_consumer_reads_back_as_it_was_made(url: &DatabaseUrl) {
    let store = open(url).await;
    let full = NewConsumer {
        attributes: full_consumer(),
        ..consumer("full")
    };
    for new in [consumer("bare"), full] {
        let created = store.create_consumer(new.clone(), &stamp()).await.unwrap();
        assert_eq!(created.name, new.name);
        assert_eq!(created.attributes, new.attributes);
        assert_eq!((created.created_at, created.updated_at), (NOW, NOW));
        let id = created.id;
        assert_eq!(store.consumer(&id).await.unwrap().as_ref(), Some(&created));
        assert_eq!(
            store.consumer_named(&new.bucket, &new.name).await.unwrap(),
            Some(created)
        );
    }
    assert_eq!(
        store
            .consumer(&ConsumerId::generate().unwrap())
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        store
            .consumer_named(&BucketName::default(), &"nobody".parse().unwrap())
            .await
            .unwrap(),
        None
    );
}

pub(crate) async fn a_name_is_unique_in_its_bucket_and_so_is_a_custom_id(url: &DatabaseUrl) {
    let store = open(url).await;
    let numbered = |name| NewConsumer {
        attributes: ConsumerAttributes {
            custom_id: Some("42".parse().unwrap()),
            ..ConsumerAttributes::default()
        },
        ..consumer(name)
    };
    store
        .create_consumer(numbered("acme"), &stamp())
        .await
        .unwrap();
    let same_name = store.create_consumer(consumer("acme"), &stamp()).await;
    assert!(
        matches!(same_name, Err(StoreError::Duplicate { field: "the name" })),
        "{same_name:?}"
    );
    let same_custom_id = store.create_consumer(numbered("other"), &stamp()).await;
    assert!(
        matches!(
            same_custom_id,
            Err(StoreError::Duplicate {
                field: "the custom id"
            })
        ),
        "{same_custom_id:?}"
    );
    // Names are compared letter for letter, and any number of consumers have no custom id.
    store
        .create_consumer(consumer("Acme"), &stamp())
        .await
        .unwrap();
    store
        .create_consumer(consumer("other"), &stamp())
        .await
        .unwrap();
}

pub(crate) async fn an_unknown_bucket_is_refused(url: &DatabaseUrl) {
    let store = open(url).await;
    let elsewhere = NewConsumer {
        bucket: "elsewhere".parse().unwrap(),
        ..consumer("acme")
    };
    assert!(store.create_consumer(elsewhere, &stamp()).await.is_err());
    assert!(
        store
            .consumers(&"elsewhere".parse().unwrap(), None, 10)
            .await
            .unwrap()
            .is_empty()
    );
}

pub(crate) async fn an_edit_changes_only_what_it_names(url: &DatabaseUrl) {
    let store = open(url).await;
    let new = NewConsumer {
        attributes: ConsumerAttributes {
            custom_id: Some("42".parse().unwrap()),
            description: Some("a note".parse().unwrap()),
            scopes: "read".parse().unwrap(),
            ..ConsumerAttributes::default()
        },
        ..consumer("acme")
    };
    let before = store.create_consumer(new, &stamp()).await.unwrap();
    let id = before.id;

    let nothing = store
        .update_consumer(&id, ConsumerEdit::default(), &later(1))
        .await
        .unwrap();
    assert_eq!(nothing, before);

    let edit = ConsumerEdit {
        name: Some("acme 2".parse().unwrap()),
        custom_id: Some(None),
        scopes: Some("read write".parse().unwrap()),
        ..ConsumerEdit::default()
    };
    let after = store.update_consumer(&id, edit, &later(2)).await.unwrap();
    assert_eq!(after.name.as_str(), "acme 2");
    assert_eq!(after.attributes.custom_id, None);
    assert_eq!(
        after.attributes.scopes,
        "read write".parse::<Scopes>().unwrap()
    );
    assert_eq!(after.attributes.description, before.attributes.description);
    assert_eq!((after.created_at, after.updated_at), (NOW, later(2).at));
    assert_eq!(store.consumer(&id).await.unwrap(), Some(after));

    let unknown = ConsumerId::generate().unwrap();
    let error = store
        .update_consumer(&unknown, ConsumerEdit::default(), &stamp())
        .await;
    assert!(
        matches!(error, Err(StoreError::UnknownConsumer { .. })),
        "{error:?}"
    );
}

pub(crate) async fn an_edit_to_a_taken_name_changes_nothing(url: &DatabaseUrl) {
    let store = open(url).await;
    store
        .create_consumer(consumer("acme"), &stamp())
        .await
        .unwrap();
    let other = store
        .create_consumer(consumer("other"), &stamp())
        .await
        .unwrap();
    let edit = ConsumerEdit {
        name: Some("acme".parse().unwrap()),
        scopes: Some("read".parse().unwrap()),
        ..ConsumerEdit::default()
    };
    let error = store.update_consumer(&other.id, edit, &later(1)).await;
    assert!(
        matches!(error, Err(StoreError::Duplicate { field: "the name" })),
        "{error:?}"
    );
    assert_eq!(store.consumer(&other.id).await.unwrap(), Some(other));
}

pub(crate) async fn deleting_a_consumer_deletes_its_keys(url: &DatabaseUrl) {
    let store = open(url).await;
    let mine = create_key(&store, "acme", "one").await.key;
    create_key(&store, "acme", "two").await;
    let others = create_key(&store, "other", "three").await.key;

    assert_eq!(
        store
            .delete_consumer(&mine.consumer, &stamp())
            .await
            .unwrap(),
        2
    );
    assert_eq!(store.consumer(&mine.consumer).await.unwrap(), None);
    assert_eq!(store.key(&mine.id).await.unwrap(), None);
    assert_eq!(store.key(&others.id).await.unwrap(), Some(others));

    let again = store.delete_consumer(&mine.consumer, &stamp()).await;
    assert!(
        matches!(again, Err(StoreError::UnknownConsumer { .. })),
        "{again:?}"
    );
    // The name is free again, for somebody else.
    let reborn = create_key(&store, "acme", "four").await;
    assert_ne!(reborn.new_consumer.unwrap().id, mine.consumer);
}

pub(crate) async fn consumers_are_listed_by_name_page_by_page(url: &DatabaseUrl) {
    let store = open(url).await;
    for name in ["c", "a", "e", "b", "d"] {
        store
            .create_consumer(consumer(name), &stamp())
            .await
            .unwrap();
    }
    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let page = store
            .consumers(&BucketName::default(), after.as_ref(), 2)
            .await
            .unwrap();
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = Some(last.name.clone());
        names.extend(page.iter().map(|stored| stored.name.to_string()));
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
}
