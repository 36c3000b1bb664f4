//! The snapshot: the key table in a file, for a start while the database is away.
//!
//! Contains what the table contains (digests, ids, names, scopes) and no key. Written to a
//! temporary file readable by its owner only, then renamed. Accepted only with a valid checksum
//! (HMAC with the shared secret), from this very database, and not from the future.

mod format;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use format::rewrite;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use ring::hmac;
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::keys::{KeyTable, Plan, UnixMillis};
use crate::store::snapshot::format::{
    Entry, Header, read_entry, read_header, write_entry, write_header,
};

/// Size of the checksum at the end.
const CHECKSUM_BYTES: usize = 32;

/// HMAC-SHA-256 key of the checksum, so that write access to the directory is not enough to forge a
/// snapshot.
#[derive(Clone)]
pub struct SnapshotKey(hmac::Key);

impl SnapshotKey {
    /// Derives the key from a shared secret.
    #[must_use]
    pub fn of(shared_secret: &[u8]) -> Self {
        // A derived key, so that no checksum reveals anything about the secret's other uses.
        let secret = hmac::Key::new(hmac::HMAC_SHA256, shared_secret);
        let derived = hmac::sign(&secret, b"postern snapshot 2");
        Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }
}

impl fmt::Debug for SnapshotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SnapshotKey([redacted])")
    }
}

/// Origin of a table: store and revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Unique identity of the database.
    pub store: String,
    /// Location of the database, without credentials.
    pub location: String,
    /// Newest change in the table.
    pub revision: i64,
    /// Fingerprint of the store's history at that change.
    pub mark: String,
}

/// A table restored from a file.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Origin of the snapshot.
    pub origin: Origin,
    /// Time since the table was last known to be current, by the system clock.
    pub age: Duration,
    /// Number of keys.
    pub keys: usize,
}

/// Reason why a snapshot is not used.
#[derive(Debug, Error)]
pub enum UnusableSnapshot {
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// Truncated, modified, or not a snapshot.
    #[error(
        "the file is damaged, or was not written by a gateway of this version with this shared secret"
    )]
    Damaged,
    /// Later than the system clock, so the age is unknown.
    #[error("the file is dated {} in the future, so its age is unknown", humantime::format_duration(Duration::from_millis(*millis)))]
    FromTheFuture {
        /// Difference.
        millis: u64,
    },
    /// From another database.
    #[error("the file belongs to the database {found}, not to {wanted}")]
    OtherDatabase {
        /// Location in the file.
        found: String,
        /// Configured location.
        wanted: String,
    },
}

/// Writes the table, last known to be current at `known_at`, to `path`. Requests and changes
/// continue meanwhile: a concurrent change may or may not be in the file, and is applied again when
/// the feed resumes at `origin.revision`.
///
/// # Errors
/// The message of the system. The previous file is kept.
pub fn save(
    path: &Path,
    key: &SnapshotKey,
    table: &KeyTable,
    origin: &Origin,
    known_at: UnixMillis,
) -> io::Result<()> {
    let beside = path.with_extension("new");
    let written =
        write(&beside, key, table, origin, known_at).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written?;
    // Syncs the directory, so the rename is durable too.
    let directory = path
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// Fills an empty `table` from `path`; `None` if the file is missing.
///
/// # Errors
/// The reason why the snapshot is not used; the table stays unloaded.
pub fn restore(
    path: &Path,
    key: &SnapshotKey,
    table: &KeyTable,
    location: &str,
    now: UnixMillis,
) -> Result<Option<Restored>, UnusableSnapshot> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let length = usize::try_from(file.metadata()?.len())
        .ok()
        .and_then(|bytes| bytes.checked_sub(CHECKSUM_BYTES));
    let length = length.ok_or(UnusableSnapshot::Damaged)?;
    // Verifies the checksum before any content is used.
    if !checksum_is_right(&file, length, key)? {
        return Err(UnusableSnapshot::Damaged);
    }
    file.seek(SeekFrom::Start(0))?;
    let mut content = BufReader::with_capacity(1 << 16, file).take(length as u64);
    let header = read_header(&mut content)?.ok_or(UnusableSnapshot::Damaged)?;
    if header.origin.location != location {
        return Err(UnusableSnapshot::OtherDatabase {
            found: header.origin.location,
            wanted: location.to_owned(),
        });
    }
    let age = u64::try_from(now.0.saturating_sub(header.known_at.0)).map_err(|_| {
        UnusableSnapshot::FromTheFuture {
            millis: header.known_at.0.abs_diff(now.0),
        }
    })?;
    let mut reload = table.reload();
    let mut keys = 0;
    while let Some(entry) = read_entry(&mut content)? {
        match entry {
            Entry::Plan(plan) => reload.plan(plan),
            Entry::Consumer(consumer) => reload.consumer(consumer),
            // Written between its consumer and itself: refused until the feed delivers it.
            Entry::Key(key) => keys += usize::from(reload.key(key).is_ok()),
        }
    }
    reload.finish();
    Ok(Some(Restored {
        origin: header.origin,
        age: Duration::from_millis(age),
        keys,
    }))
}

