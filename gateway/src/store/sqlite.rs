//! The SQLite file: creating it, and the settings of each connection.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, ConnectOptions, Connection, Executor, Row};
use tokio::time::{Instant, sleep};

use crate::store::StoreError;
use crate::store::fault::Fault;

/// Lock timeout of a statement.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Settings of every connection.
///
/// `synchronous = FULL` makes a commit wait for the disk: an acknowledged key survives a crash and
/// a power failure.
const SETTINGS: &str =
    "PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL;";

/// Positive if the file holds a store.
const TABLES_OF_A_STORE: &str =
    "SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'";

/// An existing database file. Clones share the identity of the open file.
#[derive(Clone, Debug)]
pub(super) struct SqliteFile {
    location: Arc<str>,
    path: Arc<Path>,
    opened: Arc<ArcSwap<Opened>>,
}

/// Identity of the open file.
#[derive(Debug)]
struct Opened {
    options: AnyConnectOptions,
    id: FileId,
    /// Number of files opened before.
    generation: u64,
    /// Whether its connections were closed. Then it counts as replaced until reopened, even if
    /// unchanged.
    left: AtomicBool,
}

/// Device and inode of a file, independent of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId(u64, u64);

impl SqliteFile {
    /// Creates the file, with access for its owner only, and its directory, unless they exist.
    pub(super) fn create(path: &Path) -> Result<Self, StoreError> {
        let location = path.display().to_string();
        let failed = |error: io::Error| StoreError::cannot_open(&location, &error);
        let absolute = create_file(path).map_err(failed)?;
        let opened = Opened {
            options: connect_options(&absolute)
                .map_err(|error| StoreError::from(error).while_opening(&location))?,
            id: FileId::of(path).map_err(failed)?,
            generation: 0,
            left: AtomicBool::new(false),
        };
        Ok(Self {
            location: location.into(),
            path: path.into(),
            opened: Arc::new(ArcSwap::from_pointee(opened)),
        })
    }

    /// Returns whether the file at `path` holds a store or fails to open with an error of its own.
    pub(super) async fn holds_store(path: &Path) -> bool {
        let found = async {
            let options = connect_options(&fs::canonicalize(path)?)?;
            let mut connection = options.connect().await?;
            connection.execute(SETTINGS).await?;
            let found: Result<i64, _> = sqlx::query_scalar(TABLES_OF_A_STORE)
                .fetch_one(&mut connection)
                .await;
            connection.close().await?;
            found
        };
        match found.await {
            Ok(tables) => tables > 0,
            Err(sqlx::Error::Io(error)) => error.kind() != ErrorKind::NotFound,
            Err(_) => true,
        }
    }

    /// Returns the path as configured.
    pub(super) fn location(&self) -> &str {
        &self.location
    }

