//! Common parts of all formats: the row iterator and its errors.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

use crate::store::TransferRow;

/// Iterator over the rows of a file, in order. Ends after [`ReadError::Io`].
pub(crate) type Rows = Box<dyn Iterator<Item = Result<TransferRow, ReadError>>>;

/// Reason why a row was not read.
#[derive(Debug, Error)]
pub(crate) enum ReadError {
    /// Skipped content that grants nothing; not an error.
    #[error("not taken: {0}")]
    NotTaken(String),
    /// Unacceptable line; reading continues.
    #[error(transparent)]
    Bad(#[from] BadLine),
    /// Failure to read the file.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A line that cannot be imported.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {line}: {reason}")]
pub(crate) struct BadLine {
    /// Line number, from 1 on.
    pub(crate) line: u64,
    /// Mistake and accepted values; never quotes the line.
    pub(crate) reason: String,
}

impl ReadError {
    /// Builds the error.
    pub(crate) fn bad(line: u64, reason: impl Into<String>) -> Self {
        Self::Bad(BadLine {
            line,
            reason: reason.into(),
        })
    }
}

/// Reader that counts bytes, for the progress bar.
#[derive(Debug)]
pub(crate) struct Counted<R> {
    inner: R,
    bytes: Arc<AtomicU64>,
}

impl<R> Counted<R> {
    /// Counts into `bytes`.
    pub(crate) fn new(inner: R, bytes: Arc<AtomicU64>) -> Self {
        Self { inner, bytes }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
