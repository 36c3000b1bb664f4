//! What can happen to an SQLite file while a gateway has it open.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use postern_gateway::keys::{KeyState, KeyStatus};
use postern_gateway::store::{Fault, Store};
use sqlx::{Connection, Executor, SqliteConnection};
use tempfile::TempDir;

use crate::feed::Following;
use crate::making::{create_key, key, later, open, owner, stamp};

/// A gateway's table and the store that it follows.
struct Gateway {
    directory: TempDir,
    file: PathBuf,
    store: Store,
    following: Following,
}

impl Gateway {
    /// With the key `one`.
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("data/gateway.db");
        let store = open(&url(&file)).await;
        create_key(&store, "acme", "one").await;
        let following = Following::new(&store).await;
        Self {
            directory,
            file,
            store,
            following,
        }
    }

    /// A copy as it is now, as `.backup` makes one.
    async fn back_up(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        let mut raw = raw(&self.file).await;
        let copy = format!("VACUUM INTO '{}'", path.display());
        raw.execute(sqlx::AssertSqlSafe(copy)).await.unwrap();
        raw.close().await.unwrap();
        path
    }

    /// Waits until it is said that the store fails, and of what; requests go on meanwhile, and nothing is written.
    async fn fails_of(&self, fault: Fault) {
        self.following
            .until(fault.row().word, |following| {
                following.status.fault() == Some(fault)
            })
            .await;
        let age = |following: &Following| following.status.age(Instant::now()).unwrap();
        self.following
            .until("older", |following| {
                age(following) > Duration::from_millis(400)
            })
            .await;
        assert!(self.following.find("one").is_some());
        let refused = self
            .store
            .create_key(key(owner("acme"), "refused"), &stamp())
            .await;
        assert_eq!(
            refused.unwrap_err().fault(),
            Some(Fault::FileReplaced),
            "{fault:?}"
        );
    }

    /// Waits until the store is followed again, and writes to the file that is at the path.
    async fn goes_on(&self) {
        self.following
            .until("followed", |following| {
                following.status.fault().is_none()
                    && following.status.age(Instant::now()).unwrap() < Duration::from_millis(400)
            })
            .await;
        let written = format!("written {}", self.following.table.len());
        create_key(&self.store, "acme", &written).await;
        self.following
            .until(&written, |following| following.find(&written).is_some())
            .await;
        let mut raw = raw(&self.file).await;
        let there: i64 = sqlx::query_scalar("SELECT count(*) FROM keys")
            .fetch_one(&mut raw)
            .await
            .unwrap();
        assert_eq!(usize::try_from(there).unwrap(), self.following.table.len());
        let sound: String = sqlx::query_scalar("PRAGMA integrity_check")
            .fetch_one(&mut raw)
            .await
            .unwrap();
        assert_eq!(sound, "ok");
    }
}

fn url(file: &std::path::Path) -> postern_gateway::store::DatabaseUrl {
    format!("sqlite://{}", file.display()).parse().unwrap()
}

