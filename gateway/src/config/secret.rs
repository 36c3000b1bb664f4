//! Secrets of the environment.

use postern_shared::Secret;

use crate::config::Environment;
use crate::config::reader::Reader;

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
