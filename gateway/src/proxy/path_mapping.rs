//! [`PathMapping`]: the paths of a route as its origin has them, without the route's own path and
//! below the upstream's base path.

use std::borrow::Cow;

/// Maps paths of clients to those of an origin, and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathMapping<'r> {
    /// Path that is stripped; empty, or without a slash at its end.
    pub stripped: &'r str,
    /// Base path that is put before the rest; empty, or without a slash at its end.
    pub base: &'r str,
}

impl PathMapping<'_> {
    /// Whether paths are forwarded as they come.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.stripped.is_empty() && self.base.is_empty()
    }

    /// Path for the origin; `target` is a path below the stripped one, with or without a query,
    /// which stays byte for byte. A path always begins with a slash.
    #[must_use]
    pub fn to_origin<'t>(&self, target: &'t str) -> Cow<'t, str> {
        if self.is_identity() {
            return Cow::Borrowed(target);
        }
        let rest = target.strip_prefix(self.stripped).unwrap_or(target);
        Cow::Owned(joined(self.base, rest))
    }

    /// Path for the client; `None` for a path outside the base path, which no path of the client
    /// leads to. `path` may have a query.
    #[must_use]
    pub fn to_client(&self, path: &str) -> Option<String> {
        let rest = path.strip_prefix(self.base)?;
        matches!(rest.as_bytes().first(), None | Some(b'/' | b'?' | b'#'))
            .then(|| joined(self.stripped, rest))
    }

    /// Path for the client of a path as an origin reads it, likewise.
    #[must_use]
    pub fn reading_to_client(&self, path: &[u8]) -> Option<Vec<u8>> {
        let rest = path.strip_prefix(self.base.as_bytes())?;
        matches!(rest.first(), None | Some(b'/')).then(|| {
            let path = [self.stripped.as_bytes(), rest].concat();
            if path.is_empty() { vec![b'/'] } else { path }
        })
    }
}

fn joined(before: &str, rest: &str) -> String {
    let slash = if before.is_empty() && !rest.starts_with('/') {
        "/"
    } else {
        ""
    };
    [before, slash, rest].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_joined_exactly_and_leads_back() {
        for (stripped, base, client, origin) in [
            ("", "", "/orders?a=/b", "/orders?a=/b"),
            ("/orders", "", "/orders", "/"),
            ("/orders", "", "/orders/", "/"),
            ("/orders", "", "/orders?a//b", "/?a//b"),
            ("/orders", "", "/orders/5/?", "/5/?"),
            ("/orders", "", "/orders/orders/5", "/orders/5"),
            ("/orders", "/v1", "/orders", "/v1"),
            ("/orders", "/v1", "/orders/", "/v1/"),
            ("/orders", "/v1", "/orders?x=%2F", "/v1?x=%2F"),
            ("/orders", "/v1", "/orders/%41;b", "/v1/%41;b"),
            ("", "/v1", "/", "/v1/"),
            ("", "/v1", "/v1", "/v1/v1"),
            ("", "/a/b", "/c?d", "/a/b/c?d"),
            // As the client wrote it: nothing is merged.
            ("/orders", "/v1", "/orders//x", "/v1//x"),
        ] {
            let mapping = PathMapping { stripped, base };
            assert_eq!(mapping.to_origin(client), origin, "{mapping:?}");
            let back = mapping.to_client(origin).unwrap();
            assert_eq!(mapping.to_origin(&back), origin, "{back} of {client}");
        }
    }

    #[test]
    fn what_is_outside_the_base_path_has_no_path_for_clients() {
        let mapping = PathMapping {
            stripped: "/orders",
            base: "/v1",
        };
        for (path, wanted) in [
            ("/v1", Some("/orders")),
            ("/v1/", Some("/orders/")),
            ("/v1?a", Some("/orders?a")),
            ("/v1#a", Some("/orders#a")),
            ("/v10", None),
            ("/V1/x", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(mapping.to_client(path).as_deref(), wanted, "{path}");
            if !path.contains(['?', '#']) {
                let read = mapping.reading_to_client(path.as_bytes());
                assert_eq!(read.as_deref(), wanted.map(str::as_bytes), "{path}");
            }
        }
    }
}
