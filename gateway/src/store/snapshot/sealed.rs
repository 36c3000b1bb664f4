//! Files of a gateway's own memory, for its next start: written beside and renamed, readable by
//! their owner only, with a checksum that only a holder of the shared secret can make.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Take, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ring::hmac;
use subtle::ConstantTimeEq;

use crate::store::snapshot::UnusableSnapshot;

/// Size of the checksum at the end.
const CHECKSUM_BYTES: usize = 32;
/// Size of the buffers.
const BUFFER_BYTES: usize = 1 << 16;

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

/// A file while it is written: computes the checksum of its content.
pub struct Sealing {
    inner: BufWriter<File>,
    sum: hmac::Context,
}

impl Write for Sealing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Replaces the file at `path` by one with the content that `write` gives it. The kind of the file
/// is its first bytes: one checksum key serves all of them.
///
/// # Errors
/// The message of the system. The previous file is kept.
pub fn replace(
    path: &Path,
    key: &SnapshotKey,
    write: impl FnOnce(&mut Sealing) -> io::Result<()>,
) -> io::Result<()> {
    let beside = with_ending(path, ".new");
    let written = write_new(&beside, key, write).and_then(|()| fs::rename(&beside, path));
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

/// Opens the file at `path` once its checksum is verified; `None` if it is missing.
///
/// # Errors
/// The reason why it is not used.
pub fn open(
    path: &Path,
    key: &SnapshotKey,
) -> Result<Option<Take<BufReader<File>>>, UnusableSnapshot> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let length = usize::try_from(file.metadata()?.len())
        .ok()
        .and_then(|bytes| bytes.checked_sub(CHECKSUM_BYTES));
    let length = length.ok_or(UnusableSnapshot::Damaged)?;
    // Before any content is used.
    if !checksum_is_right(&file, length, key)? {
        return Err(UnusableSnapshot::Damaged);
    }
    file.seek(SeekFrom::Start(0))?;
    let content = BufReader::with_capacity(BUFFER_BYTES, file);
    Ok(Some(content.take(length as u64)))
}

/// The path `path` with `ending` after its name.
pub fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

fn write_new(
    path: &Path,
    key: &SnapshotKey,
    write: impl FnOnce(&mut Sealing) -> io::Result<()>,
) -> io::Result<()> {
    // Never reuses a file left by a crash: another process may have it open, or others may read it.
    let _ = fs::remove_file(path);
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let mut out = Sealing {
        inner: BufWriter::with_capacity(BUFFER_BYTES, file),
        sum: hmac::Context::with_key(&key.0),
    };
    write(&mut out)?;
    let Sealing { mut inner, sum } = out;
    inner.write_all(sum.sign().as_ref())?;
    inner
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()
}

fn checksum_is_right(mut file: &File, length: usize, key: &SnapshotKey) -> io::Result<bool> {
    let mut sum = hmac::Context::with_key(&key.0);
    let mut buffer = vec![0; BUFFER_BYTES];
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
