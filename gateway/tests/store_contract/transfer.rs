//! Imports and exports.

use postern_gateway::keys::{BucketName, KeyDigest, KeyId, KeyState};
use postern_gateway::store::{
    DatabaseUrl, ImportConflict, Imported, KeyAttributes, Rolled, Store, TransferConsumer,
    TransferKey, TransferRow, Verdict,
};

use super::feed::Following;
use super::making::{create_key, full_consumer, full_key, later, open, stamp};

/// A row with a key whose text is `key`, or without any.
pub(crate) fn row(line: u64, consumer: &str, key: &str) -> TransferRow {
    let key = (!key.is_empty()).then(|| TransferKey {
        id: None,
        digest: KeyDigest::of(key.as_bytes()),
        hint: "sk".to_owned(),
        state: KeyState::Active,
        rolled: None,
        chain: None,
        created_at: None,
        last_used_at: None,
        attributes: KeyAttributes::default(),
    });
    TransferRow {
        line,
        consumer: TransferConsumer::named(BucketName::default(), consumer.parse().unwrap()),
        key,
    }
}

async fn exported(store: &Store) -> Vec<TransferRow> {
    let mut export = store.export(None).await.unwrap();
    let mut rows = Vec::new();
    while let Some(page) = export.next().await.unwrap() {
        rows.extend(page);
    }
    rows
}

pub(crate) async fn an_import_adds_what_is_new_and_changes_nothing(url: &DatabaseUrl) {
    let store = open(url).await;
    let there = create_key(&store, "acme", "k1").await.key;
    let rows = [
        row(1, "acme", "k1"),
        row(2, "acme", "k2"),
        row(3, "other", "k1"),
        row(4, "other", "k3"),
        row(5, "other", "k4"),
        row(6, "keyless", ""),
        row(7, "acme", ""),
    ];
    let conflict = ImportConflict::KeyOfAnother;
    let verdicts = [
        Verdict::Already,
        Verdict::New,
        Verdict::Conflict(conflict),
        Verdict::New,
        Verdict::New,
        Verdict::New,
        Verdict::Already,
    ];
    assert_eq!(store.classify_import(&rows).await.unwrap(), verdicts);
    let imported = store.import(&rows, &later(1)).await.unwrap();
    assert_eq!(
        imported,
        Imported {
            consumers: 2,
            keys: 3,
            already: 2,
            conflicts: vec![(3, conflict)]
        }
    );
    assert_eq!(store.key(&there.id).await.unwrap(), Some(there));
    let again = store.import(&rows, &later(2)).await.unwrap();
    assert_eq!(
        again,
        Imported {
            consumers: 0,
            keys: 0,
            already: 6,
            conflicts: vec![(3, conflict)]
        }
    );
}

pub(crate) async fn an_import_of_thousands_is_followed(url: &DatabaseUrl) {
    let store = open(url).await;
    let following = Following::new(&store).await;
    // More than one statement holds, and no round number.
    let rows: Vec<TransferRow> = (0..1_733)
        .map(|line| row(line, &format!("c{}", line % 700), &format!("k{line}")))
        .collect();
    let imported = store.import(&rows, &stamp()).await.unwrap();
    assert_eq!((imported.consumers, imported.keys), (700, 1_733));
    following
        .until("all keys are known", |following| {
            following.table.len() == 1_733
        })
        .await;
    let key = following.find("k1400").unwrap();
    assert_eq!(key.consumer().name.as_str(), "c0");
}

pub(crate) async fn an_export_is_imported_as_it_was(url: &DatabaseUrl) {
    let store = open(url).await;
    let mut rows: Vec<TransferRow> = (0..2_600)
        .map(|line| row(line, &format!("c{}", line % 3), &format!("k{line}")))
        .collect();
    let seventh = rows[7].key.as_mut().unwrap();
    seventh.attributes = full_key(later(100).at);
    seventh.chain = Some(KeyId::generate().unwrap());
    let eighth = rows[8].key.as_mut().unwrap();
    eighth.attributes.expires_at = Some(later(50).at);
    eighth.rolled = Some(Rolled {
        at: later(1).at,
        successor: None,
        original_expiry: None,
    });
    store.import(&rows, &stamp()).await.unwrap();
    let mut keyless = row(1, "keyless", "");
    keyless.consumer.attributes = full_consumer();
    store.import(&[keyless.clone()], &stamp()).await.unwrap();
    let before = exported(&store).await;
    assert_eq!(before.len(), 2_601);
    for attributes in [&rows[7], &keyless].map(|row| &row.consumer.attributes) {
        assert!(
            before
                .iter()
                .any(|row| row.consumer.attributes == *attributes)
        );
    }
    assert!(before.iter().any(|row| {
        let key = row.key.as_ref();
        key.is_some_and(|key| key.attributes == full_key(later(100).at))
    }));
    for consumer in before.iter().filter_map(|row| row.consumer.id) {
        store.consumer(&consumer).await.unwrap().unwrap();
    }
    let mut gone: Vec<_> = before.iter().filter_map(|row| row.consumer.id).collect();
    gone.dedup();
    assert_eq!(gone.len(), 4);
    for id in gone {
        store.delete_consumer(&id, &stamp()).await.unwrap();
    }
    assert_eq!(exported(&store).await, []);
    store.import(&before, &later(9)).await.unwrap();
    assert_eq!(exported(&store).await, before);
}
