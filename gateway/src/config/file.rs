//! Syntax check of the settings file. Errors give position and kind, never content: any line may
//! hold a secret.

use std::path::Path;

use zeroize::Zeroizing;

/// Maximum size of the settings file.
pub(super) const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Whether `file` is a file with anything but white space. A file that cannot be read counts: its
/// check says why.
pub(super) fn is_filled(file: &Path) -> bool {
    if !file.is_file() {
        return false;
    }
    std::fs::metadata(file).is_ok_and(|file| file.len() > MAX_BYTES)
        || std::fs::read(file)
            .map(Zeroizing::new)
            .map_or(true, |bytes| !bytes.trim_ascii().is_empty())
}

/// Parses `file` as TOML.
///
/// # Errors
/// Line, column and kind of the error, without content of the file.
pub(super) fn check(file: &Path) -> Result<(), String> {
    let unreadable = |error: std::io::Error| format!("it cannot be read: {error}");
    let size = std::fs::metadata(file).map_err(unreadable)?.len();
    if size > MAX_BYTES {
        return Err(format!(
            "it has {size} bytes: accepted are up to {MAX_BYTES}"
        ));
    }
    let bytes = std::fs::read(file)
        .map(Zeroizing::new)
        .map_err(unreadable)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let (line, column) = place(&bytes, error.valid_up_to());
        format!("line {line}, column {column}: it is not UTF-8")
    })?;
    toml::de::DeTable::parse(text).map(drop).map_err(|error| {
        let (line, column) = place(&bytes, error.span().map_or(0, |span| span.start));
        // The parser's messages are fixed texts; only their rendering quotes the line.
        format!("line {line}, column {column}: {}", error.message())
    })
}

/// Line and column of a byte, both counted from 1.
fn place(text: &[u8], at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = memchr::memchr_iter(b'\n', before).count() + 1;
    let begin = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
    let column = String::from_utf8_lossy(before.get(begin..).unwrap_or_default())
        .chars()
        .count();
    (line, column + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_file_has_its_place_and_never_the_text() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("gateway.toml");
        for (text, said) in [
            (&b"a = 1\ntoken = \"s3cr3t\n"[..], "line 2, column 16: "),
            (b"token = s3cr3t", "line 1, column 9: "),
            (b"\"s3cr3t\" = 1\n\"s3cr3t\" = 2", "line 2, column 1: "),
            (b"[a]\n\"\xc3\xa4\" s3cr3t", "line 2, column 5: "),
            (
                b"token = \"s3cr3t\xff\"",
                "line 1, column 16: it is not UTF-8",
            ),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = check(&file).unwrap_err();
            assert!(
                error.starts_with(said) && error.len() > said.len() - 1,
                "{error}"
            );
            assert!(!error.contains("s3cr3t"), "{error}");
        }
        std::fs::write(&file, "a = 1").unwrap();
        assert_eq!(check(&file), Ok(()));
    }
}
