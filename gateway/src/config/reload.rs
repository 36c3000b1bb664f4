//! `[reload]`: how settings are taken over while the gateway runs.

use std::path::PathBuf;

use crate::config::reader::Reader;
use crate::config::value::FilePath;

/// `[reload]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReloadSettings {
    /// Whether the files are checked every second.
    pub watch: bool,
    /// Whether settings that need a restart are refused, rather than left out and named.
    pub strict: bool,
    /// Where the settings file is kept as it was last used.
    pub last_good: Option<PathBuf>,
}

impl ReloadSettings {
    pub(super) fn read(section: &mut Reader) -> Self {
        Self {
            watch: section.take("watch", true),
            strict: section.take("strict", false),
            last_good: section
                .take_optional::<FilePath>("last_good")
                .map(|file| file.0),
        }
    }
}
