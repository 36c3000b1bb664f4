//! What an import came to, for people and for scripts.

use serde::Serialize;

use crate::cli::error::CommandError;
use crate::cli::output::Streams;
use crate::import::reading::BadLine;

/// How many bad lines are told in full.
const TOLD_IN_FULL: usize = 100;

/// What an import came to.
#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    /// Whether nothing was to be imported anyway.
    pub(super) dry_run: bool,
    /// What the file is.
    pub(super) format: Option<String>,
    /// Lines with a consumer or a key, bad ones included.
    pub(super) lines: u64,
    /// Lines that say something new: what a dry run would import.
    pub(super) new: u64,
    /// Consumers that were made.
    pub(super) consumers: u64,
    /// Keys that were added.
    pub(super) keys: u64,
    /// Lines that were there already.
    pub(super) already: u64,
    /// Lines that contradict what is there and were left out, as asked.
    pub(super) skipped: u64,
    /// Lines that cannot be imported.
    pub(super) bad_lines: u64,
    /// The first of them.
    problems: Vec<Problem>,
    /// What else is in the file, and is not imported.
    not_taken: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Problem {
    line: u64,
    reason: String,
}

impl Summary {
    /// Counts a bad line.
    pub(super) fn bad(&mut self, BadLine { line, reason }: BadLine) {
        self.bad_lines += 1;
        if self.problems.len() < TOLD_IN_FULL {
            self.problems.push(Problem { line, reason });
        }
    }

    /// Remembers something of the file that is not imported.
    pub(super) fn not_taken(&mut self, what: String) {
        self.not_taken.push(what);
    }

    /// Whether the file had lines, and nothing was new in any.
    pub(super) fn is_all_there(&self) -> bool {
        self.lines > 0 && self.already == self.lines
    }

    /// Prints it: the bad lines as remarks, the counts as the result.
    pub(super) fn print(
        &mut self,
        json: bool,
        streams: &mut Streams<'_>,
    ) -> Result<(), CommandError> {
        self.problems.sort_by_key(|problem| problem.line);
        for Problem { line, reason } in &self.problems {
            streams.remark(format_args!("line {line}: {reason}"));
        }
        match self.bad_lines - self.problems.len() as u64 {
            0 => {}
            more => streams.remark(format_args!("… and {more} more bad lines")),
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
