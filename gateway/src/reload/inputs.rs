//! [`Inputs`]: the files that settings are read from, and what they hold as one digest.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::config::settings::Settings;
use crate::config::{Source, named_files};

/// Maximum size of a file that is read to compare it.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Digest of the content of all inputs. Equal digests mean equal content. Never shown: secrets are
/// among it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Digest of no content: whatever is found next differs from it.
    pub const UNKNOWN: Self = Self([0; 32]);
}

/// Settings file, and every file that it or a variable names to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs(Vec<PathBuf>);

impl Inputs {
    /// Inputs of loaded settings.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        Self::at(&settings.source, named_files(&settings.effective))
    }

    /// Inputs of settings from `source` that name the files `named`.
    #[must_use]
    pub fn at(source: &Source, named: Vec<PathBuf>) -> Self {
        let file = source.file().to_path_buf();
        let mut files: Vec<PathBuf> = std::iter::once(file)
            .chain(source.files_of_variables())
            .chain(named)
            .collect();
        files.sort();
        files.dedup();
        Self(files)
    }

    /// Reads all of them once. Blocks on the file system.
    #[must_use]
    pub fn look(&self) -> Fingerprint {
        let mut digest = Sha256::new();
        for file in &self.0 {
            let (state, content) = match content(file) {
                Ok(Content::Whole(content)) => (0_u8, content),
                Ok(Content::NoFile) => (1, Zeroizing::default()),
                Ok(Content::TooLarge) => (2, Zeroizing::default()),
                Err(error) => (3, Zeroizing::new(vec![error.kind() as u8])),
            };
            let name = file.as_os_str().as_encoded_bytes();
            for part in [name, &[state], &content] {
                digest.update((part.len() as u64).to_be_bytes());
                digest.update(part);
            }
        }
        Fingerprint(digest.finalize().into())
    }
}

/// What a file holds. What is no file, or larger than any that is accepted, is not read: that could
/// block, or take long each time.
enum Content {
    Whole(Zeroizing<Vec<u8>>),
    NoFile,
    TooLarge,
}

fn content(file: &Path) -> io::Result<Content> {
    let metadata = std::fs::metadata(file)?;
    if !metadata.is_file() {
        return Ok(Content::NoFile);
    }
    if metadata.len() > MAX_BYTES {
        return Ok(Content::TooLarge);
    }
    let mut content = Zeroizing::default();
    File::open(file)?
        .take(MAX_BYTES)
        .read_to_end(&mut content)?;
    Ok(Content::Whole(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_of_a_file_has_a_digest_of_its_own_and_the_same_content_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gateway.toml");
        let inputs = Inputs(vec![path.clone()]);
        let mut seen = vec![inputs.look()];
        let mut look = |what: &str| {
            let found = inputs.look();
            assert!(!seen.contains(&found), "{what}");
            assert!(inputs.look() == found, "{what}, again");
            seen.push(found);
        };
        std::fs::write(&path, "").unwrap();
        look("empty, not missing");
        std::fs::write(&path, "a = 1").unwrap();
        look("filled");
        std::fs::write(&path, "a = 2").unwrap();
        look("of the same size");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        look("a directory");
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, vec![b'#'; 5 * 1024 * 1024]).unwrap();
        look("too large");
        std::fs::write(&path, "a = 1").unwrap();
        assert!(inputs.look() == seen[2], "as it was");
    }
}
