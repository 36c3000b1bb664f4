//! [`Plan`]: a named bundle of scopes and numbers that consumers refer to.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::keys::{Allowance, Scopes};

/// Maximum length of a plan name, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// The part of a plan that requests need. The description and the lifetimes of keys stay in the
/// store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Immutable name.
    pub name: PlanName,
    /// Scopes granted to every consumer of the plan, besides the consumer's own.
    pub scopes: Scopes,
    /// Numbers of every consumer of the plan, unless the consumer has its own.
    pub allowance: Allowance,
}

/// Name of a plan: 1 to [`MAX_NAME_BYTES`] letters, digits, `_`, `.` and `-`, the first of them a
/// letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlanName(Box<str>);

/// The text is not a [`PlanName`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "the name of a plan is 1 to {MAX_NAME_BYTES} letters, digits, `_`, `.` and `-`, the first of them a letter or digit"
)]
pub struct InvalidPlanName;

impl PlanName {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PlanName {
    type Err = InvalidPlanName;

    fn from_str(text: &str) -> Result<Self, InvalidPlanName> {
        let is_name = (1..=MAX_NAME_BYTES).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
            && text.starts_with(|first: char| first.is_ascii_alphanumeric());
        is_name.then(|| Self(text.into())).ok_or(InvalidPlanName)
    }
}

impl fmt::Display for PlanName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl serde::Serialize for PlanName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_fit_for_a_url_and_a_metric() {
        let (longest, too_long) = ("n".repeat(MAX_NAME_BYTES), "n".repeat(MAX_NAME_BYTES + 1));
        for text in ["gold", "Gold", "free_tier", "v1.2", "2-a", &longest] {
            assert_eq!(text.parse::<PlanName>().unwrap().as_str(), text);
        }
        for text in [
            "", ".", "..", "-a", "_a", "a b", "a/b", "ä", "a\n", &too_long,
        ] {
            assert_eq!(text.parse::<PlanName>(), Err(InvalidPlanName), "{text:?}");
        }
    }
}
