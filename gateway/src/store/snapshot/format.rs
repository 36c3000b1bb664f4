//! Binary format of a snapshot: a magic line, the column names, the header, then plans, consumers
//! and keys, each with a tag byte. Texts are prefixed by a two-byte length; numbers are big-endian.

use std::fmt::Display;
use std::io::{self, Read, Write};

use crate::keys::{Consumer, KeyDigest, KeyEntry, Plan, UnixMillis};
use crate::store::columns::{Source, Stored, Value, columns, names};
use crate::store::snapshot::Origin;

/// Magic line with the version of the format.
const MAGIC: &[u8] = b"postern snapshot 5\n";
/// Length of a missing text.
const NO_TEXT: u16 = u16::MAX;
/// Length of a long text, followed by its length in four bytes.
const LONG_TEXT: u16 = u16::MAX - 1;
/// Value of a missing number.
const NO_NUMBER: i64 = i64::MAX;

/// Header before the entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) origin: Origin,
    /// Time when the table was last known to be current.
    pub(super) known_at: UnixMillis,
}

columns!(Header { origin, known_at });
columns!(Origin {
    store,
    location,
    revision,
    mark
});

/// An entry of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Plan(Plan),
    Consumer(Consumer),
    Key(KeyEntry),
}

/// Returns the column names: a snapshot with other columns comes from another version.
fn entries() -> String {
    let (plan, consumer) = (names::<Plan>(""), names::<Consumer>(""));
    format!("{plan}; {consumer}; {}", names::<KeyEntry>(""))
}

pub(super) fn write_header(out: &mut impl Write, header: &Header) -> io::Result<()> {
    out.write_all(MAGIC)?;
    write(out, &entries())?;
    write(out, header)
}

/// Reads the header; `None` if the input is not a snapshot.
pub(super) fn read_header(from: &mut impl Read) -> io::Result<Option<Header>> {
    let mut magic = [0; MAGIC.len()];
    if from.read_exact(&mut magic).is_err() || magic != MAGIC {
        return Ok(None);
    }
    if read::<String>(from)? != entries() {
        return Ok(None);
    }
    read(from).map(Some)
}

pub(super) fn write_entry(out: &mut impl Write, entry: &Entry) -> io::Result<()> {
    match entry {
        Entry::Plan(plan) => {
            out.write_all(b"p")?;
            write(out, plan)
        }
        Entry::Consumer(consumer) => {
            out.write_all(b"c")?;
            write(out, consumer)
        }
        Entry::Key(key) => {
            out.write_all(b"k")?;
            write(out, key)
        }
    }
}

/// Reads the next entry; `None` at the end.
pub(super) fn read_entry(from: &mut impl Read) -> io::Result<Option<Entry>> {
    let mut letter = [0];
    if from.read(&mut letter)? == 0 {
        return Ok(None);
    }
    Ok(Some(match letter {
        [b'p'] => Entry::Plan(read(from)?),
        [b'c'] => Entry::Consumer(read(from)?),
        [b'k'] => Entry::Key(read(from)?),
        _ => return Err(not_ours()),
    }))
}

/// Reads a snapshot without its checksum and writes it again.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn rewrite(mut snapshot: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let Some(header) = read_header(&mut snapshot)? else {
        return Ok(None);
    };
    let mut out = Vec::new();
    write_header(&mut out, &header)?;
    while let Some(entry) = read_entry(&mut snapshot)? {
        write_entry(&mut out, &entry)?;
    }
    Ok(Some(out))
}

fn write(out: &mut impl Write, stored: &impl Stored) -> io::Result<()> {
    let mut written = Ok(());
    stored.values(&mut |value| {
        if written.is_ok() {
            written = write_value(out, &value);
        }
    });
    written
}

fn write_value(out: &mut impl Write, value: &Value<'_>) -> io::Result<()> {
    match value {
        Value::Text(None) => out.write_all(&NO_TEXT.to_be_bytes()),
        Value::Text(Some(text)) => {
            match u16::try_from(text.len()) {
                Ok(length) if length < LONG_TEXT => out.write_all(&length.to_be_bytes())?,
                _ => {
                    let length = u32::try_from(text.len()).map_err(|_| not_ours())?;
                    out.write_all(&LONG_TEXT.to_be_bytes())?;
                    out.write_all(&length.to_be_bytes())?;
                }
            }
            out.write_all(text.as_bytes())
        }
        Value::Number(number) => out.write_all(&number.unwrap_or(NO_NUMBER).to_be_bytes()),
        Value::Digest(digest) => out.write_all(digest.as_bytes()),
    }
}

fn read<T: Stored>(from: &mut impl Read) -> io::Result<T> {
    let mut values = Values {
        from,
        text: Vec::new(),
    };
    T::read(&mut values, "")
}

/// Values of an entry.
struct Values<'f, R> {
    from: &'f mut R,
    /// Buffer of the last text.
    text: Vec<u8>,
}

impl<R: Read> Values<'_, R> {
    fn bytes<const COUNT: usize>(&mut self) -> io::Result<[u8; COUNT]> {
        let mut bytes = [0; COUNT];
        self.from.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl<R: Read> Source for Values<'_, R> {
    type Error = io::Error;

    fn text(&mut self, column: &'static str) -> io::Result<&str> {
        self.optional_text(column)?.ok_or_else(not_ours)
    }

    fn optional_text(&mut self, _: &'static str) -> io::Result<Option<&str>> {
        let length = match u16::from_be_bytes(self.bytes()?) {
            NO_TEXT => return Ok(None),
            LONG_TEXT => u64::from(u32::from_be_bytes(self.bytes()?)),
            length => u64::from(length),
        };
        // Grows with what is there: a damaged length must not reserve gigabytes.
        self.text.clear();
        let from = &mut *self.from;
        if from.take(length).read_to_end(&mut self.text)? as u64 != length {
            return Err(not_ours());
        }
        let text = std::str::from_utf8(&self.text);
        text.map(Some).map_err(|_| not_ours())
    }

    fn number(&mut self, column: &'static str) -> io::Result<i64> {
        self.optional_number(column)?.ok_or_else(not_ours)
    }

    fn optional_number(&mut self, _: &'static str) -> io::Result<Option<i64>> {
        let number = i64::from_be_bytes(self.bytes()?);
        Ok(Some(number).filter(|number| *number != NO_NUMBER))
    }

    fn digest(&mut self, _: &'static str) -> io::Result<KeyDigest> {
        self.bytes().map(KeyDigest::from)
    }

    fn unreadable(_: &'static str, _: impl Display) -> io::Error {
        not_ours()
    }
}

fn not_ours() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no entry of a snapshot")
}
