//! The progress bar: on a terminal only.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

/// How far a pass is. Says nothing where standard error is no terminal.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Of a file with this many bytes, if that is known.
    pub(super) fn of_bytes(what: &'static str, length: Option<u64>) -> Self {
        Self::new(
            what,
            length,
            "{msg:10} [{bar:40}] {bytes}/{total_bytes}, {eta} to go",
            "{msg:10} {spinner} {bytes}",
        )
    }

    /// Of this many rows.
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
        // The templates are ours; one that were wrong would cost the bar its looks.
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self(bar.with_style(style).with_message(what))
    }

    /// So much is done.
    pub(super) fn set(&self, position: u64) {
        self.0.set_position(position);
    }

    /// So much more is done.
    pub(super) fn advance(&self, by: u64) {
        self.0.inc(by);
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