fn write(
    path: &Path,
    key: &SnapshotKey,
    table: &KeyTable,
    origin: &Origin,
    known_at: UnixMillis,
) -> io::Result<()> {
    // Never reuses a file left by a crash: another process may have it open, or others may read it.
    let _ = fs::remove_file(path);
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let mut out = Summed {
        inner: BufWriter::with_capacity(1 << 16, file),
        sum: hmac::Context::with_key(&key.0),
    };
    write_header(
        &mut out,
        &Header {
            origin: origin.clone(),
            known_at,
        },
    )?;
    for plan in table.plans() {
        write_entry(&mut out, &Entry::Plan(Plan::clone(&plan)))?;
    }
    table.each_consumer(|consumer| write_entry(&mut out, &Entry::Consumer(consumer)))?;
    table.each_key(|key| write_entry(&mut out, &Entry::Key(key)))?;
    let Summed { mut inner, sum } = out;
    inner.write_all(sum.sign().as_ref())?;
    inner
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()
}

fn checksum_is_right(mut file: &File, length: usize, key: &SnapshotKey) -> io::Result<bool> {
    let mut sum = hmac::Context::with_key(&key.0);
    let mut buffer = vec![0; 1 << 16];
    let mut left = length;
    while left > 0 {
        let most = left.min(buffer.len());
        let read = file.read(&mut buffer[..most])?;
        if read == 0 {
            return Ok(false);
        }
        sum.update(&buffer[..read]);
        left -= read;
    }
    let mut written = [0; CHECKSUM_BYTES];
    file.read_exact(&mut written)?;
    Ok(sum.sign().as_ref().ct_eq(&written).into())
}

/// Computes the checksum of everything written.
struct Summed<W> {
    inner: W,
    sum: hmac::Context,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_old_as_its_last_contact_however_late_it_is_saved() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.snapshot");
        let origin = Origin {
            store: "s".to_owned(),
            location: "l".to_owned(),
            revision: 3,
            mark: "m".to_owned(),
        };
        let key = SnapshotKey::of(b"the shared secret of the tests");
        let (known_at, now) = (UnixMillis(1_000_000), UnixMillis(1_000_000 + 90_000));
        for _ in 0..2 {
            let table = KeyTable::new();
            table.reload().finish();
            save(&path, &key, &table, &origin, known_at).unwrap();
            let found = restore(&path, &key, &KeyTable::new(), "l", now)
                .unwrap()
                .unwrap();
            assert_eq!(
                (found.age, &found.origin),
                (Duration::from_secs(90), &origin)
            );
        }
    }

    #[test]
    fn what_was_not_written_with_the_secret_and_what_is_from_the_future_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.snapshot");
        let origin = Origin {
            store: "s".to_owned(),
            location: "l".to_owned(),
            revision: 3,
            mark: "m".to_owned(),
        };
        let key = SnapshotKey::of(b"the shared secret of the tests");
        let table = KeyTable::new();
        table.reload().finish();
        save(&path, &key, &table, &origin, UnixMillis(1_000_000)).unwrap();
        let read = |key: &SnapshotKey, now| {
            let table = KeyTable::new();
            let found = restore(&path, key, &table, "l", UnixMillis(now));
            assert_eq!(found.is_ok(), table.is_loaded());
            found.map(Option::unwrap)
        };
        assert!(read(&key, 1_000_000).is_ok());
        assert!(matches!(
            read(&key, 999_999),
            Err(UnusableSnapshot::FromTheFuture { millis: 1 })
        ));
        let other = SnapshotKey::of(b"another shared secret");
        assert!(matches!(
            read(&other, 1_000_000),
            Err(UnusableSnapshot::Damaged)
        ));
        // Altered to look newer by someone who can write to the directory but lacks the key.
        let mut bytes = fs::read(&path).unwrap();
        let length = bytes.len() - CHECKSUM_BYTES;
        bytes[length - 1] ^= 1;
        let unkeyed = ring::digest::digest(&ring::digest::SHA256, &bytes[..length]);
        bytes[length..].copy_from_slice(unkeyed.as_ref());
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(
            read(&key, 9_000_000),
            Err(UnusableSnapshot::Damaged)
        ));
    }
}
