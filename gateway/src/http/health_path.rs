//! Path of the health check on the public listener.

use std::fmt;

use thiserror::Error;

/// Path with exactly one spelling, so that every server and proxy reads it alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthPath(String);

/// The text is not a health path.
#[derive(Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is not a path for health checks: it begins with '/', and has letters, digits, '-', '_', '.' and single '/' only, without dot segments, a query or escapes, such as \"/healthz\""
)]
pub struct NotAHealthPath(String);

impl HealthPath {
    /// Parses a health path.
    ///
    /// # Errors
    /// Not a path, or one with several spellings.
    pub fn parse(text: &str) -> Result<Self, NotAHealthPath> {
        let has_one_spelling = |segment: &str| {
            !matches!(segment, "" | "." | "..")
                && segment
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        text.strip_prefix('/')
            .filter(|rest| rest.is_empty() || rest.split('/').all(has_one_spelling))
            .map(|_| Self(text.to_owned()))
            .ok_or_else(|| NotAHealthPath(text.to_owned()))
    }

    /// Path as it stands in requests.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HealthPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_health_path_has_one_spelling() {
        for (text, is_taken) in [
            ("/", true),
            ("/healthz", true),
            ("/-/healthy", true),
            ("/.well-known/health_1.json", true),
            ("", false),
            ("healthz", false),
            ("//healthz", false),
            ("/healthz/", false),
            ("/a//b", false),
            ("/./healthz", false),
            ("/a/..", false),
            ("/%68ealthz", false),
            ("/healthz?full=1", false),
            ("/healthz#a", false),
            ("/healthz;a=1", false),
            ("/health z", false),
            ("/h\u{e9}alth", false),
            ("http://gateway/healthz", false),
            ("*", false),
        ] {
            assert_eq!(HealthPath::parse(text).is_ok(), is_taken, "{text:?}");
        }
    }
}
