//! A writer in a process of its own, killed in the middle.
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

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use postern_gateway::keys::KeyId;
use sqlx::{Connection, SqliteConnection};

use feed::Following;
use making::{create_key, open};

/// Set for the process that writes; the value is the database's URL.
const WRITER: &str = "POSTERN_TEST_WRITER";
const THIS_TEST: &str = "what_was_acknowledged_before_kill_9_is_there_and_whole";

#[tokio::test]
async fn what_was_acknowledged_before_kill_9_is_there_and_whole() {
    if let Ok(url) = env::var(WRITER) {
        return write_until_killed(&url).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gateway.db");
    let url = format!("sqlite://{}", file.display());
    let store = open(&url.parse().unwrap()).await;
    let following = Following::new(&store).await;
    let mut acknowledged = Vec::new();
    for round in 1..=5 {
        acknowledged.extend(ids_of_a_killed_writer(&url, round * 7));
    }
    assert!(acknowledged.len() >= 7 + 14 + 21 + 28 + 35);
    for id in &acknowledged {
        assert!(store.key(id).await.unwrap().is_some(), "{id} was lost");
    }
    let mut raw = SqliteConnection::connect(file.to_str().unwrap())
        .await
        .unwrap();
    let keys: i64 = sqlx::query_scalar("SELECT count(*) FROM keys")
        .fetch_one(&mut raw)
        .await
        .unwrap();
    for companion in [
        "SELECT count(*) FROM keys k JOIN audit a ON a.subject_id = k.id AND a.action = 'key.create'",
        "SELECT count(*) FROM keys k JOIN changes ch ON ch.subject_id = k.id",
        "SELECT count(*) FROM audit WHERE action = 'key.create'",
        "SELECT count(*) FROM changes WHERE subject = 'key'",
    ] {
        let count: i64 = sqlx::query_scalar(companion)
            .fetch_one(&mut raw)
            .await
            .unwrap();
        assert_eq!(count, keys, "{companion}");
    }
    let all = usize::try_from(keys).unwrap();
    following
        .until("followed", |following| following.table.len() == all)
        .await;
}

/// Lets a process write, kills it once it has acknowledged `enough` keys, and returns the ids of all that it has.
fn ids_of_a_killed_writer(url: &str, enough: usize) -> Vec<KeyId> {
    let mut writer = Command::new(env::current_exe().unwrap())
        .args(["--exact", THIS_TEST, "--nocapture"])
        .env(WRITER, url)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ids = Vec::new();
    for line in BufReader::new(writer.stdout.take().unwrap()).lines() {
        // The test harness has a few lines of its own.
        let line = line.unwrap();
        ids.extend(
            line.split_whitespace()
                .last()
                .and_then(|word| word.parse::<KeyId>().ok()),
        );
        if ids.len() == enough {
            writer.kill().unwrap();
        }
    }
    writer.wait().unwrap();
    ids
}

async fn write_until_killed(url: &str) {
    let store = open(&url.parse().unwrap()).await;
    for number in 0_u64.. {
        let key = create_key(&store, "acme", &format!("{} {number}", std::process::id()))
            .await
            .key;
        println!("{}", key.id);
    }
}
