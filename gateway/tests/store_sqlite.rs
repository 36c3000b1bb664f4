//! What is particular to the SQLite file: how it is made, how it is refused, what is inside, and how the feed copes with
//! a file that others have worked on.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on may say so by stopping"
)]

#[path = "store_contract/feed.rs"]
#[expect(
    dead_code,
    reason = "its cases run with the contract; only `Following` is needed here"
)]
mod feed;
#[path = "store_contract/making.rs"]
#[expect(dead_code, reason = "made for all suites")]
mod making;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use postern_gateway::keys::{KeyState, KeyStatus};
use postern_gateway::store::{ConsumerEdit, DatabaseUrl, KeyFilter, Store, StoreError};
use sqlx::{Connection, Executor, Row, SqliteConnection};
use tempfile::TempDir;

use feed::Following;
use making::{create_key, later, open};

/// A directory with a path for a database in it.
struct Place {
    _directory: TempDir,
    file: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("data").join("gateway.db");
        Self {
            _directory: directory,
            file,
        }
    }

    fn url(&self) -> DatabaseUrl {
        url(&self.file)
    }

    /// A connection that knows nothing of the store.
    async fn raw(&self) -> SqliteConnection {
        SqliteConnection::connect(self.file.to_str().unwrap())
            .await
            .unwrap()
    }

    /// Every file of the database.
    fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(self.file.parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    }
}

fn url(path: &Path) -> DatabaseUrl {
    format!("sqlite://{}", path.display()).parse().unwrap()
}

async fn number(connection: &mut SqliteConnection, query: &'static str) -> i64 {
    sqlx::query_scalar(query)
        .fetch_one(connection)
        .await
        .unwrap()
}

#[tokio::test]
async fn the_file_and_its_directory_are_made_for_the_owner_only() {
    let place = Place::new();
    let store = open(&place.url()).await;
    create_key(&store, "acme", "one").await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(place.file.parent().unwrap()), 0o700);
    let files = place.files();
    assert!(
        files.len() >= 2,
        "the log is beside the file while the store is open: {files:?}"
    );
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn a_path_with_odd_characters_is_taken_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory
        .path()
        .join("with space, 100% & ü")
        .join("a%20b.db");
    let store = open(&url(&file)).await;
    let made = create_key(&store, "acme", "one").await.key;
    assert!(file.is_file());
    let linked = directory.path().join("link");
    std::os::unix::fs::symlink(file.parent().unwrap(), &linked).unwrap();
    let through_link = open(&url(&linked.join("../with space, 100% & ü/a%20b.db"))).await;
    assert_eq!(through_link.key(&made.id).await.unwrap(), Some(made));
}

#[tokio::test]
async fn what_cannot_be_opened_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let in_the_way = directory.path().join("in-the-way");
    fs::write(&in_the_way, "").unwrap();
    // Permissions do not stop root, who may run this; these do.
    for path in [
        in_the_way.join("gateway.db"),
        "/proc/postern/gateway.db".into(),
        directory.path().to_path_buf(),
    ] {
        let error = Store::open(&url(&path)).await.unwrap_err();
        assert!(matches!(error, StoreError::CannotOpen { .. }), "{error:?}");
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
    }
}

#[tokio::test]
async fn what_is_no_database_is_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("notes.txt");
    let page = directory.path().join("page.db");
    let header = [b"SQLite format 3\0".as_slice(), &[0xff; 4080]].concat();
    for (path, content) in [
        (text, b"these are my notes, not a database".repeat(100)),
        (page, header),
    ] {
        fs::write(&path, &content).unwrap();
        let error = Store::open(&url(&path)).await.unwrap_err();
        assert!(
            matches!(error, StoreError::NotADatabase { .. }),
            "{error:?}"
        );
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
        assert_eq!(fs::read(&path).unwrap(), content);
    }
}

