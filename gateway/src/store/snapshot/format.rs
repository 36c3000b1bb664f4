//! The bytes of a snapshot: a magic line, the header, then consumers and keys, each with a letter before it. Texts have
//! their length before them in two bytes, numbers are big-endian.

use std::io::{self, Read, Write};
use std::str::FromStr;

use crate::keys::{Consumer, KeyDigest, KeyEntry, KeyState, UnixMillis};
use crate::store::snapshot::Origin;

/// The first line: what this is, and how it is written.
const MAGIC: &[u8] = b"postern snapshot 3\n";
/// In place of a length: there is no text.
const NO_TEXT: u16 = u16::MAX;
/// In place of a time: never.
const NEVER: i64 = i64::MAX;

/// What stands before all entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) origin: Origin,
    /// When it was last known to be as the store.
    pub(super) known_at: UnixMillis,
}

/// One thing in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Consumer(Consumer),
    Key(KeyEntry),
}

pub(super) fn write_header(out: &mut impl Write, header: &Header) -> io::Result<()> {
    out.write_all(MAGIC)?;
    text(out, Some(&header.origin.store))?;
    text(out, Some(&header.origin.location))?;
    number(out, header.origin.revision)?;
    text(out, Some(&header.origin.mark))?;
    number(out, header.known_at.0)
}

/// `None` when it is something else.
pub(super) fn read_header(from: &mut impl Read) -> io::Result<Option<Header>> {
    let mut magic = [0; MAGIC.len()];
    if from.read_exact(&mut magic).is_err() || magic != MAGIC {
        return Ok(None);
    }
    let (store, location) = (required(from)?, required(from)?);
    let (revision, mark) = (read_number(from)?, required(from)?);
    let known_at = UnixMillis(read_number(from)?);
    Ok(Some(Header {
        origin: Origin {
            store,
            location,
            revision,
            mark,
        },
        known_at,
    }))
}

pub(super) fn write_entry(out: &mut impl Write, entry: &Entry) -> io::Result<()> {
    match entry {
        Entry::Consumer(consumer) => {
            out.write_all(b"c")?;
            text(out, Some(consumer.id.as_str()))?;
            text(out, Some(consumer.bucket.as_str()))?;
            text(out, Some(consumer.name.as_str()))?;
            text(out, consumer.custom_id.as_ref().map(|id| id.as_str()))?;
            text(
                out,
                consumer.metadata.as_ref().map(|metadata| metadata.as_str()),
            )?;
            text(out, Some(consumer.scopes.as_str()))?;
            text(out, Some(&consumer.allowed_ips.to_string()))
        }
        Entry::Key(key) => {
            out.write_all(b"k")?;
            out.write_all(key.digest.as_bytes())?;
            text(out, Some(key.id.as_str()))?;
            text(out, Some(key.consumer.as_str()))?;
            text(out, Some(key.state.as_str()))?;
            number(out, key.expires_at.map_or(NEVER, |at| at.0))?;
            number(out, key.deprecated_at.map_or(NEVER, |at| at.0))?;
            text(out, key.scopes.as_ref().map(|scopes| scopes.as_str()))
        }
    }
}

/// The next entry; `None` at the end.
pub(super) fn read_entry(from: &mut impl Read) -> io::Result<Option<Entry>> {
    let mut letter = [0];
    if from.read(&mut letter)? == 0 {
        return Ok(None);
    }
    Ok(Some(match letter {
        [b'c'] => Entry::Consumer(Consumer {
            id: required(from)?,
            bucket: required(from)?,
            name: required(from)?,
            custom_id: optional(from)?,
            metadata: optional(from)?,
            scopes: required(from)?,
            allowed_ips: required(from)?,
        }),
        [b'k'] => {
            let mut digest = [0; 32];
            from.read_exact(&mut digest)?;
            Entry::Key(KeyEntry {
                digest: KeyDigest::try_from(digest.as_slice()).map_err(|_| not_ours())?,
                id: required(from)?,
                consumer: required(from)?,
                state: KeyState::parse(&required::<String>(from)?).ok_or_else(not_ours)?,
                expires_at: read_time(from)?,
                deprecated_at: read_time(from)?,
                scopes: optional(from)?,
            })
        }
        _ => return Err(not_ours()),
    }))
}

/// Reads a snapshot without its checksum, and writes it again.
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

fn text(out: &mut impl Write, text: Option<&str>) -> io::Result<()> {
    let Some(text) = text else {
        return out.write_all(&NO_TEXT.to_be_bytes());
    };
    // No text of a consumer or a key comes near the limit.
    let length = u16::try_from(text.len())
        .ok()
        .filter(|length| *length != NO_TEXT)
        .ok_or_else(not_ours)?;
    out.write_all(&length.to_be_bytes())?;
    out.write_all(text.as_bytes())
}

fn number(out: &mut impl Write, number: i64) -> io::Result<()> {
    out.write_all(&number.to_be_bytes())
}

fn read_number(from: &mut impl Read) -> io::Result<i64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(i64::from_be_bytes(bytes))
}

fn read_time(from: &mut impl Read) -> io::Result<Option<UnixMillis>> {
    Ok(Some(read_number(from)?)
        .filter(|at| *at != NEVER)
        .map(UnixMillis))
}

fn optional<T: FromStr>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 2];
    from.read_exact(&mut length)?;
    let length = u16::from_be_bytes(length);
    if length == NO_TEXT {
        return Ok(None);
    }
    let mut bytes = vec![0; usize::from(length)];
    from.read_exact(&mut bytes)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| not_ours())?;
    text.parse().map(Some).map_err(|_| not_ours())
}

fn required<T: FromStr>(from: &mut impl Read) -> io::Result<T> {
    optional(from)?.ok_or_else(not_ours)
}

fn not_ours() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no entry of a snapshot")
}
