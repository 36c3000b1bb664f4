//! Which route takes a request: by host, path and method. A route carries its policy and its upstream.
//!
//! Paths are compared as they will be forwarded, except that escapes of unreserved characters (RFC 3986, section
//! 2.3) and parameters of a segment make no difference: `/%61dmin` and `/admin;x` fall under a route for `/admin`.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use actix_http::Method;
use thiserror::Error;

use crate::keys::Scope;
use crate::proxy::Upstream;

/// What a request is matched by and what then holds for it.
#[derive(Debug, Clone)]
pub struct Route {
    /// What logs call it.
    pub name: Arc<str>,
    /// Hosts that it answers to, in lower case and without a port; none means every host.
    pub hosts: Vec<String>,
    /// The path that it covers, and everything below.
    pub path: PathPrefix,
    /// Methods that it takes; none means every known one.
    pub methods: Vec<Method>,
    /// Where its requests go.
    pub upstream: Arc<Upstream>,
    /// Scopes that a credential must have, all of them.
    pub scopes: Vec<Scope>,
    /// What happens to a request without a key.
    pub on_missing_key: MissingKey,
    /// Whether the origin sees the client's `Host` in place of its own.
    pub preserve_host: bool,
    /// Whether the origin is sent the consumer's metadata.
    pub forward_metadata: bool,
    /// Whether the origin's own address is taken off `Location` and `Content-Location`.
    pub rewrite_location: bool,
    /// Whether paths pass that gateway and origin could read differently.
    pub allow_ambiguous_path: bool,
}

/// What a route does with a request that has no key. A key that is there is always checked, and refused when it is
/// not valid: a bad key is never treated as none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingKey {
    /// It is refused.
    Reject,
    /// It passes without an identity, marked as anonymous.
    Anonymous,
}

/// Why no route takes a request.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum NoRoute {
    /// No route covers its host and path.
    #[error("no route covers this host and path")]
    NotFound,
    /// Routes do, for other methods: these.
    #[error("the routes of this path take other methods")]
    MethodNotAllowed(Vec<Method>),
}

/// The routes, most specific first.
#[derive(Debug, Clone)]
pub struct Routes(Vec<Arc<Route>>);

impl Routes {
    /// Orders `routes`: the longest path first, then those for named hosts, then those for named methods.
    #[must_use]
    pub fn new(mut routes: Vec<Route>) -> Self {
        routes.sort_by_key(|route| {
            (
                std::cmp::Reverse(route.path.0.len()),
                route.hosts.is_empty(),
                route.methods.is_empty(),
            )
        });
        Self(routes.into_iter().map(Arc::new).collect())
    }

    /// All of them, in the order in which they are tried.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter().map(|route| &**route)
    }

    /// Whether paths decide which policy a request falls under.
    #[must_use]
    pub fn depend_on_path(&self) -> bool {
        self.0.len() > 1
            || self
                .0
                .iter()
                .any(|route| route.path != PathPrefix::default())
    }

    /// The route for a request.
    ///
    /// # Errors
    /// That there is none, or that there is one for other methods only.
    pub fn find(&self, method: &Method, host: &str, path: &str) -> Result<&Arc<Route>, NoRoute> {
        let path = as_matched(path);
        let host = without_port(host);
        let mut allowed = Vec::new();
        for route in &self.0 {
            let named = || {
                route
                    .hosts
                    .iter()
                    .any(|name| name.eq_ignore_ascii_case(host))
            };
            if !route.path.covers(&path) || !(route.hosts.is_empty() || named()) {
                continue;
            }
            if route.methods.is_empty() || route.methods.contains(method) {
                return Ok(route);
            }
            allowed.extend(
                route
                    .methods
                    .iter()
                    .filter(|method| !allowed.contains(*method))
                    .cloned()
                    .collect::<Vec<_>>(),
            );
        }
        Err(if allowed.is_empty() {
            NoRoute::NotFound
        } else {
            NoRoute::MethodNotAllowed(allowed)
        })
    }
}

/// The path that a route covers, with everything below it: `/v1` covers `/v1`, `/v1/x` and `/v1;x`, not `/v10`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPrefix(String);

/// Why a text is no path of a route.
#[derive(Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is not a path for a route: write it as it stands in requests, such as \"/v1\", without dot segments, escapes, `//`, `;`, `?` and `#`"
)]
pub struct NotAPath(String);

impl PathPrefix {
    /// Takes the path of a route; a slash at its end makes no difference.
    ///
    /// # Errors
    /// It does not begin with a slash, or has what would not match as it is written.
    pub fn parse(text: &str) -> Result<Self, NotAPath> {
        let trimmed = text.strip_suffix('/').unwrap_or(text);
        let plain = trimmed.bytes().all(|byte| {
            byte.is_ascii_graphic() && !matches!(byte, b'%' | b';' | b'?' | b'#' | b'\\' | b'*')
        });
        let segments = trimmed
            .split('/')
            .skip(1)
            .all(|segment| !matches!(segment, "" | "." | ".."));
        if text.starts_with('/') && plain && segments {
            Ok(Self(trimmed.to_owned()))
        } else {
            Err(NotAPath(text.to_owned()))
        }
    }

    /// `path` is one that [`as_matched`] returned.
    fn covers(&self, path: &str) -> bool {
        path.strip_prefix(self.0.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ';']))
    }
}

impl Default for PathPrefix {
    /// Every path.
    fn default() -> Self {
        Self(String::new())
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "/" } else { &self.0 })
    }
}

/// A method that a route can name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodName(pub Method);

