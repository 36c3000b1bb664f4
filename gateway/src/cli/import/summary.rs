//! Result of an import, as text or JSON.

use serde::Serialize;

use crate::cli::error::CommandError;
use crate::cli::output::Streams;
use crate::import::reading::BadLine;

/// Maximum number of bad lines listed individually.
const TOLD_IN_FULL: usize = 100;

/// Result of an import.
#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    /// Whether this was a dry run.
    pub(super) dry_run: bool,
    /// Format of the file.
    pub(super) format: Option<String>,
    /// Number of lines with a consumer or a key, including bad ones.
    pub(super) lines: u64,
    /// Number of new lines: what a dry run would import.
    pub(super) new: u64,
    /// Number of consumers created.
    pub(super) consumers: u64,
    /// Number of keys added.
    pub(super) keys: u64,
    /// Number of lines already present.
    pub(super) already: u64,
    /// Number of conflicting lines skipped on request.
    pub(super) skipped: u64,
    /// Number of bad lines.
    pub(super) bad_lines: u64,
    /// The first bad lines.
    problems: Vec<BadLineView>,
    /// Lines with a key that may be used on a route which the settings do not have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unknown_routes: Vec<u64>,
    /// Contents of the file that are not imported.
    not_taken: Vec<String>,
}

#[derive(Debug, Serialize)]
struct BadLineView {
    line: u64,
    reason: String,
}

impl Summary {
    /// Counts a bad line.
    pub(super) fn bad(&mut self, BadLine { line, reason }: BadLine) {
        self.bad_lines += 1;
        if self.problems.len() < TOLD_IN_FULL {
            self.problems.push(BadLineView { line, reason });
        }
    }

    /// Notes a line with a key that names a route which the settings do not have.
    pub(super) fn unknown_route(&mut self, line: u64) {
        if self.unknown_routes.len() < TOLD_IN_FULL {
            self.unknown_routes.push(line);
        }
    }

    /// Adds a content of the file that is not imported.
    pub(super) fn not_taken(&mut self, what: String) {
        self.not_taken.push(what);
    }

    /// Returns whether the file had lines, none of them new.
    pub(super) fn is_all_there(&self) -> bool {
        self.lines > 0 && self.already == self.lines
    }

    /// Prints bad lines as remarks and counts as result.
    pub(super) fn print(
        &mut self,
        json: bool,
        streams: &mut Streams<'_>,
    ) -> Result<(), CommandError> {
        self.problems.sort_by_key(|problem| problem.line);
        for BadLineView { line, reason } in &self.problems {
            streams.remark(format_args!("line {line}: {reason}"));
        }
        match self.bad_lines - self.problems.len() as u64 {
            0 => {}
            more => streams.remark(format_args!("… and {more} more bad lines")),
        }
        for line in &self.unknown_routes {
            streams.remark(format_args!(
                "line {line}: a route of the key is none of these settings; the key admits nobody there until one has that name"
            ));
        }
        for what in &self.not_taken {
            streams.remark(format_args!("not taken: {what}"));
        }
        if json {
            streams.json(self)?;
        } else {
            let Self {
                lines,
                new,
                consumers,
                keys,
                already,
                skipped,
                bad_lines,
                ..
            } = self;
            match self.dry_run {
                true => write!(streams.out, "read {lines} lines: {new} to import")?,
                false => write!(
                    streams.out,
                    "read {lines} lines: added {keys} keys and {consumers} consumers"
                )?,
            }
            writeln!(
                streams.out,
                ", {already} there already, {skipped} skipped, {bad_lines} bad"
            )?;
        }
        Ok(streams.out.flush()?)
    }
}
