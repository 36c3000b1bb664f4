//! The SQLite file: how it is made, and how each connection to it is set.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, ConnectOptions, Connection, Executor};
use tokio::time::{Instant, sleep};

use crate::store::StoreError;

/// Most connections of one process besides the change feed's. SQLite has one writer at a time anyway.
const MAX_CONNECTIONS: u32 = 4;
/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Set on every connection.
///
/// `synchronous = FULL` makes a commit wait for the disk: a key that was acknowledged is there after a crash and after
/// the power fails.
const SETTINGS: &str =
    "PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL;";

/// A database file that exists.
#[derive(Clone, Debug)]
pub(super) struct SqliteFile {
    location: Arc<str>,
    options: AnyConnectOptions,
}

impl SqliteFile {
    /// Makes the file, readable and writable for its owner only, and its directory, unless they exist.
    pub(super) fn create(path: &Path) -> Result<Self, StoreError> {
        let location = path.display().to_string();
        let absolute =
            create_file(path).map_err(|error| StoreError::cannot_open(&location, &error))?;
        let options = connect_options(&absolute)
            .map_err(|error| StoreError::from(error).while_opening(&location))?;
        Ok(Self {
            location: location.into(),
            options,
        })
    }

    /// Whether there is a file at `path` that holds a store, or that says itself why it cannot be opened.
    pub(super) async fn holds_store(path: &Path) -> bool {
        let found = async {
            let options = connect_options(&fs::canonicalize(path)?)?;
            let mut connection = options.connect().await?;
            connection.execute(SETTINGS).await?;
            let table = "SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'";
            let found: Result<i64, _> = sqlx::query_scalar(table).fetch_one(&mut connection).await;
            connection.close().await?;
            found
        };
        match found.await {
            Ok(tables) => tables > 0,
            Err(sqlx::Error::Io(error)) => error.kind() != ErrorKind::NotFound,
            Err(_) => true,
        }
    }

    /// The file, as it was configured.
    pub(super) fn location(&self) -> &str {
        &self.location
    }

    /// Opens the connections that all but the change feed use.
    pub(super) async fn pool(&self) -> Result<AnyPool, StoreError> {
        self.use_wal()
            .await
            .map_err(|error| error.while_opening(&self.location))?;
        let pool = AnyPoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(2 * BUSY_TIMEOUT)
            .test_before_acquire(false)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    connection.execute(SETTINGS).await?;
                    Ok(())
                })
            })
            .connect_lazy_with(self.options.clone());
        Ok(pool)
    }

    /// Opens a connection of its own.
    pub(super) async fn connect(&self) -> Result<AnyConnection, StoreError> {
        let mut connection = self.options.connect().await?;
        connection.execute(SETTINGS).await?;
        Ok(connection)
    }

    /// Has readers and the writer not wait for each other. The file remembers it.
    async fn use_wal(&self) -> Result<(), StoreError> {
        let mut connection = self.connect().await?;
        let deadline = Instant::now() + BUSY_TIMEOUT;
        // SQLite does not wait by itself here when another process is about to do the same.
        let outcome = loop {
            match sqlx::query_scalar::<_, String>("PRAGMA journal_mode = WAL")
                .fetch_one(&mut connection)
                .await
            {
                Err(error) => match StoreError::from(error) {
                    StoreError::Busy if Instant::now() < deadline => {
                        sleep(Duration::from_millis(10)).await
                    }
                    error => break Err(error),
                },
                Ok(mode) if mode == "wal" => break Ok(()),
                Ok(mode) => {
                    break Err(StoreError::Unwritable {
                        reason: format!(
                            "its file system does not support write-ahead logging (mode `{mode}`)"
                        ),
                    });
                }
            }
        };
        connection.close().await?;
        outcome
    }
}

fn create_file(path: &Path) -> io::Result<PathBuf> {
    if let Some(directory) = path
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty())
    {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
    }
    // Only ever a new file: closing a file that SQLite has open elsewhere in this process would drop its locks
    // (https://www.sqlite.org/howtocorrupt.html, section 2.2). The log beside it takes over its mode.
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    // Without dot segments, which would be resolved differently in a URL when a link is among them.
    let absolute = fs::canonicalize(path)?;
    if fs::metadata(&absolute)?.is_dir() {
        return Err(io::Error::new(ErrorKind::IsADirectory, "it is a directory"));
    }
    Ok(absolute)
}

fn connect_options(absolute: &Path) -> Result<AnyConnectOptions, sqlx::Error> {
    let mut url = String::from("sqlite://");
    for byte in absolute.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                url.push(char::from(*byte))
            }
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    // The gateway's log tells what happened to keys; it is no trace of statements.
    Ok(url
        .parse::<AnyConnectOptions>()?
        .disable_statement_logging())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_connection_waits_for_the_disk_and_for_other_writers() {
        sqlx::any::install_default_drivers();
        let directory = tempfile::tempdir().unwrap();
        let file = SqliteFile::create(&directory.path().join("gateway.db")).unwrap();
        let pool = file.pool().await.unwrap();
        let mut pooled = pool.acquire().await.unwrap();
        let mut own = file.connect().await.unwrap();
        for connection in [&mut *pooled, &mut own] {
            let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
                .fetch_one(&mut *connection)
                .await
                .unwrap();
            assert_eq!(mode, "wal");
            // 2 is FULL.
            for (setting, value) in [
                ("PRAGMA synchronous", 2_i64),
                ("PRAGMA foreign_keys", 1),
                ("PRAGMA busy_timeout", 5_000),
            ] {
                let set: i64 = sqlx::query_scalar(setting)
                    .fetch_one(&mut *connection)
                    .await
                    .unwrap();
                assert_eq!(set, value, "{setting}");
            }
        }
    }
}
