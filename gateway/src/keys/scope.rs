//! Scopes: permissions of consumers and keys, required by routes.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::keys::short_text::{SharedTexts, ShortText};

/// Maximum length of a scope, in bytes.
pub const MAX_SCOPE_BYTES: usize = 128;
/// Maximum length of a list of scopes, in bytes with one separator between: it travels to the
/// origin in a header.
pub const MAX_SCOPES_BYTES: usize = 4096;

/// A `scope-token` of RFC 6749 section 3.3 (visible ASCII without `"` and `\`), also without the
/// comma that separates scopes in the header to the origin.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope(Box<str>);

/// A set of scopes, sorted and without duplicates.
// One shared text instead of a list: each of a million keys holds a set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes(Option<Arc<ShortText>>);

/// The text is not a scope, or the list is too long.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidScope {
    /// Not a scope-token, or too long.
    #[error(
        "a scope is 1 to {MAX_SCOPE_BYTES} visible ASCII characters without space, comma, `\"` and `\\`"
    )]
    Scope,
    /// More than [`MAX_SCOPES_BYTES`].
    #[error("scopes have at most {MAX_SCOPES_BYTES} bytes together")]
    TooMany,
}

impl Scope {
    /// Returns the text of the scope.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Scope {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        if is_scope(text) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidScope::Scope)
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Scopes {
    /// Sorts and deduplicates `scopes`.
    pub fn new(scopes: impl IntoIterator<Item = Scope>) -> Result<Self, InvalidScope> {
        let mut scopes: Vec<Scope> = scopes.into_iter().collect();
        scopes.sort();
        scopes.dedup();
        let words: Vec<&str> = scopes.iter().map(Scope::as_str).collect();
        let joined = words.join(" ");
        if joined.len() > MAX_SCOPES_BYTES {
            Err(InvalidScope::TooMany)
        } else {
            Ok(Self::joined(&joined))
        }
    }

    fn joined(text: &str) -> Self {
        Self((!text.is_empty()).then(|| Arc::new(text.into())))
    }

    /// Replaces the text by the shared copy.
    pub(super) fn share(&mut self, texts: &mut SharedTexts) {
        if let Some(text) = &mut self.0 {
            texts.share(text);
        }
    }

    /// Iterates over the scopes in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.as_str().split(' ').filter(|scope| !scope.is_empty())
    }

    /// Returns the scopes as separate values, in order.
    #[must_use]
    pub fn to_list(&self) -> Vec<Scope> {
        self.iter().map(|scope| Scope(scope.into())).collect()
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns whether the set contains `scope`; the comparison is case-sensitive.
    #[must_use]
    pub fn contains(&self, scope: &str) -> bool {
        self.iter().any(|own| own == scope)
    }

    /// Returns the intersection with `granted`.
    #[must_use]
    pub fn within(&self, granted: &Self) -> Self {
        let kept: Vec<&str> = self
            .iter()
            .filter(|scope| granted.contains(scope))
            .collect();
        Self::joined(&kept.join(" "))
    }

    /// Returns the union with `others`. It may be longer than [`MAX_SCOPES_BYTES`].
    #[must_use]
    pub fn with<'s>(&'s self, others: &'s Self) -> Cow<'s, Self> {
        if others.first_outside(self).is_none() {
            return Cow::Borrowed(self);
        }
        if self.is_empty() {
            return Cow::Borrowed(others);
        }
        let mut all: Vec<&str> = self.iter().chain(others.iter()).collect();
        all.sort_unstable();
        all.dedup();
        Cow::Owned(Self::joined(&all.join(" ")))
    }

    /// Returns the first scope that `granted` lacks.
    #[must_use]
    pub fn first_outside(&self, granted: &Self) -> Option<&str> {
        self.iter().find(|scope| !granted.contains(scope))
    }

    /// Returns the scopes separated by spaces: the stored form and that of RFC 6750.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_deref().map_or("", |text| text)
    }

    /// Returns the scopes separated by commas: the form of the header to the origin.
    #[must_use]
    pub fn comma_separated(&self) -> String {
        self.as_str().replace(' ', ",")
    }
}

impl FromStr for Scopes {
    type Err = InvalidScope;

    /// Parses scopes separated by spaces.
    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        // Stored texts are sorted, so they can be used as they are.
        if text.len() <= MAX_SCOPES_BYTES
            && text.split(' ').all(is_scope)
            && text.split(' ').is_sorted_by(|one, next| one < next)
        {
            return Ok(Self::joined(text));
        }
        let scopes: Result<Vec<Scope>, InvalidScope> = text
            .split(' ')
            .filter(|word| !word.is_empty())
            .map(str::parse)
            .collect();
        Self::new(scopes?)
    }
}

impl serde::Serialize for Scopes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

fn is_scope(text: &str) -> bool {
    (1..=MAX_SCOPE_BYTES).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b','))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(text: &str) -> Scopes {
        text.parse().unwrap()
    }

    #[test]
    fn a_scope_is_a_scope_token_without_comma() {
        let longest = "s".repeat(MAX_SCOPE_BYTES);
        for text in [
            "a",
            "orders:read",
            "https://example.org/scope?x=1",
            "!#$%&'()*+-./:;<=>?@[]^_`{|}~",
            &longest,
        ] {
            assert!(text.parse::<Scope>().is_ok(), "{text:?}");
        }
        let too_long = "s".repeat(MAX_SCOPE_BYTES + 1);
        for text in [
            "", "a b", "a,b", "a\"b", "a\\b", "ä", "a\n", "\u{7f}", &too_long,
        ] {
            assert_eq!(text.parse::<Scope>(), Err(InvalidScope::Scope), "{text:?}");
        }
    }

    #[test]
    fn a_set_is_ordered_and_has_no_repetition() {
        let set = scopes("write  read write");
        assert_eq!(set.as_str(), "read write");
        assert_eq!(set.comma_separated(), "read,write");
        assert_eq!(set, scopes(set.as_str()));
        assert!(set.contains("read"));
        assert!(!set.contains("rea"));
        assert!(!set.contains(""));
        assert!(!set.contains("read write"));
    }

    #[test]
    fn sets_narrow_each_other() {
        let granted = scopes("orders:read orders:write");
        assert_eq!(
            scopes("orders:read users:read").within(&granted),
            scopes("orders:read")
        );
        assert_eq!(
            scopes("orders:read users:read").first_outside(&granted),
            Some("users:read")
        );
        assert_eq!(scopes("orders:read").first_outside(&granted), None);
        assert!(scopes("").within(&granted).is_empty());
    }

    #[test]
    fn too_many_scopes_are_refused() {
        let many = (0..1000).map(|number| format!("scope-{number}").parse().unwrap());
        assert_eq!(Scopes::new(many), Err(InvalidScope::TooMany));
    }
}
