//! What is particular to a PostgreSQL server: that others use it at the same time, and that it can go away.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
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
#[path = "databases/postgres.rs"]
mod postgres;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use postern_gateway::keys::{KeyState, KeyStatus};
use postern_gateway::store::{Store, StoreError};
use sqlx::{Connection, Executor, PgConnection};

use feed::Following;
use making::{create_key, later, open, stamp};
use postgres::{Server, new_database};

#[tokio::test]
async fn several_gateways_may_make_the_schema_at_once() {
    let url = new_database().await;
    let opened = join_all((0..8).map(|_| async { open(&url.parse().unwrap()).await })).await;
    for (number, store) in opened.iter().enumerate() {
        create_key(store, "acme", &format!("key {number}")).await;
    }
    let mut raw = PgConnection::connect(&url).await.unwrap();
    let steps: i64 = sqlx::query_scalar("SELECT count(*) FROM _sqlx_migrations")
        .fetch_one(&mut raw)
        .await
        .unwrap();
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres"))
        .unwrap()
        .count();
    assert_eq!(usize::try_from(steps).unwrap(), files);
}

#[tokio::test]
async fn the_folders_of_both_databases_have_the_same_steps() {
    let names = |database: &str| {
        let folder = format!("{}/migrations/{database}", env!("CARGO_MANIFEST_DIR"));
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("sqlite"), names("postgres"));
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_trust_the_order_of_revisions_while_many_write() {
    const WRITERS: usize = 8;
    const KEYS_EACH: usize = 40;
    let url = new_database().await;
    let following = Following::new(&open(&url.parse().unwrap()).await).await;
    let writers = (0..WRITERS).map(|writer| {
        let url = url.clone();
        tokio::spawn(async move {
            let store = open(&url.parse().unwrap()).await;
            for number in 0..KEYS_EACH {
                let id = create_key(
                    &store,
                    &format!("consumer {}", number % 3),
                    &format!("{writer}-{number}"),
                )
                .await
                .key
                .id;
                if number % 2 == 0 {
                    store
                        .set_key_state(&id, KeyState::Revoked, &later(1))
                        .await
                        .unwrap();
                }
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    // Had a revision appeared after a later one that was already read, its key would be missing for ever.
    following
        .until("all there", |following| {
            following.table.len() == WRITERS * KEYS_EACH
        })
        .await;
    for (writer, number) in
        (0..WRITERS).flat_map(|writer| (0..KEYS_EACH).map(move |number| (writer, number)))
    {
        let status = if number % 2 == 0 {
            KeyStatus::Revoked
        } else {
            KeyStatus::Active
        };
        let text = format!("{writer}-{number}");
        following
            .until(&text, |following| {
                following.status_of(&text) == Some(status)
            })
            .await;
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_without_its_password() {
    let url = "postgres://user:hunter2@127.0.0.1:1/keys";
    let error = Store::open(&url.parse().unwrap()).await.unwrap_err();
    assert!(error.is_unreachable(), "{error:?}");
    for told in [error.to_string(), format!("{error:?}")] {
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[tokio::test]
async fn a_wrong_password_and_a_missing_database_are_no_outage() {
    let url = new_database().await;
    for wrong in [
        url.replace("hunter2-of", "not-the-password-of"),
        format!("{url}_that_is_not_there"),
    ] {
        let error = Store::open(&wrong.parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, StoreError::CannotOpen { .. }), "{error:?}");
        assert!(!error.to_string().contains("of-the-tests"), "{error}");
    }
}

#[tokio::test]
async fn the_audit_cannot_be_rewritten() {
    let url = new_database().await;
    let store = open(&url.parse().unwrap()).await;
    create_key(&store, "acme", "one").await;
    let mut raw = PgConnection::connect(&url).await.unwrap();
    for attack in [
        "UPDATE audit SET actor = 'nobody'",
        "DELETE FROM audit",
        "TRUNCATE audit",
    ] {
        let error = raw.execute(attack).await.unwrap_err().to_string();
        assert!(error.contains("never changed"), "{attack}: {error}");
    }
}

/// Takes the lock that writers take turns by.
async fn hold_the_turn(url: &str) -> PgConnection {
    let mut holder = PgConnection::connect(url).await.unwrap();
    holder
        .execute("SELECT pg_advisory_lock(8101818091236519425)")
        .await
        .unwrap();
    holder
}

/// Waits until no connection but the one that asks is within a transaction.
async fn nobody_is_in_a_transaction(raw: &mut PgConnection) {
    let within = "SELECT count(*) FROM pg_stat_activity \
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'";
    let by = Instant::now() + Duration::from_secs(60);
    while sqlx::query_scalar::<_, i64>(within)
        .fetch_one(&mut *raw)
        .await
        .unwrap()
        > 0
    {
        assert!(
            Instant::now() < by,
            "a connection is left within a transaction"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_writer_that_gets_no_turn_leaves_its_connection_clean() {
    let url = new_database().await;
    let store = open(&url.parse().unwrap()).await;
    let mut holder = hold_the_turn(&url).await;
    let refused = store
        .create_key(making::key(making::owner("acme"), "one"), &stamp())
        .await;
    assert!(
        matches!(&refused, Err(StoreError::Busy { holder: Some(holder) }) if holder.contains("session")),
        "{refused:?}"
    );
    nobody_is_in_a_transaction(&mut holder).await;
    holder.close().await.unwrap();
    // More often than there are connections: none is left in a failed transaction.
    for number in 0..20 {
        create_key(&store, "acme", &format!("key {number}")).await;
    }
}

#[tokio::test]
async fn connections_are_used_again() {
    let url = new_database().await;
    let store = open(&url.parse().unwrap()).await;
    let mut raw = PgConnection::connect(&url).await.unwrap();
    let mut pids = async || -> Vec<i32> {
        let others = "SELECT pid FROM pg_stat_activity \
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend' ORDER BY pid";
        sqlx::query_scalar(others)
            .fetch_all(&mut raw)
            .await
            .unwrap()
    };
    create_key(&store, "acme", "first").await;
    let before = pids().await;
    for number in 0..10 {
        create_key(&store, "acme", &format!("key {number}")).await;
        store.gateways().await.unwrap();
    }
    let after = pids().await;
    assert!(
        !before.is_empty() && before.iter().all(|pid| after.contains(pid)) && after.len() <= 8,
        "{before:?}, {after:?}"
    );
}

#[tokio::test]
async fn a_writer_that_is_dropped_while_it_waits_holds_no_turn() {
    let url = new_database().await;
    let store = open(&url.parse().unwrap()).await;
    let mut holder = hold_the_turn(&url).await;
    for _ in 0..3 {
        let stamp = stamp();
        let waits = store.create_key(making::key(making::owner("acme"), "one"), &stamp);
        assert!(
            tokio::time::timeout(Duration::from_millis(300), waits)
                .await
                .is_err()
        );
    }
    holder
        .execute("SELECT pg_advisory_unlock_all()")
        .await
        .unwrap();
    nobody_is_in_a_transaction(&mut holder).await;
    create_key(&store, "acme", "one").await;
    assert_eq!(store.newest_revision().await.unwrap(), 2);
}

#[tokio::test]
async fn a_lost_connection_loses_no_change() {
    let url = new_database().await;
    let store = open(&url.parse().unwrap()).await;
    let following = Following::new(&store).await;
    let id = create_key(&store, "acme", "one").await.key.id;
    following
        .until("created", |following| following.find("one").is_some())
        .await;

    let mut raw = PgConnection::connect(&url).await.unwrap();
    raw.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()",
    )
    .await
    .unwrap();
    let other = open(&url.parse().unwrap()).await;
    other
        .set_key_state(&id, KeyState::Revoked, &stamp())
        .await
        .unwrap();
    following
        .until("revoked", |following| {
            following.status_of("one") == Some(KeyStatus::Revoked)
        })
        .await;
}

#[tokio::test]
async fn the_table_outlives_the_server_and_follows_it_again() {
    let mut server = tokio::task::spawn_blocking(Server::start).await.unwrap();
    let url = server.database().await;
    let store = open(&url.parse().unwrap()).await;
    let id = create_key(&store, "acme", "one").await.key.id;
    let following = Following::new(&store).await;

    server.stop();
    let is_stale = |following: &Following| {
        following
            .status
            .age(Instant::now())
            .is_some_and(|age| age > Duration::from_secs(2))
    };
    following.until("stale", is_stale).await;
    assert_eq!(following.status_of("one"), Some(KeyStatus::Active));
    let error = store
        .set_key_state(&id, KeyState::Revoked, &stamp())
        .await
        .unwrap_err();
    assert!(error.is_unreachable(), "{error:?}");

    let server = tokio::task::spawn_blocking(move || {
        server.resume();
        server
    })
    .await
    .unwrap();
    store
        .set_key_state(&id, KeyState::Revoked, &stamp())
        .await
        .unwrap();
    following
        .until("revoked", |following| {
            following.status_of("one") == Some(KeyStatus::Revoked)
        })
        .await;
    drop(server);
}
