//! Detection of the file format.

use std::io::{self, Read};
use std::path::Path;

use clap::ValueEnum;

/// Formats of `gateway import`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Comma-separated values; the first line names the columns.
    Csv,
    /// One JSON object per line, as `gateway export` prints it.
    Jsonl,
    /// Kong's declarative file, YAML or JSON.
    Kong,
    /// `map` blocks of an nginx configuration.
    NginxMap,
}

/// Number of bytes inspected.
const LOOKED_AT_BYTES: u64 = 64 * 1024;

impl Format {
    /// Detects the format from the name, then from the beginning. `None` if both are inconclusive.
    pub(crate) fn guess(file: &Path, beginning: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(beginning);
        let extension = file
            .extension()
            .and_then(|extension| extension.to_str())
            .unwrap_or_default();
        match extension.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "jsonl" | "ndjson" => Some(Self::Jsonl),
            "yaml" | "yml" => Some(Self::Kong),
            "conf" | "map" => Some(Self::NginxMap),
            _ => Self::of_content(text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n'])),
        }
    }

    fn of_content(text: &str) -> Option<Self> {
        let first = text.lines().next().unwrap_or_default();
        if text.contains("_format_version") {
            Some(Self::Kong)
        } else if text.starts_with('{') {
            Some(Self::Jsonl)
        } else if text.contains("map $") {
            Some(Self::NginxMap)
        } else if first.split([',', ';', '\t']).any(|cell| {
            cell.trim_matches('"')
                .trim()
                .eq_ignore_ascii_case("consumer")
        }) {
            Some(Self::Csv)
        } else {
            None
        }
    }
}

/// Returns whether a file is UTF-16 (unsupported), by its byte order mark or by a zero in each
/// letter of a name.
pub(crate) fn is_utf_16(beginning: &[u8]) -> bool {
    let zeros = |from| beginning.iter().skip(from).step_by(2).take(8);
    let all_zero = |from| zeros(from).count() == 8 && zeros(from).all(|byte| *byte == 0);
    beginning.starts_with(b"\xff\xfe")
        || beginning.starts_with(b"\xfe\xff")
        || all_zero(0)
        || all_zero(1)
}

/// Reads the beginning of `source`; returns it with a reader of the whole.
pub(crate) fn look_at<R: Read>(mut source: R) -> io::Result<(Vec<u8>, impl Read)> {
    let mut beginning = Vec::new();
    source
        .by_ref()
        .take(LOOKED_AT_BYTES)
        .read_to_end(&mut beginning)?;
    Ok((beginning.clone(), io::Cursor::new(beginning).chain(source)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_content_tell_the_format() {
        for (name, content, format) in [
            ("a.csv", "", Some(Format::Csv)),
            ("a.NDJSON", "", Some(Format::Jsonl)),
            ("kong.yml", "", Some(Format::Kong)),
            ("keys.conf", "", Some(Format::NginxMap)),
            (
                "a.json",
                "{\"_format_version\": \"3.0\"}",
                Some(Format::Kong),
            ),
            ("a.json", "\n{\"consumer\": \"a\"}", Some(Format::Jsonl)),
            ("-", "\u{feff}key,\"Consumer\"\n", Some(Format::Csv)),
            ("-", "# kong\n_format_version: '3.0'\n", Some(Format::Kong)),
            ("-", "map $http_x_api_key $c {", Some(Format::NginxMap)),
            ("-", "abcd\nefgh\n", None),
            ("a.txt", "", None),
        ] {
            assert_eq!(
                Format::guess(Path::new(name), content.as_bytes()),
                format,
                "{name} {content}"
            );
        }
    }

    #[test]
    fn utf_16_is_recognised() {
        let units = "consumer,key\n".encode_utf16();
        let little: Vec<u8> = units.clone().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = units.flat_map(u16::to_be_bytes).collect();
        for (beginning, is) in [
            (little.clone(), true),
            (big.clone(), true),
            ([b"\xff\xfe".as_slice(), &little].concat(), true),
            ([b"\xfe\xff".as_slice(), &big].concat(), true),
            (b"\xef\xbb\xbfconsumer,key\n".to_vec(), false),
            (b"consumer,key\n".to_vec(), false),
            (Vec::new(), false),
        ] {
            assert_eq!(is_utf_16(&beginning), is, "{beginning:?}");
        }
    }

    #[test]
    fn looking_takes_nothing_away() {
        let whole: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
        let (beginning, mut rest) = look_at(whole.as_slice()).unwrap();
        let mut read = Vec::new();
        rest.read_to_end(&mut read).unwrap();
        assert_eq!((beginning.len(), read == whole), (65_536, true));
    }
}