    /// Verifies that the path still leads to the open file. Costs one `stat`.
    pub(super) fn in_place(&self) -> Result<(), StoreError> {
        let opened = self.opened.load();
        let said = match FileId::of(&self.path) {
            Ok(found) if found == opened.id && !opened.left.load(Ordering::Acquire) => {
                return Ok(());
            }
            Ok(found) if found == opened.id => "it was missing, and is reopened".to_owned(),
            Ok(_) => "another file replaced it".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(self.replaced(&said))
    }

    /// Marks the file as replaced, before its connections are closed; returns whether it was
    /// unmarked before.
    pub(super) fn leave(&self) -> bool {
        !self.opened.load().left.swap(true, Ordering::AcqRel)
    }

    /// Returns how many times the file was replaced.
    pub(super) fn generation(&self) -> u64 {
        self.opened.load().generation
    }

    /// Switches to the file now at the path. Connections to the previous one must be closed.
    pub(super) async fn turn_to_the_new_one(&self) -> Result<(), StoreError> {
        // Never creates a file: an empty store in place of a missing one would drop every key.
        let gone = |error: io::Error| self.replaced(&error.to_string());
        let absolute = fs::canonicalize(&self.path).map_err(gone)?;
        let opened = Opened {
            id: FileId::of(&self.path).map_err(gone)?,
            options: connect_options(&absolute)?,
            generation: self.generation() + 1,
            left: AtomicBool::new(false),
        };
        let mut connection = opened.options.connect().await?;
        let found: Result<i64, _> = sqlx::query_scalar(TABLES_OF_A_STORE)
            .fetch_one(&mut connection)
            .await;
        connection.close().await?;
        if found? == 0 {
            return Err(self.replaced("the file now at the path holds no store"));
        }
        self.opened.store(Arc::new(opened));
        Ok(())
    }

    /// Checkpoints and truncates the log. Readers and writers may prevent it.
    pub(super) async fn empty_the_log(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
        // The first column is set if the checkpoint was blocked.
        let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(connection)
            .await?;
        Ok(row.try_get::<i64, _>(0)? == 0)
    }

    /// Renames the log of an abandoned file, which SQLite would otherwise apply to its replacement.
    pub(super) fn set_the_log_aside(&self) -> io::Result<()> {
        let beside = |end: &str| {
            let mut name = self.path.as_os_str().to_owned();
            name.push(end);
            PathBuf::from(name)
        };
        let log = beside("-wal");
        match fs::metadata(&log) {
            Ok(found) if found.len() > 0 => fs::rename(&log, beside("-wal.of-the-replaced-file")),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Returns the size of the log in bytes.
    pub(super) fn log_bytes(&self) -> u64 {
        let mut name = self.path.as_os_str().to_owned();
        name.push("-wal");
        fs::metadata(name).map_or(0, |found| found.len())
    }

    fn replaced(&self, said: &str) -> StoreError {
        StoreError::Failed {
            fault: Fault::FileReplaced,
            reason: format!("{}: {said}", self.location),
        }
    }

    /// Builds a pool of at most `most` connections.
    pub(super) async fn pool(&self, most: u32) -> Result<AnyPool, StoreError> {
        self.use_wal()
            .await
            .map_err(|error| error.while_opening(&self.location))?;
        let pool = AnyPoolOptions::new()
            .max_connections(most)
            .acquire_timeout(2 * BUSY_TIMEOUT)
            .test_before_acquire(false)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    connection.execute(SETTINGS).await?;
                    Ok(())
                })
            })
            .connect_lazy_with(self.opened.load().options.clone());
        Ok(pool)
    }

    /// Opens a connection outside the pools.
    pub(super) async fn connect(&self) -> Result<AnyConnection, StoreError> {
        let options = self.opened.load().options.clone();
        let mut connection = options.connect().await?;
        connection.execute(SETTINGS).await?;
        Ok(connection)
    }

    /// Enables WAL, so that readers and the writer do not block each other. The file stores the
    /// setting.
    async fn use_wal(&self) -> Result<(), StoreError> {
        let mut connection = self.connect().await?;
        let deadline = Instant::now() + BUSY_TIMEOUT;
        // SQLite does not wait here by itself while another process makes the same change.
        let outcome = loop {
            match sqlx::query_scalar::<_, String>("PRAGMA journal_mode = WAL")
                .fetch_one(&mut connection)
                .await
            {
                Err(error) => match StoreError::from(error) {
                    StoreError::Busy { .. } if Instant::now() < deadline => {
                        sleep(Duration::from_millis(10)).await
                    }
                    error => break Err(error),
                },
                Ok(mode) if mode == "wal" => break Ok(()),
                Ok(mode) => {
                    break Err(StoreError::Unwritable {
                        fault: Fault::Unwritable,
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

    /// Describes the current writer, for a message: `; process 4711 (gateway, stopped) holds it`.
    pub(super) fn holder(&self) -> Option<String> {
        // The lock byte of writers in the shared memory (https://www.sqlite.org/walformat.html,
        // section 2.3). Read from the kernel's list: opening and closing the file would drop this
        // process's own locks.
        let mut name = self.path.as_os_str().to_owned();
        name.push("-shm");
        let inode = fs::metadata(name).ok()?.ino();
        let locks = fs::read_to_string("/proc/locks").ok()?;
        let pid = locks.lines().find_map(|line| writer_in(line, inode))?;
        let said_of = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        let name = said_of("comm").map_or_else(String::new, |name| name.trim().to_owned());
        let stopped = said_of("stat")
            .and_then(|stat| Some(stat.rsplit_once(") ")?.1.starts_with(['T', 't'])))
            .unwrap_or(false);
        let state = if stopped { ", stopped" } else { "" };
        Some(format!("; process {pid} ({name}{state}) holds it"))
    }
}

/// Returns the process that holds the writers' lock byte according to a line of `/proc/locks`: `1:
/// POSIX ADVISORY  WRITE 4711 08:01:1234 120 120`.
fn writer_in(line: &str, inode: u64) -> Option<u32> {
    const WRITE_LOCK: u64 = 120;
    let mut words = line.split_whitespace().skip(3);
    let (kind, pid, file) = (words.next()?, words.next()?, words.next()?);
    let (first, last) = (words.next()?.parse().ok()?, words.next()?);
    let last = last.parse().unwrap_or(u64::MAX);
    let found: u64 = file.rsplit(':').next()?.parse().ok()?;
    let holds = kind == "WRITE" && found == inode && (first..=last).contains(&WRITE_LOCK);
    holds.then(|| pid.parse().ok()).flatten()
}

impl FileId {
    fn of(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        Ok(Self(found.dev(), found.ino()))
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
    // Only for a new file: closing a file that SQLite has open elsewhere in this process would drop
    // its locks (https://www.sqlite.org/howtocorrupt.html, section 2.2). The log inherits its mode.
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
    // Without dot segments, which a URL resolves differently if one of them is a symbolic link.
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
    // The gateway's log records changes of keys; it is not a trace of statements.
    Ok(url
        .parse::<AnyConnectOptions>()?
        .disable_statement_logging())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_writer_is_found_among_the_locks_of_the_kernel() {
        for (line, pid) in [
            (
                "1: POSIX  ADVISORY  WRITE 4711 08:01:1234 120 120",
                Some(4711),
            ),
            ("2: POSIX  ADVISORY  READ 4711 08:01:1234 120 120", None),
            ("3: POSIX  ADVISORY  WRITE 4711 08:01:1234 124 124", None),
            ("4: POSIX  ADVISORY  WRITE 4711 08:01:99 120 120", None),
            (
                "5: POSIX  ADVISORY  WRITE 4712 00:2f:1234 0 EOF",
                Some(4712),
            ),
            ("5: -> POSIX  ADVISORY  WRITE 4712 00:2f:1234 0 EOF", None),
            ("", None),
        ] {
            assert_eq!(writer_in(line, 1234), pid, "{line}");
        }
    }

    #[tokio::test]
    async fn every_connection_waits_for_the_disk_and_for_other_writers() {
        sqlx::any::install_default_drivers();
        let directory = tempfile::tempdir().unwrap();
        let file = SqliteFile::create(&directory.path().join("gateway.db")).unwrap();
        let pool = file.pool(4).await.unwrap();
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
