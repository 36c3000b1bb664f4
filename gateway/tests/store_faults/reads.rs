//! Crowds of readers, who must not keep writers waiting.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use postern_gateway::keys::{KeyState, Tags};
use postern_gateway::store::{DatabaseUrl, Fault, KeyFilter};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};

use crate::feed::Following;
use crate::making::{create_key, later, open};
use crate::postgres::new_database;

const KEYS: usize = 20_000;

/// While 24 clients list by a tag that nobody has, and by one that many have, keys are revoked at once.
async fn revocations_do_not_wait(url: &DatabaseUrl) {
    let store = open(url).await;
    let following = Following::new(&store).await;
    let until = Instant::now() + Duration::from_secs(6);
    let readers = (0..24).map(|number| {
        let store = store.clone();
        tokio::spawn(async move {
            let tag = if number % 2 == 0 {
                "org=nobody"
            } else {
                "org=many"
            };
            let filter = KeyFilter {
                tags: Tags::new([tag.parse().unwrap()]).unwrap(),
                ..KeyFilter::default()
            };
            let (mut read, mut refused) = (0, 0);
            while Instant::now() < until {
                match store.list_keys(&filter, None, 1_000).await {
                    Ok(_) => read += 1,
                    Err(error) => {
                        assert_eq!(error.fault(), Some(Fault::TooManyReads), "{error}");
                        refused += 1;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
            (read, refused)
        })
    });
    let readers = tokio::spawn(join_all(readers));
    let mut longest = Duration::ZERO;
    let mut revoked = 0;
    while Instant::now() < until {
        let begun = Instant::now();
        let text = format!("revoked {revoked}");
        let id = create_key(&store, "acme", &text).await.key.id;
        store
            .set_key_state(&id, KeyState::Revoked, &later(1))
            .await
            .unwrap();
        store.gateways().await.unwrap();
        longest = longest.max(begun.elapsed());
        revoked += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(longest < Duration::from_secs(4), "{longest:?}");
    let (mut read, mut refused) = (0, 0);
    for reader in readers.await.unwrap() {
        let (some, others) = reader.unwrap();
        read += some;
        refused += others;
    }
    assert!(read > 0 && refused > 0, "{read} {refused}");
    following
        .until("followed", |following| {
            following.status.age(Instant::now()).unwrap() < Duration::from_secs(2)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_greedy_reader_of_sqlite_stops_no_revocation() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gateway.db");
    let url: DatabaseUrl = format!("sqlite://{}", file.display()).parse().unwrap();
    open(&url).await.close().await;
    let mut raw = SqliteConnection::connect(file.to_str().unwrap())
        .await
        .unwrap();
    let many = format!(
        "BEGIN; INSERT INTO consumers (id, bucket, name, tags, scopes, created_at, updated_at) \
         VALUES ('csmr_00000000000000000001', 'default', 'many', '{{\"org\":\"many\"}}', '', 1, 1); \
         WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {KEYS}) \
         INSERT INTO keys (id, consumer_id, digest, hint, state, created_at, updated_at) \
         SELECT printf('key_%020d', n), 'csmr_00000000000000000001', CAST(printf('%032d', n) AS BLOB), 'h', 'active', n, n FROM number; \
         COMMIT"
    );
    raw.execute(AssertSqlSafe(many)).await.unwrap();
    raw.close().await.unwrap();
    revocations_do_not_wait(&url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_greedy_reader_of_postgres_stops_no_revocation() {
    let url = new_database().await;
    open(&url.parse().unwrap()).await.close().await;
    let mut raw = PgConnection::connect(&url).await.unwrap();
    let many = format!(
        "BEGIN; INSERT INTO consumers (id, bucket, name, tags, scopes, created_at, updated_at) \
         VALUES ('csmr_00000000000000000001', 'default', 'many', '{{\"org\":\"many\"}}', '', 1, 1); \
         INSERT INTO keys (id, consumer_id, digest, hint, state, created_at, updated_at) \
         SELECT 'key_' || lpad(CAST(n AS TEXT), 20, '0'), 'csmr_00000000000000000001', \
         convert_to(lpad(CAST(n AS TEXT), 32, '0'), 'UTF8'), 'h', 'active', n, n FROM generate_series(1, {KEYS}) n; \
         COMMIT"
    );
    raw.execute(AssertSqlSafe(many)).await.unwrap();
    revocations_do_not_wait(&url.parse().unwrap()).await;
}
