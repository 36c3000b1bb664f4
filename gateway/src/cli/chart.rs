//! Bar charts for terminals.

use std::io::{self, IsTerminal as _};

use rustix::termios::tcgetwinsize;

/// Default width.
const DEFAULT_WIDTH: usize = 80;
/// Eighths of a block, one to eight.
const EIGHTHS: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];

/// Capabilities of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Width in columns.
    pub width: usize,
    /// Whether characters beyond ASCII are displayed.
    pub unicode: bool,
}

impl Screen {
    /// Returns the screen of the process. `variable` reads the environment: `COLUMNS` is the width
    /// if the output is not a terminal, and the first non-empty variable of `LC_ALL`, `LC_CTYPE`
    /// and `LANG` determines the encoding (POSIX, section 8.2).
    #[must_use]
    pub fn of_process(variable: impl Fn(&str) -> Option<String>) -> Self {
        let stdout = io::stdout();
        let terminal = stdout
            .is_terminal()
            .then(|| tcgetwinsize(&stdout).ok())
            .flatten();
        let columns = terminal
            .map(|size| usize::from(size.ws_col))
            .or_else(|| variable("COLUMNS")?.parse().ok());
        Self {
            width: columns.filter(|width| *width > 0).unwrap_or(DEFAULT_WIDTH),
            unicode: is_utf_8(variable),
        }
    }
}

fn is_utf_8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| variable(name).filter(|value| !value.is_empty()));
    let locale = locale.unwrap_or_default().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// Draws a bar of `value`, where `most` fills `width` columns. A positive value always has a
/// visible bar.
#[must_use]
pub fn bar(value: u64, most: u64, width: usize, unicode: bool) -> String {
    if value == 0 || most == 0 || width == 0 {
        return String::new();
    }
    let steps_a_column = if unicode { EIGHTHS.len() } else { 1 };
    let steps = u128::from(value.min(most)) * (width * steps_a_column) as u128 / u128::from(most);
    let steps = usize::try_from(steps).unwrap_or(0).max(1);
    if !unicode {
        return "#".repeat(steps);
    }
    let mut bar = "█".repeat(steps / EIGHTHS.len());
    bar.extend(
        (steps % EIGHTHS.len())
            .checked_sub(1)
            .and_then(|part| EIGHTHS.get(part)),
    );
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_proportion_and_never_vanish() {
        for (value, most, width, unicode, ascii) in [
            (0, 10, 10, "", ""),
            (10, 10, 4, "████", "####"),
            (5, 10, 4, "██", "##"),
            (3, 8, 1, "▍", "#"),
            (1, u64::MAX, 3, "▏", "#"),
            (u64::MAX, u64::MAX, 2, "██", "##"),
            (5, 10, 0, "", ""),
            (0, 0, 5, "", ""),
        ] {
            assert_eq!(
                (
                    bar(value, most, width, true).as_str(),
                    bar(value, most, width, false).as_str()
                ),
                (unicode, ascii)
            );
        }
    }

    #[test]
    fn the_locale_says_whether_blocks_can_be_shown() {
        for (variables, unicode) in [
            (&[("LANG", "de_DE.UTF-8")][..], true),
            (&[("LANG", "C.utf8")], true),
            (&[("LANG", "de_DE.UTF-8"), ("LC_ALL", "C")], false),
            (
                &[("LANG", "C"), ("LC_ALL", ""), ("LC_CTYPE", "en_GB.UTF-8")],
                true,
            ),
            (&[], false),
        ] {
            let find = |wanted: &str| {
                variables
                    .iter()
                    .find(|(name, _)| *name == wanted)
                    .map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(is_utf_8(find), unicode, "{variables:?}");
        }
    }
}