async fn raw(file: &std::path::Path) -> SqliteConnection {
    SqliteConnection::connect(file.to_str().unwrap())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_backup_that_is_moved_over_the_file_is_followed() {
    let gateway = Gateway::new().await;
    let id = create_key(&gateway.store, "acme", "two").await.key.id;
    let backup = gateway.back_up("backup.db").await;
    // Since the backup: in the log of the file that goes, and not in the one that comes.
    for number in 0..300 {
        create_key(&gateway.store, "later", &format!("late {number}")).await;
    }
    gateway
        .store
        .set_key_state(&id, KeyState::Revoked, &later(1))
        .await
        .unwrap();
    gateway
        .following
        .until("revoked", |following| {
            following.status_of("two") == Some(KeyStatus::Revoked)
        })
        .await;
    fs::rename(&backup, &gateway.file).unwrap();
    gateway
        .following
        .until("as the backup", |following| {
            following.find("late 0").is_none()
                && following.status_of("two") == Some(KeyStatus::Active)
        })
        .await;
    gateway.goes_on().await;
    // The command line, too, works on the file that counts.
    let other = open(&url(&gateway.file)).await;
    other
        .set_key_state(&id, KeyState::Revoked, &later(2))
        .await
        .unwrap();
    gateway
        .following
        .until("revoked by another process", |following| {
            following.status_of("two") == Some(KeyStatus::Revoked)
        })
        .await;
}

#[tokio::test]
async fn a_file_that_is_moved_away_is_waited_for_and_none_is_made_in_its_place() {
    let gateway = Gateway::new().await;
    let aside = gateway.directory.path().join("aside.db");
    create_key(&gateway.store, "acme", "in the log").await;
    gateway
        .following
        .until("created", |following| {
            following.find("in the log").is_some()
        })
        .await;
    fs::rename(&gateway.file, &aside).unwrap();
    gateway.fails_of(Fault::FileReplaced).await;
    assert!(!gateway.file.exists());
    fs::rename(&aside, &gateway.file).unwrap();
    gateway.goes_on().await;
    // What was in the log went into the file.
    assert!(gateway.following.find("in the log").is_some());
}

#[tokio::test]
async fn a_file_that_is_deleted_is_waited_for() {
    let gateway = Gateway::new().await;
    let backup = gateway.back_up("backup.db").await;
    fs::remove_file(&gateway.file).unwrap();
    gateway.fails_of(Fault::FileReplaced).await;
    assert!(!gateway.file.exists());
    fs::rename(&backup, &gateway.file).unwrap();
    gateway.goes_on().await;
}

#[tokio::test]
async fn a_directory_that_is_gone_is_waited_for() {
    let gateway = Gateway::new().await;
    let data = gateway.file.parent().unwrap();
    let aside = gateway.directory.path().join("aside");
    fs::rename(data, &aside).unwrap();
    gateway.fails_of(Fault::FileReplaced).await;
    assert!(!data.exists());
    fs::rename(&aside, data).unwrap();
    gateway.goes_on().await;
}

#[tokio::test]
async fn what_is_no_store_is_not_followed() {
    let gateway = Gateway::new().await;
    let backup = gateway.back_up("backup.db").await;
    let empty = gateway.directory.path().join("empty.db");
    fs::write(&empty, "").unwrap();
    fs::rename(&empty, &gateway.file).unwrap();
    gateway.fails_of(Fault::FileReplaced).await;
    assert_eq!(fs::metadata(&gateway.file).unwrap().len(), 0);

    let text = gateway.directory.path().join("notes.txt");
    fs::write(&text, "these are my notes, no database\n".repeat(200)).unwrap();
    fs::rename(&text, &gateway.file).unwrap();
    gateway.fails_of(Fault::Damaged).await;
    fs::rename(&backup, &gateway.file).unwrap();
    gateway.goes_on().await;
}

#[tokio::test]
async fn the_store_of_another_gateway_is_followed() {
    let gateway = Gateway::new().await;
    let other = gateway.directory.path().join("other.db");
    let store = open(&url(&other)).await;
    for number in 0..5 {
        create_key(&store, "other", &format!("other {number}")).await;
    }
    store.close().await;
    fs::rename(&other, &gateway.file).unwrap();
    gateway
        .following
        .until("of the other", |following| {
            following.find("other 4").is_some() && following.find("one").is_none()
        })
        .await;
    gateway.goes_on().await;
}

/// Set for the process that holds the lock; the value is the path of the file.
const HOLDER: &str = "POSTERN_TEST_HOLDER";
const THIS_TEST: &str =
    "store_faults::file::a_process_that_is_stopped_in_the_middle_of_a_write_is_named";

#[tokio::test]
async fn a_process_that_is_stopped_in_the_middle_of_a_write_is_named() {
    if let Ok(file) = std::env::var(HOLDER) {
        let mut raw = raw(file.as_ref()).await;
        raw.execute("BEGIN IMMEDIATE; UPDATE buckets SET leak_policy = 'revoke'")
            .await
            .unwrap();
        println!("holding");
        std::future::pending::<()>().await;
    }
    let gateway = Gateway::new().await;
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", THIS_TEST, "--nocapture"])
        .env(HOLDER, &gateway.file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(holder.stdout.take().unwrap());
    let held = std::io::BufRead::lines(lines).any(|line| line.unwrap().contains("holding"));
    assert!(held);
    let pid = holder.id().to_string();
    let signal = |name: &str| {
        let sent = Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(sent.success());
    };
    signal("-STOP");
    let begun = Instant::now();
    let error = gateway
        .store
        .create_key(key(owner("acme"), "two"), &stamp())
        .await
        .unwrap_err();
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
    let said = error.to_string();
    assert_eq!(error.fault(), Some(Fault::Busy), "{said}");
    assert!(
        said.contains(&format!("process {pid} ")) && said.contains("stopped"),
        "{said}"
    );
    // Nobody reads less for it.
    gateway
        .following
        .until("followed", |following| {
            following.status.age(Instant::now()).unwrap() < Duration::from_secs(1)
        })
        .await;
    holder.kill().unwrap();
    holder.wait().unwrap();
    create_key(&gateway.store, "acme", "two").await;
}
