//! Output of commands: results to standard output, remarks to standard error; aligned tables for
//! people, JSON for scripts.

use std::fmt::Arguments;
use std::io::{self, Write};

use serde::Serialize;

use crate::keys::UnixMillis;

/// Output streams of a command. Separate, so that a script can parse the results.
pub struct Streams<'s> {
    /// Results.
    pub out: &'s mut dyn Write,
    /// Remarks and errors.
    pub err: &'s mut dyn Write,
}

/// A table with aligned columns.
pub struct Table<const COLUMNS: usize> {
    heading: [&'static str; COLUMNS],
    widths: [usize; COLUMNS],
    rows: Vec<[String; COLUMNS]>,
    is_begun: bool,
}

/// A list of any length, written page by page: a table for people, or a JSON array for scripts.
pub struct Listing<const COLUMNS: usize> {
    table: Table<COLUMNS>,
    array: Option<JsonArray>,
}

/// A JSON array, written element by element.
#[derive(Default)]
struct JsonArray {
    is_begun: bool,
}

/// Maximum width of a cell, in characters. Longer texts end with `…`; JSON output is never cut.
const MAX_WIDTH: usize = 40;

impl Streams<'_> {
    /// Writes a remark. Ignores errors: the command's work is done.
    pub fn remark(&mut self, remark: Arguments<'_>) {
        let _ = writeln!(self.err, "{remark}");
    }

    /// Writes a JSON value on its own lines.
    pub fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *self.out, value)?;
        writeln!(self.out)
    }
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// Creates an empty table.
    #[must_use]
    pub fn new(heading: [&'static str; COLUMNS]) -> Self {
        Self {
            heading,
            widths: heading.map(|cell| cell.chars().count()),
            rows: Vec::new(),
            is_begun: false,
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: [String; COLUMNS]) {
        let cells = cells.map(shorten);
        for (width, cell) in self.widths.iter_mut().zip(&cells) {
            *width = (*width).max(cell.chars().count());
        }
        self.rows.push(cells);
    }

    /// Writes the rows added since the last call, with the heading on the first. Long lists are
    /// written page by page; columns only grow.
    pub fn flush(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if !self.is_begun {
            self.is_begun = true;
            write_row(out, &self.heading, &self.widths)?;
        }
        for row in self.rows.drain(..) {
            write_row(out, &row, &self.widths)?;
        }
        Ok(())
    }
}

impl<const COLUMNS: usize> Listing<COLUMNS> {
    /// Creates an empty list.
    #[must_use]
    pub fn new(heading: [&'static str; COLUMNS], json: bool) -> Self {
        Self {
            table: Table::new(heading),
            array: json.then(JsonArray::default),
        }
    }

    /// Adds an element: its view, or its row.
    pub fn add(
        &mut self,
        out: &mut dyn Write,
        view: &impl Serialize,
        row: impl FnOnce() -> [String; COLUMNS],
    ) -> io::Result<()> {
        match &mut self.array {
            Some(array) => array.element(out, view),
            None => {
                self.table.row(row());
                Ok(())
            }
        }
    }

    /// Writes the elements added since the last call.
    pub fn flush(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match self.array {
            Some(_) => Ok(()),
            None => self.table.flush(out),
        }
    }

    /// Writes the rest and ends the list.
    pub fn finish(mut self, out: &mut dyn Write) -> io::Result<()> {
        self.flush(out)?;
        self.array.map_or(Ok(()), |array| array.finish(out))
    }
}

impl JsonArray {
    fn element(&mut self, out: &mut dyn Write, element: &impl Serialize) -> io::Result<()> {
        out.write_all(if self.is_begun { b",\n" } else { b"[\n" })?;
        self.is_begun = true;
        Ok(serde_json::to_writer(out, element)?)
    }

    fn finish(self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(if self.is_begun { b"\n]\n" } else { b"[]\n" })
    }
}

/// Writes aligned `name  value` lines.
pub fn details(out: &mut dyn Write, lines: &[(&str, String)]) -> io::Result<()> {
    let width = lines
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or_default();
    lines
        .iter()
        .try_for_each(|(name, value)| writeln!(out, "{name:width$}  {value}"))
}

/// Formats a moment to the second.
#[must_use]
pub fn moment(at: UnixMillis) -> String {
    UnixMillis(at.0.saturating_sub(at.0.rem_euclid(1000))).to_string()
}

/// Formats an optional moment.
#[must_use]
pub fn moment_or(at: Option<UnixMillis>, otherwise: &str) -> String {
    at.map_or_else(|| otherwise.to_owned(), moment)
}

/// Formats an optional text.
#[must_use]
pub fn or_dash(text: &str) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text.to_owned()
    }
}

fn shorten(cell: String) -> String {
    if cell.chars().count() <= MAX_WIDTH {
        return cell;
    }
    cell.chars().take(MAX_WIDTH - 1).chain(['…']).collect()
}

fn write_row(out: &mut dyn Write, cells: &[impl AsRef<str>], widths: &[usize]) -> io::Result<()> {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        line.push_str(&format!("{:width$}  ", cell.as_ref()));
    }
    writeln!(out, "{}", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_long_cells_shortened() {
        let mut table = Table::new(["NAME", "NOTE"]);
        let mut out = Vec::new();
        table.row(["ä".to_owned(), "x".repeat(41)]);
        table.row(["a longer one".to_owned(), "-".to_owned()]);
        table.flush(&mut out).unwrap();
        table.row(["b".to_owned(), "later".to_owned()]);
        table.flush(&mut out).unwrap();
        let expected = format!(
            "NAME          NOTE\nä             {}…\na longer one  -\nb             later\n",
            "x".repeat(39)
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn an_array_is_json_with_any_number_of_elements() {
        for count in 0..3 {
            let elements: Vec<u32> = (0..count).collect();
            let (mut array, mut out) = (JsonArray::default(), Vec::new());
            elements
                .iter()
                .try_for_each(|element| array.element(&mut out, element))
                .unwrap();
            array.finish(&mut out).unwrap();
            assert_eq!(serde_json::from_slice::<Vec<u32>>(&out).unwrap(), elements);
        }
    }

    #[test]
    fn people_see_seconds() {
        assert_eq!(moment(UnixMillis(1_999)), "1970-01-01T00:00:01Z");
        assert_eq!(moment(UnixMillis(-1)), "1969-12-31T23:59:59Z");
        assert_eq!(moment_or(None, "never"), "never");
        // Never written by the gateway, but possible in a database.
        assert_eq!(moment(UnixMillis(i64::MIN)), format!("{} ms", i64::MIN));
    }
}
