//! The snapshot: the table of keys in a file, so that a gateway can start while its database is away.
//!
//! It holds what the table holds: digests, ids, names, scopes; no key. It is written beside its place and then put there
//! whole, readable for its owner only. It is believed only when its checksum is right, which nobody can make who does not
//! know the shared secret, when it is of this very database, and when it is not from the future.

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

use crate::keys::{KeyTable, UnixMillis};
use crate::store::snapshot::format::{
    Entry, Header, read_entry, read_header, write_entry, write_header,
};

/// Bytes of the checksum at the end.
const CHECKSUM_BYTES: usize = 32;

/// What the checksum of a snapshot is made with (HMAC-SHA-256), so that who can only write to its directory cannot make one.
#[derive(Clone)]
pub struct SnapshotKey(hmac::Key);

impl SnapshotKey {
    /// The key that belongs to a shared secret.
    #[must_use]
    pub fn of(shared_secret: &[u8]) -> Self {
        // A key of its own, so that no checksum says anything of the secret's other uses.
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

/// Which store a table is a copy of, and up to which change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The database's own name, which no other has.
    pub store: String,
    /// Where the database is, without credentials.
    pub location: String,
    /// The newest change that is in the table.
    pub revision: i64,
    /// What the history of the store is known by at that change.
    pub mark: String,
}

/// A table that came from a file.
#[derive(Clone, Debug)]
pub struct Restored {
    /// What it is a copy of.
    pub origin: Origin,
    /// How long ago it was last known to be as the store, by the machine's clock.
    pub age: Duration,
    /// How many keys it has.
    pub keys: usize,
}

/// Why a snapshot is not used.
#[derive(Debug, Error)]
pub enum UnusableSnapshot {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It was cut off, changed, or is something else.
    #[error(
        "it is damaged, or was not written by a gateway of this version with this shared secret"
    )]
    Damaged,
    /// Its moment is later than the machine's clock, so its age is not known.
    #[error("it is dated {} in the future, so its age is not known", humantime::format_duration(Duration::from_millis(*millis)))]
    FromTheFuture {
        /// How far.
        millis: u64,
    },
    /// It is of another database.
    #[error("it is of the database {found}, not of {wanted}")]
    OtherDatabase {
        /// Of which it is.
        found: String,
        /// Which is configured.
        wanted: String,
    },
}

/// Writes the table, which was last known to be as the store at `known_at`, to `path`. Requests and changes go on meanwhile: a change that comes in between may or may not be in
/// the file, and comes again when the feed goes on from `origin.revision`.
///
/// # Errors
/// What the system said. The file that was there before is still there.
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
    // The new name is to last as long as what it names.
    let directory = path
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// Fills an empty `table` from `path`; `None` when there is no such file.
///
/// # Errors
/// Why it is not used. Then the table is not loaded.
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
    // All of it is proven before any of it is believed.
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
            Entry::Consumer(consumer) => reload.consumer(consumer),
            // A key that came between its consumer's turn and its own: it is refused until the feed tells of it.
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
    // What a crash left behind is not written into: it may be open elsewhere, or readable for others.
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

/// Sums what passes.
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
        // Made younger, with a checksum without the key, by who can write to the directory.
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