#[test]
fn many_processes_make_the_database_at_once() {
    for _ in 0..5 {
        let place = Place::new();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let url = place.url();
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .unwrap();
                    runtime.block_on(async {
                        let store = open(&url).await;
                        create_key(&store, "shared", &format!("key {number}")).await;
                        store.close().await;
                    });
                });
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let keys = runtime.block_on(async {
            open(&place.url())
                .await
                .list_keys(&KeyFilter::default(), None, 100)
                .await
                .unwrap()
        });
        assert_eq!(keys.len(), 8);
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let place = Place::new();
    open(&place.url()).await.close().await;
    let step = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                VALUES (9000, 'from the future', true, x'00', 0)";
    place.raw().await.execute(step).await.unwrap();
    match Store::open(&place.url()).await {
        Err(error @ StoreError::NewerSchema { found: 9000, .. }) => {
            assert!(
                error.to_string().contains(place.file.to_str().unwrap()),
                "{error}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_schema_of_another_make_is_refused() {
    for make in [
        "UPDATE _sqlx_migrations SET checksum = x'00'",
        // With more steps than this version has, as before the first release.
        "UPDATE _sqlx_migrations SET checksum = x'00'; \
         INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (2, 'model', true, x'00', 0), (8, 'operations', true, x'00', 0)",
    ] {
        let place = Place::new();
        open(&place.url()).await.close().await;
        place.raw().await.execute(make).await.unwrap();
        let error = Store::open(&place.url()).await.unwrap_err();
        assert!(
            matches!(error, StoreError::OtherSchema { version: 1, .. }),
            "{error:?}"
        );
        assert!(
            error.to_string().contains("another version made it"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn every_mutation_leaves_one_audit_row_and_all_that_it_touched_in_the_feed() {
    let place = Place::new();
    let store = open(&place.url()).await;
    let key = create_key(&store, "acme", "one").await.key;
    store
        .set_key_state(&key.id, KeyState::Disabled, &later(1))
        .await
        .unwrap();
    store
        .set_key_state(&key.id, KeyState::Active, &later(2))
        .await
        .unwrap();
    store
        .set_key_state(&key.id, KeyState::Revoked, &later(3))
        .await
        .unwrap();
    let edit = ConsumerEdit {
        scopes: Some("read".parse().unwrap()),
        ..ConsumerEdit::default()
    };
    store
        .update_consumer(&key.consumer, edit, &later(4))
        .await
        .unwrap();
    // None of these does anything.
    store
        .set_key_state(&key.id, KeyState::Revoked, &later(5))
        .await
        .unwrap();
    store
        .set_key_state(&key.id, KeyState::Active, &later(5))
        .await
        .unwrap_err();
    store
        .update_consumer(&key.consumer, ConsumerEdit::default(), &later(5))
        .await
        .unwrap();
    store
        .create_key(making::key(making::owner("other"), "one"), &later(5))
        .await
        .unwrap_err();
    store
        .delete_consumer(&key.consumer, &later(6))
        .await
        .unwrap();

    let mut raw = place.raw().await;
    let rows = sqlx::query("SELECT actor, action, subject_id FROM audit ORDER BY id")
        .fetch_all(&mut raw)
        .await
        .unwrap();
    let audit: Vec<(String, String)> = rows
        .iter()
        .map(|row| (row.get("action"), row.get("subject_id")))
        .collect();
    let (key_id, consumer_id) = (key.id.to_string(), key.consumer.to_string());
    let expected = [
        ("consumer.create", &consumer_id),
        ("key.create", &key_id),
        ("key.disable", &key_id),
        ("key.enable", &key_id),
        ("key.revoke", &key_id),
        ("consumer.update", &consumer_id),
        ("consumer.delete", &consumer_id),
    ]
    .map(|(action, id)| (action.to_owned(), id.clone()));
    assert_eq!(audit, expected);
    assert!(
        rows.iter()
            .all(|row| row.get::<String, _>("actor") == "cli:tester")
    );

    let feed = sqlx::query("SELECT subject_id FROM changes ORDER BY revision")
        .fetch_all(&mut raw)
        .await
        .unwrap();
    let feed: Vec<String> = feed.iter().map(|row| row.get("subject_id")).collect();
    let mut expected: Vec<String> = audit.into_iter().map(|(_, id)| id).collect();
    // A consumer's keys go before it, each with its digest.
    expected.insert(expected.len() - 1, key_id);
    assert_eq!(feed, expected);

    for forgery in ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"] {
        assert!(raw.execute(forgery).await.is_err(), "{forgery}");
    }
    assert_eq!(number(&mut raw, "SELECT count(*) FROM audit").await, 7);
}

#[tokio::test]
async fn old_feed_rows_are_cleaned_up() {
    let place = Place::new();
    let store = open(&place.url()).await;
    create_key(&store, "acme", "one").await;
    let mut raw = place.raw().await;
    let far_ahead = "INSERT INTO changes (revision, subject, subject_id) VALUES (101998, 'key', 'key_0'), (50000, 'key', 'key_0')";
    raw.execute(far_ahead).await.unwrap();
    // Revisions 101999 and 102000.
    create_key(&store, "other", "two").await;
    assert_eq!(
        number(&mut raw, "SELECT max(revision) FROM changes").await,
        102_000
    );
    assert_eq!(
        number(&mut raw, "SELECT min(revision) FROM changes").await,
        50_000
    );
}

#[tokio::test]
async fn a_gap_in_the_feed_loads_everything_again() {
    let place = Place::new();
    let store = open(&place.url()).await;
    create_key(&store, "acme", "one").await;
    create_key(&store, "acme", "two").await;
    let following = Following::new(&store).await;
    assert_eq!(following.status_of("one"), Some(KeyStatus::Active));
    let behind_its_back = "BEGIN IMMEDIATE; \
         UPDATE keys SET state = 'revoked' WHERE digest = (SELECT digest FROM changes WHERE revision = 2); \
         DELETE FROM keys WHERE digest = (SELECT digest FROM changes WHERE revision = 3); \
         INSERT INTO changes (revision, subject, subject_id) VALUES (70, 'key', 'key_0'); \
         DELETE FROM changes WHERE revision < 70; \
         COMMIT";
    place.raw().await.execute(behind_its_back).await.unwrap();
    following
        .until("revoked", |following| {
            following.status_of("one") == Some(KeyStatus::Revoked)
        })
        .await;
    following
        .until("gone", |following| following.find("two").is_none())
        .await;
    // And goes on from there.
    create_key(&store, "acme", "three").await;
    following
        .until("created", |following| following.find("three").is_some())
        .await;
}

#[tokio::test]
async fn a_database_put_back_from_a_copy_is_loaded_again() {
    let place = Place::new();
    let store = open(&place.url()).await;
    create_key(&store, "acme", "one").await;
    let following = Following::new(&store).await;
    create_key(&store, "acme", "too new").await;
    following
        .until("created", |following| following.find("too new").is_some())
        .await;
    let back_to_then = "BEGIN IMMEDIATE; \
         DELETE FROM keys WHERE digest = (SELECT digest FROM changes WHERE revision = 3); \
         DELETE FROM changes WHERE revision > 2; UPDATE sqlite_sequence SET seq = 2 WHERE name = 'changes'; \
         COMMIT";
    place.raw().await.execute(back_to_then).await.unwrap();
    following
        .until("gone", |following| following.find("too new").is_none())
        .await;
    assert!(following.find("one").is_some());
}

#[tokio::test]
async fn a_row_that_cannot_be_read_costs_only_its_own_key() {
    let place = Place::new();
    let store = open(&place.url()).await;
    create_key(&store, "acme", "one").await;
    create_key(&store, "acme", "two").await;
    let following = Following::new(&store).await;
    let spoil = "BEGIN IMMEDIATE; \
         UPDATE keys SET scopes = 'a,b' WHERE digest = (SELECT digest FROM changes WHERE revision = 2); \
         INSERT INTO changes (subject, subject_id, digest) SELECT subject, subject_id, digest FROM changes WHERE revision = 2; \
         COMMIT";
    place.raw().await.execute(spoil).await.unwrap();
    following
        .until("refused", |following| following.find("one").is_none())
        .await;
    assert!(following.find("two").is_some());
    // The same from the beginning.
    let following = Following::new(&store).await;
    assert!(following.find("one").is_none());
    assert!(following.find("two").is_some());
}

#[tokio::test]
async fn keys_of_many_batches_are_loaded_around_rows_with_separators_in_them() {
    let place = Place::new();
    let store = open(&place.url()).await;
    create_key(&store, "acme", "one").await;
    let mut raw = place.raw().await;
    // More than two batches, with gaps, and in the middle rows that hold what separates rows and columns.
    let many = "WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 900) \
         INSERT INTO keys (id, consumer_id, digest, hint, state, expires_at, scopes, created_at, updated_at) \
         SELECT printf('key_%020d', n), (SELECT id FROM consumers), CAST(printf('%032d', n) AS BLOB), 'h', 'active', \
         CASE n % 3 WHEN 0 THEN n END, CASE n % 4 WHEN 0 THEN '' WHEN 1 THEN 'read' END, 1, 1 FROM number; \
         DELETE FROM keys WHERE hint = 'h' AND created_at = 1 AND id BETWEEN 'key_00000000000000000100' AND 'key_00000000000000000199'; \
         UPDATE keys SET scopes = 'read' || char(30) || 'write' WHERE id = 'key_00000000000000000400'; \
         UPDATE keys SET scopes = 'read' || char(31) || 'write' WHERE id = 'key_00000000000000000401'";
    raw.execute(many).await.unwrap();
    let following = Following::new(&store).await;
    assert_eq!(following.table.len(), 1 + 900 - 100 - 2);
    for number in 1..=900_i64 {
        let digest: [u8; 32] = format!("{number:032}").into_bytes().try_into().unwrap();
        let found = following.table.lookup(&digest.into());
        let is_there = !(100..200).contains(&number) && number != 400 && number != 401;
        assert_eq!(found.is_some(), is_there, "{number}");
        if let Some(found) = found {
            assert_eq!(found.id().as_str(), format!("key_{number:020}"));
            assert_eq!(
                found.expires_at().map(|end| end.0),
                (number % 3 == 0).then_some(number)
            );
        }
    }
}

#[tokio::test]
async fn requests_go_on_while_the_database_fails_and_the_feed_recovers() {
    let place = Place::new();
    let store = open(&place.url()).await;
    create_key(&store, "acme", "one").await;
    let following = Following::new(&store).await;
    // A consumer and its key.
    let reached = 2;
    following
        .until("told so", |following| {
            following.status.revision() == reached
        })
        .await;
    let mut raw = place.raw().await;
    raw.execute("ALTER TABLE changes RENAME TO lost")
        .await
        .unwrap();
    let failing = |following: &Following| {
        following
            .status
            .age(std::time::Instant::now())
            .is_some_and(|age| age > std::time::Duration::from_millis(300))
    };
    following.until("stale", failing).await;
    assert_eq!(following.status_of("one"), Some(KeyStatus::Active));

    raw.execute("ALTER TABLE lost RENAME TO changes")
        .await
        .unwrap();
    create_key(&store, "acme", "two").await;
    following
        .until("followed again", |following| {
            following.find("two").is_some()
        })
        .await;
    // The table shows a change a moment before the status tells of it.
    following
        .until("told so", |following| {
            following.status.revision() == reached + 1
        })
        .await;
}
