//! What all formats share: a reader of rows, and the lines that it cannot read.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

use crate::store::TransferRow;

/// The rows of a file, in order. After [`ReadError::Io`] nothing more comes.
pub(crate) type Rows = Box<dyn Iterator<Item = Result<TransferRow, ReadError>>>;

/// Why a row was not read.
#[derive(Debug, Error)]
pub(crate) enum ReadError {
    /// Something that was left behind, and lets nobody in: no error.
    #[error("not taken: {0}")]
    NotTaken(String),
    /// What the line holds is not accepted. Others may be.
    #[error(transparent)]
    Bad(#[from] BadLine),
    /// The file itself failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A line that cannot be imported.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {line}: {reason}")]
pub(crate) struct BadLine {
    /// Which, from 1 on.
    pub(crate) line: u64,
    /// What is wrong and what is accepted; never what it says.
    pub(crate) reason: String,
}

impl ReadError {
    /// A line that is bad for this reason.
    pub(crate) fn bad(line: u64, reason: impl Into<String>) -> Self {
        Self::Bad(BadLine {
            line,
            reason: reason.into(),
        })
    }
}

/// Counts what is read, for the progress bar.
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
