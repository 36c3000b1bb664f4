//! [`AllowedMethods`]: the methods that a key may be used with.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Methods that a list can have, in the order in which it is written.
pub const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// One of [`METHODS`], by its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowedMethod(u8);

/// Set of methods; an empty one allows every method. `GET` includes `HEAD`, as on routes.
///
/// Written like `GET POST`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllowedMethods(u8);

/// Reason why a text is not a list of methods; never quotes the text.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "an allowed method is GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS, in upper case; GET includes HEAD"
)]
pub struct InvalidAllowedMethod;

impl AllowedMethods {
    /// Collects `methods`.
    #[must_use]
    pub fn new(methods: impl IntoIterator<Item = AllowedMethod>) -> Self {
        Self(
            methods
                .into_iter()
                .fold(0, |set, method| set | method.bit()),
        )
    }

    /// Iterates over the names, in the order of [`METHODS`].
    pub fn iter(self) -> impl Iterator<Item = &'static str> {
        let named = (0_u8..).zip(METHODS);
        named
            .filter(move |(position, _)| self.0 & AllowedMethod(*position).bit() != 0)
            .map(|(_, name)| name)
    }

    /// Returns whether the set is empty, so any method may be used.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns whether `method` is allowed: one of the set, or the set is empty.
    #[must_use]
    pub fn contains(self, method: &str) -> bool {
        let has = |method: &str| self.iter().any(|allowed| allowed == method);
        self.is_empty() || has(method) || (method == "HEAD" && has("GET"))
    }
}

impl AllowedMethod {
    fn bit(self) -> u8 {
        1 << self.0
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        METHODS
            .get(usize::from(self.0))
            .copied()
            .unwrap_or_default()
    }
}

impl FromStr for AllowedMethod {
    type Err = InvalidAllowedMethod;

    fn from_str(text: &str) -> Result<Self, InvalidAllowedMethod> {
        let mut named = (0_u8..).zip(METHODS);
        let found = named.find(|(_, name)| *name == text);
        found.map_or(Err(InvalidAllowedMethod), |(position, _)| {
            Ok(Self(position))
        })
    }
}

impl FromStr for AllowedMethods {
    type Err = InvalidAllowedMethod;

    /// Parses methods separated by spaces; an empty text is the empty set.
    fn from_str(text: &str) -> Result<Self, InvalidAllowedMethod> {
        let words = text.split(' ').filter(|word| !word.is_empty());
        let methods: Result<Vec<AllowedMethod>, _> = words.map(str::parse).collect();
        Ok(Self::new(methods?))
    }
}

/// Separates methods by one space, the stored form.
impl fmt::Display for AllowedMethods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, method) in self.iter().enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            f.write_str(method)?;
        }
        Ok(())
    }
}

impl serde::Serialize for AllowedMethods {
    /// Serializes as an array of strings.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_says_which_methods_may_be_used() {
        for (text, allowed, shown) in [
            ("", "GET HEAD POST PUT PATCH DELETE OPTIONS", ""),
            ("GET", "GET HEAD", "GET"),
            ("HEAD", "HEAD", "HEAD"),
            ("POST GET  POST", "GET HEAD POST", "GET POST"),
            ("OPTIONS DELETE", "DELETE OPTIONS", "DELETE OPTIONS"),
        ] {
            let set: AllowedMethods = text.parse().unwrap();
            for method in METHODS {
                let is_allowed = allowed.split(' ').any(|one| one == method);
                assert_eq!(set.contains(method), is_allowed, "{text:?} {method}");
            }
            assert_eq!(set.contains("TRACE"), text.is_empty(), "{text:?}");
            assert_eq!(set.to_string(), shown);
            assert_eq!(set.to_string().parse(), Ok(set));
        }
        for text in ["get", "TRACE", "GET,POST", "*"] {
            assert_eq!(text.parse::<AllowedMethods>(), Err(InvalidAllowedMethod));
        }
    }

    #[test]
    fn the_methods_are_those_that_the_gateway_proxies() {
        let known = &crate::http::target::KNOWN_METHODS;
        let known: Vec<&str> = known.iter().map(actix_http::Method::as_str).collect();
        for method in METHODS {
            assert!(known.contains(&method), "{method}");
        }
        assert_eq!(known.len(), METHODS.len());
        assert!(METHODS.iter().all(|method| {
            InvalidAllowedMethod.to_string().contains(method)
                && method.parse::<AllowedMethod>().unwrap().as_str() == *method
        }));
    }
}
