//! Secrets of the environment, and those of tables in the file.

use std::path::Path;

use postern_shared::{Secret, source};
use zeroize::Zeroizing;

use crate::config::Environment;
use crate::config::reader::Reader;
use crate::config::value::FilePath;

/// Settings that a table has for one secret.
pub(super) struct TextAndFile {
    /// Of the secret itself.
    pub(super) text: &'static str,
    /// Of a file with it.
    pub(super) file: &'static str,
    /// What the tables are, for messages.
    pub(super) list: &'static str,
}

/// Reads the secret of a table; `None` if it has none, or a wrong one.
pub(super) fn secret_in_section(section: &mut Reader, keys: &TextAndFile) -> Option<Secret> {
    let TextAndFile { text, file, list } = keys;
    match (
        section.take_optional::<Secret>(text),
        section.take_optional::<FilePath>(file),
    ) {
        (Some(_), Some(_)) => {
            let message = format!("{text} and {file} are both set: leave one of them out");
            section.problem(text, list, message);
            None
        }
        (Some(secret), None) => Some(secret),
        (None, Some(path)) => read_file(&path.0)
            .map_err(|message| section.problem(file, "its file", message))
            .ok(),
        (None, None) => None,
    }
}

/// Reads the secret in a file; trims one line end, as editors and `echo` leave it.
fn read_file(path: &Path) -> Result<Secret, String> {
    let shown = || source::shown_path(&path.to_string_lossy());
    let bytes = std::fs::read(path)
        .map(Zeroizing::new)
        .map_err(|error| format!("{} cannot be read: {error}", shown()))?;
    let text =
        std::str::from_utf8(&bytes).map_err(|_| format!("{} is not valid UTF-8", shown()))?;
    let text = text
        .strip_suffix('\n')
        .map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    Secret::parse(text).map_err(|error| error.to_string())
}

/// Reads a secret from the environment; its effective value is shown redacted.
pub(super) fn secret(reader: &mut Reader, environment: &Environment, name: &str) -> Option<Secret> {
    let text = environment.secret(name, reader.problems())?;
    match Secret::parse(&text) {
        Ok(secret) => {
            reader.note(
                name,
                "\"[redacted]\"".to_owned(),
                "the environment".to_owned(),
            );
            Some(secret)
        }
        Err(error) => {
            reader
                .problems()
                .add(name, "the environment", error.to_string());
            None
        }
    }
}
