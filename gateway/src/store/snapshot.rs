//! The snapshot: the key table in a file, for a start while the database is away.
//!
//! Contains what the table contains (digests, ids, names, scopes) and no key. Written to a
//! temporary file readable by its owner only, then renamed. Accepted only with a valid checksum
//! (HMAC with the shared secret), from this very database, and not from the future.

mod format;
pub mod sealed;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use format::rewrite;

use std::io;
use std::path::Path;
use std::time::Duration;

use thiserror::Error;

use crate::keys::{KeyTable, Plan, UnixMillis};
use crate::store::snapshot::format::{
    Entry, Header, read_entry, read_header, write_entry, write_header,
};

pub use self::sealed::SnapshotKey;

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
    sealed::replace(path, key, |out| {
        let origin = origin.clone();
        write_header(out, &Header { origin, known_at })?;
        for plan in table.plans() {
            write_entry(out, &Entry::Plan(Plan::clone(&plan)))?;
        }
        table.each_consumer(|consumer| write_entry(out, &Entry::Consumer(consumer)))?;
        table.each_key(|key| write_entry(out, &Entry::Key(key)))
    })
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
    let Some(mut content) = sealed::open(path, key)? else {
        return Ok(None);
    };
    let header = read_header(&mut content)?.ok_or(UnusableSnapshot::Damaged)?;
    if header.origin.location != location {
        return Err(UnusableSnapshot::OtherDatabase {
            found: header.origin.location,
            wanted: location.to_owned(),
        });
    }
    let age = age_of(header.known_at, now)?;
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
        age,
        keys,
    }))
}

/// Time since `moment`.
///
/// # Errors
/// It is later than `now`.
pub fn age_of(moment: UnixMillis, now: UnixMillis) -> Result<Duration, UnusableSnapshot> {
    let age = u64::try_from(now.0.saturating_sub(moment.0));
    let age = age.map_err(|_| UnusableSnapshot::FromTheFuture {
        millis: moment.0.abs_diff(now.0),
    })?;
    Ok(Duration::from_millis(age))
}

#[cfg(test)]
mod tests {
    use std::fs;

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
        let length = bytes.len() - 32;
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
