//! Scopes: what a consumer or a key may do, as words that routes ask for.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::keys::short_text::{SharedTexts, ShortText};

/// Longest scope, in bytes.
pub const MAX_SCOPE_BYTES: usize = 128;
/// Longest list of scopes, in bytes with one separator between: it travels to the origin in a header.
pub const MAX_SCOPES_BYTES: usize = 4096;

/// One scope: a `scope-token` of RFC 6749 section 3.3 (visible ASCII without `"` and `\`), and without the comma that
/// separates scopes on their way to the origin.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope(Box<str>);

/// A set of scopes, in order and without repetition.
// One text rather than a list of them, with one copy for all who have the same: a million keys each hold one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes(Option<Arc<ShortText>>);

/// Why a text is no scope, or a list no set of scopes.
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
    /// The scope as it is written.
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
    /// The set of `scopes`.
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

    /// Has the text be the copy that others have too.
    pub(super) fn share(&mut self, texts: &mut SharedTexts) {
        if let Some(text) = &mut self.0 {
            texts.share(text);
        }
    }

    /// Each scope, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.as_str().split(' ').filter(|scope| !scope.is_empty())
    }

    /// Each scope by itself, in order.
    #[must_use]
    pub fn to_list(&self) -> Vec<Scope> {
        self.iter().map(|scope| Scope(scope.into())).collect()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether `scope` is among them, letter for letter.
    #[must_use]
    pub fn contains(&self, scope: &str) -> bool {
        self.iter().any(|own| own == scope)
    }

    /// Those of `self` that `granted` has too.
    #[must_use]
    pub fn within(&self, granted: &Self) -> Self {
        let kept: Vec<&str> = self
            .iter()
            .filter(|scope| granted.contains(scope))
            .collect();
        Self::joined(&kept.join(" "))
    }

    /// The first scope of `self` that `granted` lacks.
    #[must_use]
    pub fn first_outside(&self, granted: &Self) -> Option<&str> {
        self.iter().find(|scope| !granted.contains(scope))
    }

    /// With a space between, as they are stored and as RFC 6750 writes them.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_deref().map_or("", |text| text)
    }

    /// With a comma between, as they travel to the origin.
    #[must_use]
    pub fn comma_separated(&self) -> String {
        self.as_str().replace(' ', ",")
    }
}

impl FromStr for Scopes {
    type Err = InvalidScope;

    /// Reads scopes with spaces between.
    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        // As they are stored: in order, so the text is the set already.
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
