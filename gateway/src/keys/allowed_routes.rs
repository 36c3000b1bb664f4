//! [`AllowedRoutes`]: the routes that a key may be used on.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// Maximum number of routes of one key.
pub const MAX_ROUTES: usize = 64;
/// Maximum length of the name of a route, in bytes.
pub const MAX_ROUTE_NAME_BYTES: usize = 100;

/// Name of a route, as the configuration of a gateway accepts it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct RouteName(Box<str>);

/// Names of routes, sorted and without duplicates; an empty list allows every route. A name that no
/// route has allows nothing.
// A pointer, because most lists are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedRoutes(Option<Arc<Vec<RouteName>>>);

/// Reason why a text is not a list of routes; never quotes the text.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidAllowedRoutes {
    /// Not the name of a route.
    #[error(
        "the name of a route is 1 to {MAX_ROUTE_NAME_BYTES} visible ASCII characters, with spaces only between them, without \" and \\"
    )]
    Name,
    /// More than [`MAX_ROUTES`].
    #[error("there are at most {MAX_ROUTES} allowed routes")]
    TooMany,
    /// Not a JSON array of texts.
    #[error("allowed routes are a JSON array of texts")]
    NoArray,
}

impl AllowedRoutes {
    /// Sorts and deduplicates `names`.
    ///
    /// # Errors
    /// More than [`MAX_ROUTES`].
    pub fn new(names: impl IntoIterator<Item = RouteName>) -> Result<Self, InvalidAllowedRoutes> {
        let mut names: Vec<RouteName> = names.into_iter().collect();
        names.sort();
        names.dedup();
        match names.len() {
            0 => Ok(Self::default()),
            1..=MAX_ROUTES => Ok(Self(Some(Arc::new(names)))),
            _ => Err(InvalidAllowedRoutes::TooMany),
        }
    }

    /// Iterates over the names in order.
    pub fn iter(&self) -> impl Iterator<Item = &RouteName> {
        self.0.iter().flat_map(|names| names.iter())
    }

    /// Returns whether the list is empty, so any route may be used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns whether the route `name` is allowed: one of the list, or the list is empty.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.is_empty() || self.iter().any(|allowed| allowed.as_str() == name)
    }
}

impl RouteName {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RouteName {
    type Err = InvalidAllowedRoutes;

    fn from_str(text: &str) -> Result<Self, InvalidAllowedRoutes> {
        let is_accepted = |byte: u8| (b' '..=b'~').contains(&byte) && !matches!(byte, b'"' | b'\\');
        let is_name = (1..=MAX_ROUTE_NAME_BYTES).contains(&text.len())
            && text.trim() == text
            && text.bytes().all(is_accepted);
        let name = is_name.then(|| Self(text.into()));
        name.ok_or(InvalidAllowedRoutes::Name)
    }
}

impl fmt::Display for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AllowedRoutes {
    type Err = InvalidAllowedRoutes;

    /// Parses the stored form: a JSON array of texts, empty for no names.
    fn from_str(text: &str) -> Result<Self, InvalidAllowedRoutes> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let names: Vec<String> =
            serde_json::from_str(text).map_err(|_| InvalidAllowedRoutes::NoArray)?;
        let names: Result<Vec<RouteName>, _> = names.iter().map(|name| name.parse()).collect();
        Self::new(names?)
    }
}

/// Formats the names for people, with a comma between two.
impl fmt::Display for AllowedRoutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, name) in self.iter().enumerate() {
            if position > 0 {
                f.write_str(", ")?;
            }
            name.fmt(f)?;
        }
        Ok(())
    }
}

impl serde::Serialize for AllowedRoutes {
    /// Serializes as an array of strings.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(names: &[&str]) -> AllowedRoutes {
        AllowedRoutes::new(names.iter().map(|name| name.parse().unwrap())).unwrap()
    }

    #[test]
    fn a_list_says_which_routes_may_be_used() {
        let some = routes(&["/v1", "orders, and more", "/v1"]);
        for (name, is_allowed) in [
            ("/v1", true),
            ("orders, and more", true),
            ("/v1/x", false),
            ("/V1", false),
            ("", false),
        ] {
            assert_eq!(some.contains(name), is_allowed, "{name}");
            assert!(routes(&[]).contains(name));
        }
        assert_eq!(some.to_string(), "/v1, orders, and more");
        assert_eq!(size_of::<AllowedRoutes>(), size_of::<usize>());
        for list in [some, routes(&[])] {
            let stored = serde_json::to_string(&list).unwrap();
            assert_eq!(stored.parse(), Ok(list));
        }
    }

    #[test]
    fn what_is_no_list_of_routes_is_refused() {
        let of = |count: usize| (0..count).map(|number| format!("r{number}").parse().unwrap());
        assert!(AllowedRoutes::new(of(MAX_ROUTES)).is_ok());
        assert_eq!(
            AllowedRoutes::new(of(MAX_ROUTES + 1)),
            Err(InvalidAllowedRoutes::TooMany)
        );
        for text in ["a b", "[1]", "{}"] {
            let read = text.parse::<AllowedRoutes>();
            assert_eq!(read, Err(InvalidAllowedRoutes::NoArray), "{text}");
        }
    }

    #[test]
    fn a_name_is_one_that_a_configuration_accepts() {
        use crate::config::value::{QuotableText, Setting as _};
        let long = ["a".repeat(100), "a".repeat(101)];
        for text in [
            "/", "/v1", "a b", " a", "a ", "", "a\"b", "a\\b", "\u{e4}", "a\tb", &long[0], &long[1],
        ] {
            let accepted = QuotableText::parse(text).is_ok();
            assert_eq!(text.parse::<RouteName>().is_ok(), accepted, "{text:?}");
        }
    }
}
