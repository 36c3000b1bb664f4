//! Path of a route at which a key may ask about itself.

use std::fmt;

use thiserror::Error;

use crate::http::health_path::HealthPath;

/// Path with exactly one spelling, like that of the health check, and not `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfPath(HealthPath);

/// The text is not such a path.
#[derive(Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is not a path at which a key may ask about itself: it begins with '/', and has letters, digits, '-', '_', '.' and single '/' only, without dot segments, a query or escapes, such as \"/whoami\""
)]
pub struct NotASelfPath(String);

impl SelfPath {
    /// Parses a path.
    ///
    /// # Errors
    /// Not a path, `/`, or one with several spellings.
    pub fn parse(text: &str) -> Result<Self, NotASelfPath> {
        match HealthPath::parse(text) {
            Ok(path) if path.as_str() != "/" => Ok(Self(path)),
            Ok(_) | Err(_) => Err(NotASelfPath(text.to_owned())),
        }
    }

    /// Path as it stands in requests.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether the path is that of the health check.
    #[must_use]
    pub fn is(&self, health: &HealthPath) -> bool {
        self.0 == *health
    }
}

impl fmt::Display for SelfPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
