//! Fuzz targets for `fuzz/`: each function parses arbitrary bytes and panics if a property fails.

use std::io::Cursor;

use crate::auth::jwt::{self, Compact, Issuers, KeySet};
use crate::import::fields::Defaults;
use crate::import::reading::{ReadError, Rows};
use crate::import::{csv, jsonl};
use crate::keys::{Prefix, UnixMillis, token};
use crate::store::snapshot;
use crate::wire::chunked::{ChunkLimits, ChunkScanner};
use crate::wire::head::{HeadEnd, fields, is_token, split_first_line};

/// Name of a target, which is also that of its seeds, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 7] = [
    ("heads", heads),
    ("chunks", chunks),
    ("tokens", tokens),
    ("csv", csv_rows),
    ("jsonl", json_lines),
    ("snapshot", snapshot),
    ("jwt", json_web_tokens),
];

/// A head ends at the same byte however its bytes arrive, and its lines are all of it.
pub fn heads(data: &[u8]) {
    let whole = HeadEnd::default().find(data);
    let mut pieces = HeadEnd::default();
    let found = (0..=data.len())
        .map(|length| pieces.find(&data[..length]))
        .find(|found| *found != Ok(None));
    assert_eq!(found.unwrap_or(Ok(None)), whole);
    let Ok(Some(end)) = whole else { return };
    let (line, rest) = split_first_line(&data[..end]);
    let mut length = line.len() + 2;
    for field in fields(rest) {
        let Ok(field) = field else { return };
        length += field.line.len();
        assert!(!field.name.is_empty() && field.name.iter().all(|byte| is_token(*byte)));
        assert!(!field.value.contains(&b'\n'));
    }
    // The empty line is no field; it comes first if there is no other line.
    assert!(length == end || length + 2 == end, "{length} of {end}");
}

/// A chunked body ends at the same byte however its bytes arrive.
pub fn chunks(data: &[u8]) {
    for padded_sizes in [false, true] {
        let limits = ChunkLimits {
            body_bytes: 1000,
            extension_bytes: 16,
            trailer_bytes: 32,
            padded_sizes,
        };
        let whole = ChunkScanner::new(limits).scan(data);
        let mut pieces = ChunkScanner::new(limits);
        let mut found = Ok(None);
        for (at, byte) in data.iter().enumerate() {
            found = pieces.scan(std::slice::from_ref(byte));
            if let Ok(Some(taken)) = found {
                found = Ok(Some(at + taken));
            }
            if found != Ok(None) {
                break;
            }
        }
        assert_eq!(found, whole);
    }
}

/// An own key is found wherever it stands.
pub fn tokens(data: &[u8]) {
    let prefix = Prefix::default();
    let is_taken = token::check_shape(data, &prefix).is_ok();
    if is_taken && token::is_key_shaped(data, &prefix) {
        assert!(token::contains_key(data, &prefix));
        assert!(token::contains_key_of_any_prefix(data));
        let within = [b"/path?key=", data, b"&x=%20"].concat();
        assert!(token::contains_key(&within, &prefix));
    }
    let is_ours = token::contains_key(data, &prefix);
    assert!(!is_ours || token::contains_key_of_any_prefix(data));
}

/// A CSV file is read to its end.
pub fn csv_rows(data: &[u8]) {
    read_all(data, csv::rows(owned(data), Defaults::default()));
}

/// A file of JSON lines is read to its end.
pub fn json_lines(data: &[u8]) {
    read_all(data, jsonl::rows(owned(data), Defaults::default()));
}

/// A snapshot that parses is written back unchanged.
pub fn snapshot(data: &[u8]) {
    if let Ok(Some(written)) = snapshot::rewrite(data) {
        let again = snapshot::rewrite(&written);
        assert_eq!(again.ok().flatten(), Some(written));
    }
}

/// A token of the right form is told from a key, and without an issuer it is refused.
pub fn json_web_tokens(data: &[u8]) {
    if Compact::parse(data).is_ok() {
        assert!(jwt::is_token(data));
    }
    let issuers = Issuers::default();
    assert!(issuers.cached(data, |_| true, UnixMillis(0)).is_none());
    assert!(issuers.verify(data, |_| true, UnixMillis(0)).is_err());
    if let Ok(parsed) = KeySet::parse(data) {
        assert!(parsed.set.iter().count() > 0);
    }
}

fn owned(data: &[u8]) -> Cursor<Vec<u8>> {
    Cursor::new(data.to_vec())
}

/// Reads every row. There is at most one per line, plus one for a refused header.
fn read_all(data: &[u8], rows: Rows) {
    let breaks = data.iter().filter(|byte| matches!(byte, b'\n' | b'\r'));
    let most = breaks.count() + 2;
    let mut last_line = 0;
    for (index, row) in rows.enumerate() {
        assert!(index < most, "{index} rows of {most} lines");
        if let Err(ReadError::Bad(bad)) = row {
            assert!(bad.line >= last_line, "{} after {last_line}", bad.line);
            last_line = bad.line;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_target_has_seeds_and_holds_for_them() {
        for (name, target) in TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
            let seeds: Vec<_> = std::fs::read_dir(folder.join(name)).unwrap().collect();
            assert!(!seeds.is_empty(), "{name}");
            for seed in seeds {
                target(&std::fs::read(seed.unwrap().path()).unwrap());
            }
        }
    }

    #[test]
    fn the_seed_of_a_snapshot_is_one() {
        let seed = include_bytes!("../../fuzz/seeds/snapshot/a-consumer-and-a-key");
        let written = snapshot::rewrite(seed).unwrap();
        assert_eq!(written.as_deref(), Some(&seed[..]));
    }
}
