//! Spool for the good lines between the two passes, without any key: an unnamed temporary file,
//! private to the process and deleted with it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};

use crate::import::fields::Defaults;
use crate::import::jsonl;
use crate::import::line::Line;
use crate::store::TransferRow;

/// Spool open for writing.
pub(crate) struct Spool {
    file: BufWriter<File>,
    rows: u64,
}

/// Spool open for reading.
pub(crate) struct Spooled {
    file: BufReader<File>,
    defaults: Defaults,
    text: Vec<u8>,
}

impl Spool {
    /// Creates an empty spool in the directory for temporary files.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            file: BufWriter::new(tempfile::tempfile()?),
            rows: 0,
        })
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, row: &TransferRow) -> io::Result<()> {
        self.rows += 1;
        write!(self.file, "{} ", row.line)?;
        serde_json::to_writer(&mut self.file, &Line::of(row))?;
        self.file.write_all(b"\n")
    }

    /// Returns the number of rows.
    pub(crate) fn len(&self) -> u64 {
        self.rows
    }

    /// Rewinds to the first row.
    pub(crate) fn read(self, defaults: Defaults) -> io::Result<Spooled> {
        let mut file = self
            .file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok(Spooled {
            file: BufReader::new(file),
            defaults,
            text: Vec::new(),
        })
    }
}

impl Spooled {
    /// Returns at most `count` rows; none at the end.
    pub(crate) fn next(&mut self, count: usize) -> io::Result<Vec<TransferRow>> {
        let mut rows = Vec::with_capacity(count);
        while rows.len() < count {
            self.text.clear();
            if self.file.read_until(b'\n', &mut self.text)? == 0 {
                break;
            }
            rows.push(self.row()?);
        }
        Ok(rows)
    }

    fn row(&self) -> io::Result<TransferRow> {
        let damaged = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the temporary file of the import is damaged",
            )
        };
        let space = memchr::memchr(b' ', &self.text).ok_or_else(damaged)?;
        let (line, text) = self.text.split_at_checked(space).ok_or_else(damaged)?;
        let line = std::str::from_utf8(line)
            .ok()
            .and_then(|line| line.parse().ok())
            .ok_or_else(damaged)?;
        jsonl::read(text, line, &self.defaults).map_err(|_| damaged())
    }
}
