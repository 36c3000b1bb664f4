//! Progress bar, on terminals only.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

/// Progress of a pass. Silent if standard error is not a terminal.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Creates a bar for a file of this many bytes, if known.
    pub(super) fn of_bytes(what: &'static str, length: Option<u64>) -> Self {
        Self::new(
            what,
            length,
            "{msg:10} [{bar:40}] {bytes}/{total_bytes}, {eta} to go",
            "{msg:10} {spinner} {bytes}",
        )
    }

    /// Creates a bar for this many rows.
    pub(super) fn of_rows(what: &'static str, length: u64) -> Self {
        let template = "{msg:10} [{bar:40}] {human_pos}/{human_len} lines, {eta} to go";
        Self::new(what, Some(length), template, template)
    }

    fn new(what: &'static str, length: Option<u64>, known: &str, unknown: &str) -> Self {
        if !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let (bar, template) = match length {
            Some(length) => (ProgressBar::new(length), known),
            None => (ProgressBar::no_length(), unknown),
        };
        // The templates are constant; an invalid one would only lose the bar's style.
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self(bar.with_style(style).with_message(what))
    }

    /// Sets the position.
    pub(super) fn set(&self, position: u64) {
        self.0.set_position(position);
    }

    /// Advances the position.
    pub(super) fn advance(&self, by: u64) {
        self.0.inc(by);
    }

    /// Removes the bar.
    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
