//! `[reload]`: how settings are taken over while the gateway runs.

use crate::config::reader::Reader;

/// `[reload]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReloadSettings {
    /// Whether the files are checked every second.
    pub watch: bool,
    /// Whether settings that need a restart are refused, rather than left out and named.
    pub strict: bool,
}

impl ReloadSettings {
    pub(super) fn read(section: &mut Reader) -> Self {
        Self {
            watch: section.take("watch", true),
            strict: section.take("strict", false),
        }
    }
}