/// Why a text is no method of a route.
#[derive(Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is not a method that the gateway proxies: GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS, in upper case"
)]
pub struct NotAMethod(String);

impl MethodName {
    /// Takes a method as it stands in requests.
    ///
    /// # Errors
    /// It is none of [`KNOWN_METHODS`].
    pub fn parse(text: &str) -> Result<Self, NotAMethod> {
        KNOWN_METHODS
            .iter()
            .find(|known| known.as_str() == text)
            .cloned()
            .map(Self)
            .ok_or_else(|| NotAMethod(text.to_owned()))
    }
}

impl fmt::Display for MethodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// The methods that are proxied: those of RFC 9110, section 9 but `CONNECT` and `TRACE`, and `PATCH` (RFC 5789).
pub static KNOWN_METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// `path` with the escapes of unreserved characters taken out, as RFC 3986, section 6.2.2.2 compares paths.
fn as_matched(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut matched = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        matched.push_str(before);
        let decoded = after
            .get(..2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match decoded {
            Some(byte)
                if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') =>
            {
                matched.push(char::from(byte));
                rest = &after[2..];
            }
            _ => {
                matched.push('%');
                rest = after;
            }
        }
    }
    matched.push_str(rest);
    Cow::Owned(matched)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::OriginUrl;

    fn route(name: &str, hosts: &[&str], path: &str, methods: &[&str]) -> Route {
        Route {
            name: name.into(),
            hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
            path: PathPrefix::parse(path).unwrap(),
            methods: methods
                .iter()
                .map(|&method| MethodName::parse(method).unwrap().0)
                .collect(),
            upstream: Arc::new(Upstream::single(
                "test",
                OriginUrl::parse("http://127.0.0.1:9000").unwrap(),
            )),
            scopes: Vec::new(),
            on_missing_key: MissingKey::Reject,
            preserve_host: false,
            forward_metadata: false,
            rewrite_location: true,
            allow_ambiguous_path: false,
        }
    }

    #[test]
    fn the_most_specific_route_takes_the_request() {
        let routes = Routes::new(vec![
            route("all", &[], "/", &[]),
            route("api", &[], "/api", &[]),
            route("api-writes", &[], "/api", &["POST", "PUT"]),
            route("admin", &[], "/api/admin/", &[]),
            route("tenant", &["tenant.example.com"], "/api", &[]),
            route("reports", &[], "/reports", &["GET"]),
        ]);
        let find = |method: Method, host: &str, path: &str| match routes.find(&method, host, path) {
            Ok(route) => route.name.to_string(),
            Err(error) => format!("{error:?}"),
        };
        for (method, host, path, wanted) in [
            (Method::GET, "a", "/", "all"),
            (Method::GET, "a", "/x", "all"),
            (Method::GET, "a", "/api", "api"),
            (Method::GET, "a", "/api/", "api"),
            (Method::GET, "a", "/api/x", "api"),
            (Method::GET, "a", "/apis", "all"),
            (Method::GET, "a", "/API", "all"),
            (Method::POST, "a", "/api/x", "api-writes"),
            (Method::POST, "a", "/api/admin/x", "admin"),
            (Method::GET, "a", "/api/administrator", "api"),
            (Method::GET, "a", "/api;v=1/admin", "api"),
            (Method::GET, "a", "/api/admin;v=1", "admin"),
            (Method::GET, "a", "/%61pi/%61dmin", "admin"),
            (Method::GET, "a", "/api%2Fadmin", "all"),
            (Method::GET, "a", "/api/%", "api"),
            (Method::GET, "a", "/api/%6", "api"),
            (Method::GET, "a", "/api/%c3%a9", "api"),
            (Method::GET, "tenant.example.com", "/api/x", "tenant"),
            (Method::GET, "Tenant.Example.COM:8080", "/api/x", "tenant"),
            (Method::GET, "xtenant.example.com", "/api/x", "api"),
            (Method::GET, "a", "/reports", "reports"),
            (Method::POST, "a", "/reports", "all"),
        ] {
            assert_eq!(
                find(method.clone(), host, path),
                wanted,
                "{method} {host} {path}"
            );
        }
    }

    #[test]
    fn without_a_route_the_answer_says_whether_another_method_would_do() {
        let routes = Routes::new(vec![
            route("read", &[], "/a", &["GET", "HEAD"]),
            route("write", &["h"], "/a", &["PUT"]),
        ]);
        assert_eq!(
            routes.find(&Method::GET, "h", "/b").map(|_| ()),
            Err(NoRoute::NotFound)
        );
        assert_eq!(
            routes.find(&Method::POST, "x", "/a").map(|_| ()),
            Err(NoRoute::MethodNotAllowed(vec![Method::GET, Method::HEAD]))
        );
        assert_eq!(
            routes.find(&Method::POST, "h", "/a").map(|_| ()),
            Err(NoRoute::MethodNotAllowed(vec![
                Method::PUT,
                Method::GET,
                Method::HEAD
            ]))
        );
    }

    #[test]
    fn paths_of_routes_are_literal() {
        for (text, accepted) in [
            ("/", true),
            ("/v1", true),
            ("/v1/", true),
            ("/v1/a-b_c~d.e", true),
            ("", false),
            ("v1", false),
            ("//", false),
            ("/v1//x", false),
            ("/v1/../x", false),
            ("/./x", false),
            ("/v1/*", false),
            ("/%61", false),
            ("/a;b", false),
            ("/a?b", false),
            ("/a#b", false),
            ("/a b", false),
            ("/é", false),
        ] {
            assert_eq!(PathPrefix::parse(text).is_ok(), accepted, "{text:?}");
        }
    }
}
