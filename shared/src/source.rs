//! Source of a secret: the variable `NAME`, or the file named in `NAME_FILE`; never both.
//!
//! Environment and file system are arguments, so this does no I/O and tests pass a map.

use std::ffi::OsString;
use std::io;

use thiserror::Error;
use zeroize::Zeroizing;

/// Why a secret could not be read. Contains nothing of the secret.
#[derive(Debug, Error)]
pub enum SourceError {
    /// Both sources are set, and neither takes precedence.
    #[error("{name} and {name}_FILE are both set: unset one of them")]
    Twice {
        /// Variable.
        name: String,
    },
    /// The value or the file is not UTF-8.
    #[error("{source_name} is not valid UTF-8")]
    NotUtf8 {
        /// Variable of the value or of the file.
        source_name: String,
    },
    /// The file cannot be read.
    #[error(
        "{name}_FILE names {}, which cannot be read: {cause}",
        shown_path(path)
    )]
    Unreadable {
        /// Variable, without `_FILE`.
        name: String,
        /// File.
        path: String,
        /// System error.
        cause: io::Error,
    },
    /// The file is empty.
    #[error("{name}_FILE names {}, which is empty", shown_path(path))]
    EmptyFile {
        /// Variable, without `_FILE`.
        name: String,
        /// File.
        path: String,
    },
}

/// Path of a secret file for messages, shown only if it looks like a path: people put the secret
/// itself there.
#[must_use]
pub fn shown_path(path: &str) -> String {
    if ["/", "./", "../"]
        .iter()
        .any(|begin| path.starts_with(begin))
    {
        format!("{path:?}")
    } else {
        "a file whose name is not shown, for it could be the secret itself (write a path with `/` or `./` before it)"
            .to_owned()
    }
}

/// Reads the secret `name`. An empty variable counts as unset. Trims one trailing line end of a
/// file (`LF` or `CRLF`, as editors and `echo` leave it).
///
/// ```
/// # fn main() -> Result<(), postern_shared::source::SourceError> {
/// let secret = postern_shared::source::resolve("SHARED_SECRET", |name| std::env::var_os(name), |path| std::fs::read(path))?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// Both sources set, an unreadable or empty file, or text that is not UTF-8.
pub fn resolve(
    name: &str,
    variable: impl Fn(&str) -> Option<OsString>,
    read: impl Fn(&str) -> io::Result<Vec<u8>>,
) -> Result<Option<Zeroizing<String>>, SourceError> {
    let text_of = |variable_name: &str| -> Result<Option<Zeroizing<String>>, SourceError> {
        match variable(variable_name).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(text)) if text.is_empty() => Ok(None),
            Some(Ok(text)) => Ok(Some(Zeroizing::new(text))),
            Some(Err(_)) => Err(SourceError::NotUtf8 {
                source_name: variable_name.to_owned(),
            }),
        }
    };
    let file_variable = format!("{name}_FILE");
    match (text_of(name)?, text_of(&file_variable)?) {
        (Some(_), Some(_)) => Err(SourceError::Twice {
            name: name.to_owned(),
        }),
        (Some(value), None) => Ok(Some(value)),
        (None, None) => Ok(None),
        (None, Some(path)) => {
            let bytes = read(&path).map_err(|cause| SourceError::Unreadable {
                name: name.to_owned(),
                path: path.to_string(),
                cause,
            })?;
            let mut text =
                String::from_utf8(bytes)
                    .map(Zeroizing::new)
                    .map_err(|_| SourceError::NotUtf8 {
                        source_name: format!("the file that {file_variable} names"),
                    })?;
            if text.ends_with('\n') {
                text.pop();
                if text.ends_with('\r') {
                    text.pop();
                }
            }
            if text.is_empty() {
                return Err(SourceError::EmptyFile {
                    name: name.to_owned(),
                    path: path.to_string(),
                });
            }
            Ok(Some(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Result for these variables and the content of `/secret`.
    fn resolved(variables: &[(&str, &str)], file: Option<&[u8]>) -> Result<Option<String>, String> {
        resolve(
            "TOKEN",
            |name| {
                variables
                    .iter()
                    .find(|(variable, _)| *variable == name)
                    .map(|(_, value)| OsString::from(value))
            },
            |path| match (path, file) {
                ("/secret", Some(content)) => Ok(content.to_vec()),
                _ => Err(io::ErrorKind::NotFound.into()),
            },
        )
        .map(|text| text.map(|text| text.to_string()))
        .map_err(|error| error.to_string())
    }

    #[test]
    fn one_source_is_read_and_two_are_refused() {
        let file = [("TOKEN_FILE", "/secret")];
        for (variables, content, wanted) in [
            (&[][..], None, Ok(None)),
            (&[("TOKEN", "")], None, Ok(None)),
            (&[("TOKEN", "value")], None, Ok(Some("value"))),
            (
                &[("TOKEN", "value"), ("TOKEN_FILE", "")],
                None,
                Ok(Some("value")),
            ),
            (&[("TOKEN", "value\n")], None, Ok(Some("value\n"))),
            (&file, Some(&b"value"[..]), Ok(Some("value"))),
            (&file, Some(b"value\n"), Ok(Some("value"))),
            (&file, Some(b"value\r\n"), Ok(Some("value"))),
            (&file, Some(b"value\n\n"), Ok(Some("value\n"))),
            (&file, Some(b" value "), Ok(Some(" value "))),
            (
                &file,
                Some(b"\n"),
                Err("TOKEN_FILE names \"/secret\", which is empty"),
            ),
            (
                &file,
                Some(b"\xff"),
                Err("the file that TOKEN_FILE names is not valid UTF-8"),
            ),
            (
                &file,
                None,
                Err("TOKEN_FILE names \"/secret\", which cannot be read: entity not found"),
            ),
            (
                &[("TOKEN", "value"), ("TOKEN_FILE", "/secret")],
                Some(b"value"),
                Err("TOKEN and TOKEN_FILE are both set: unset one of them"),
            ),
        ] {
            let wanted = wanted
                .map(|value| value.map(str::to_owned))
                .map_err(str::to_owned);
            assert_eq!(
                resolved(variables, content),
                wanted,
                "{variables:?} {content:?}"
            );
        }
    }
}
