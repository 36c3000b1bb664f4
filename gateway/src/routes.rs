//! Routing by host, path and method. A route carries its policy and its upstream.
//!
//! A request is routed once per possible reading of its path ([`readings`]); all readings must
//! agree.

mod index;
pub mod shape;

use std::collections::HashSet;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use actix_http::Method;
use thiserror::Error;

use crate::auth::demand::Demand;
use crate::auth::key_sources::KeySources;
use crate::auth::methods::Methods;
use crate::http::cors::Cors;
use crate::http::readings;
use crate::http::self_path::SelfPath;
use crate::http::target::KNOWN_METHODS;
use crate::http::upgrade::UpgradeProtocol;
use crate::limits::OfRoute;
use crate::limits::concurrency::Holding;
use crate::proxy::Upstream;
use crate::proxy::path_mapping::PathMapping;
use crate::proxy::upstream::Proof;
use crate::routes::index::Index;
use crate::routes::shape::Shape;

/// Match conditions and policy of a route. `U` is the upstream: its name in the settings, the
/// upstream itself once the gateway runs.
#[derive(Debug, Clone)]
pub struct Route<U = Arc<Upstream>> {
    /// Name in logs.
    pub name: Arc<str>,
    /// Hosts in lower case, without port; empty means every host.
    pub hosts: Vec<String>,
    /// Path prefix.
    pub path: PathPrefix,
    /// Whether the origin gets paths without this prefix.
    pub strip_prefix: bool,
    /// Accepted methods; empty means every known one.
    pub methods: Vec<Method>,
    /// Upstream.
    pub upstream: U,
    /// Whether the upstream's secret and the caller's identity are sent.
    pub send_secret: bool,
    /// Conditions that callers must meet.
    pub demand: Demand,
    /// Kinds of credentials that are taken.
    pub auth: Methods,
    /// Places that a credential may come from.
    pub key_sources: KeySources,
    /// What pages of other origins may do; `None` leaves CORS to the origin.
    pub cors: Option<Arc<Cors>>,
    /// Whether the origin gets the client's `Host` instead of its own.
    pub preserve_host: bool,
    /// Whether the consumer's metadata is sent to the origin.
    pub forward_metadata: bool,
    /// Whether the origin's own address is removed from `Location` and `Content-Location`.
    pub rewrite_location: bool,
    /// What it changes of requests and answers; `None` for nothing.
    pub shape: Option<Box<Shape>>,
    /// Protocols that clients may upgrade to.
    pub upgrades: Vec<UpgradeProtocol>,
    /// Whether ambiguous paths pass.
    pub allow_ambiguous_path: bool,
    /// Path at which a key may ask about itself.
    pub self_path: Option<SelfPath>,
    /// Units that a request takes of each limit; 0 takes none and needs a free one.
    pub cost: u64,
    /// Of the limits by key, consumer and route, those that hold here; `None` for all.
    pub limits: Option<Box<[Arc<str>]>>,
    /// Limits in force here.
    pub in_force: OfRoute,
    /// Limits on requests in flight that hold here.
    pub in_flight: Holding,
}

/// Reason for not routing a request.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum NoRoute {
    /// No route covers host and path.
    #[error("no route covers this host and path")]
    NotFound,
    /// Routes cover host and path for these methods only.
    #[error("the routes of this path accept other methods")]
    MethodNotAllowed(Vec<Method>),
    /// Readings of the path fall under different routes.
    #[error("readings of the path fall under different routes")]
    Ambiguous,
}

/// Whether origins compare paths case-sensitively.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathCase {
    /// Every origin does.
    Sensitive,
    /// Some do and some do not: both readings count.
    Either,
}

/// Routes, most specific first.
#[derive(Debug, Clone)]
pub struct Routes {
    routes: Vec<Arc<Route>>,
    index: Index,
    case: PathCase,
    depend_on_path: bool,
    depend_on_host: bool,
    read_queries: bool,
    answer_pages: bool,
    self_paths: HashSet<String>,
    take_tokens: bool,
}

impl Routes {
    /// Sorts `routes`: longest path first, then those with hosts, then those with methods.
    #[must_use]
    pub fn new(mut routes: Vec<Route>, case: PathCase) -> Self {
        routes.sort_by_key(|route| {
            (
                std::cmp::Reverse(route.path.0.len()),
                route.hosts.is_empty(),
                route.methods.is_empty(),
            )
        });
        for route in &mut routes {
            let get = route
                .methods
                .iter()
                .position(|method| *method == Method::GET);
            if let Some(get) = get.filter(|_| !route.methods.contains(&Method::HEAD)) {
                route.methods.insert(get + 1, Method::HEAD);
            }
        }
        let every_path = PathPrefix::default();
        Self {
            case,
            depend_on_path: routes
                .iter()
                .any(|route| route.path != every_path || !route.mapping().is_identity()),
            depend_on_host: routes.iter().any(|route| !route.hosts.is_empty()),
            take_tokens: routes.iter().any(|route| route.auth.take_tokens()),
            answer_pages: routes.iter().any(|route| route.cors.is_some()),
            self_paths: routes
                .iter()
                .filter_map(|route| Some(route.self_path.as_ref()?.as_str().to_owned()))
                .collect(),
            index: Index::new(routes.iter(), case),
            read_queries: routes.iter().any(|route| route.key_sources.read_query()),
            routes: routes.into_iter().map(Arc::new).collect(),
        }
    }

    /// Iterates in matching order.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter().map(|route| &**route)
    }

    /// Whether a route has this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.iter().any(|route| &*route.name == name)
    }

    /// Whether any route depends on the host.
    #[must_use]
    pub fn depend_on_host(&self) -> bool {
        self.depend_on_host
    }

    /// Whether any route takes keys from the query.
    #[must_use]
    pub fn read_queries(&self) -> bool {
        self.read_queries
    }

    /// Whether any route takes tokens.
    #[must_use]
    pub fn take_tokens(&self) -> bool {
        self.take_tokens
    }

    /// Whether any route answers pages of other origins.
    #[must_use]
    pub fn answer_pages(&self) -> bool {
        self.answer_pages
    }

    /// Whether keys may ask about themselves at this path, on some route.
    #[must_use]
    pub fn have_self_path(&self, path: &str) -> bool {
        !self.self_paths.is_empty() && self.self_paths.contains(path)
    }

    /// Finds the route of a request. `HEAD` is routed as `GET`: origins serve both with the same
    /// handler (RFC 9110, section 9.3.2).
    ///
    /// # Errors
    /// No route, a route for other methods only, or readings that disagree.
    pub fn find(&self, method: &Method, host: &str, path: &str) -> Result<&Arc<Route>, NoRoute> {
        let host = host_name(host);
        let written = self.of_reading(method, host, path.as_bytes());
        // The path for the origin is plain if this one is.
        if !self.depend_on_path || readings::is_plain(path.as_bytes()) {
            return written;
        }
        let agree = readings::each_reading(path.as_bytes(), |reading| {
            go_on_if(is_same(&written, &self.of_reading(method, host, reading)))
        });
        let agree = agree == Ok(ControlFlow::Continue(()))
            && match &written {
                Ok(route) => self.means_the_same_at_origin(route, method, host, path),
                Err(_) => true,
            };
        if agree {
            written
        } else {
            Err(NoRoute::Ambiguous)
        }
    }

    /// Whether every reading of the path that the origin gets stays below its base path, and falls
    /// under `route` where it leads back to.
    fn means_the_same_at_origin(
        &self,
        route: &Arc<Route>,
        method: &Method,
        host: &str,
        path: &str,
    ) -> bool {
        let mapping = route.mapping();
        if mapping.is_identity() {
            return true;
        }
        let forwarded = mapping.to_origin(path);
        let agree = readings::each_reading(forwarded.as_bytes(), |reading| {
            let path = mapping.reading_to_client(reading);
            go_on_if(path.is_some_and(|path| {
                let read = self.of_reading(method, host, &path);
                read.is_ok_and(|read| Arc::ptr_eq(read, route))
            }))
        });
        agree == Ok(ControlFlow::Continue(()))
    }

    /// Finds the route for one reading of a path.
    fn of_reading(&self, method: &Method, host: &str, path: &[u8]) -> Result<&Arc<Route>, NoRoute> {
        let mut allowed = Vec::new();
        let mut all_written_so = true;
        for position in self.index.covering(host, path) {
            let Some(route) = self.routes.get(position) else {
                continue;
            };
            let Some(cover) = route.path.covers(path, self.case) else {
                continue;
            };
            if route.takes(method) {
                return match cover {
                    Cover::AsWritten => Ok(route),
                    Cover::Loosely => Err(NoRoute::Ambiguous),
                };
            }
            all_written_so &= cover == Cover::AsWritten;
            for method in &route.methods {
                if !allowed.contains(method) {
                    allowed.push(method.clone());
                }
            }
        }
        Err(match (allowed.is_empty(), all_written_so) {
            (_, false) => NoRoute::Ambiguous,
            (true, true) => NoRoute::NotFound,
            (false, true) => NoRoute::MethodNotAllowed(allowed),
        })
    }
}

impl<U> Route<U> {
    /// Creates a route with default policy for every host and method.
    #[must_use]
    pub fn new(name: &str, path: PathPrefix, upstream: U) -> Self {
        Self {
            name: name.into(),
            hosts: Vec::new(),
            path,
            strip_prefix: false,
            methods: Vec::new(),
            upstream,
            send_secret: true,
            demand: Demand::ANY_KEY,
            auth: Methods::KEYS,
            key_sources: KeySources::default(),
            cors: None,
            preserve_host: false,
            forward_metadata: false,
            rewrite_location: true,
            shape: None,
            upgrades: vec![UpgradeProtocol::websocket()],
            allow_ambiguous_path: false,
            self_path: None,
            cost: 1,
            limits: None,
            in_force: OfRoute::default(),
            in_flight: Holding::default(),
        }
    }

    /// Replaces the upstream name by the upstream that `find` returns.
    #[must_use]
    pub fn with_upstream<V>(self, find: impl FnOnce(U) -> V) -> Route<V> {
        Route {
            name: self.name,
            hosts: self.hosts,
            path: self.path,
            strip_prefix: self.strip_prefix,
            methods: self.methods,
            upstream: find(self.upstream),
            send_secret: self.send_secret,
            demand: self.demand,
            auth: self.auth,
            key_sources: self.key_sources,
            cors: self.cors,
            preserve_host: self.preserve_host,
            forward_metadata: self.forward_metadata,
            rewrite_location: self.rewrite_location,
            shape: self.shape,
            upgrades: self.upgrades,
            allow_ambiguous_path: self.allow_ambiguous_path,
            self_path: self.self_path,
            cost: self.cost,
            limits: self.limits,
            in_force: self.in_force,
            in_flight: self.in_flight,
        }
    }

    /// Whether the route accepts the method.
    #[must_use]
    pub fn takes(&self, method: &Method) -> bool {
        let method = if *method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        self.methods.is_empty() || self.methods.contains(method)
    }
}

impl Route {
    /// Whether headers of answers are edited.
    #[must_use]
    pub fn edits_answers(&self) -> bool {
        let shape = self.shape.as_ref();
        shape.is_some_and(|shape| !shape.response_headers.is_empty())
    }

    /// Maximum bytes of a request body, where `usual` is that of the listener.
    #[must_use]
    pub fn max_body_bytes(&self, usual: u64) -> u64 {
        let shape = self.shape.as_ref();
        shape
            .and_then(|shape| shape.max_body_bytes)
            .unwrap_or(usual)
    }

    /// Paths of this route at its origin.
    #[must_use]
    pub fn mapping(&self) -> PathMapping<'_> {
        PathMapping {
            stripped: if self.strip_prefix { &self.path.0 } else { "" },
            base: self.upstream.base_path(),
        }
    }

    /// What requests of this route prove themselves with.
    #[must_use]
    pub fn proof(&self) -> &Proof {
        match self.send_secret {
            true => &self.upstream.policy().proof,
            false => &Proof::Withheld,
        }
    }
}

fn go_on_if(agrees: bool) -> ControlFlow<()> {
    if agrees {
        ControlFlow::Continue(())
    } else {
        ControlFlow::Break(())
    }
}

/// Whether two look-ups gave the same route, or failed for the same reason.
#[must_use]
pub fn is_same(one: &Result<&Arc<Route>, NoRoute>, other: &Result<&Arc<Route>, NoRoute>) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) => Arc::ptr_eq(one, other),
        (Err(one), Err(other)) => one == other && *one != NoRoute::Ambiguous,
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
    }
}

/// How a route's path matches a reading of the request path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cover {
    /// Byte for byte.
    AsWritten,
    /// Case-insensitively, or with a space for `+`.
    Loosely,
}

/// Path of a route and everything below: `/v1` covers `/v1` and `/v1/x`, not `/v10`. No step of
/// [`readings::STEPS`] changes it, so it means the same to every origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPrefix(String);

/// Why a text is no path of a route.
#[derive(Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is not a path for a route: write it as origins read it, such as \"/v1\" or \"/v1/users:purge\", of segments that consist of letters, digits and -._~!$&'()+,=:@ and do not end in a dot; it covers what is below it without `*`"
)]
pub struct NotAPath(String);

impl PathPrefix {
    /// Parses a route path; a trailing slash makes no difference.
    ///
    /// # Errors
    /// No leading slash, or a text that some origins read differently.
    pub fn parse(text: &str) -> Result<Self, NotAPath> {
        let trimmed = text.strip_suffix('/').unwrap_or(text);
        let is_literal =
            |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()+,=:@".contains(&byte);
        let segments = trimmed.split('/').skip(1).all(|segment| {
            !segment.is_empty() && !segment.ends_with('.') && segment.bytes().all(is_literal)
        });
        if text.starts_with('/') && segments {
            Ok(Self(trimmed.to_owned()))
        } else {
            Err(NotAPath(text.to_owned()))
        }
    }

    /// How this prefix covers a reading of a request path.
    fn covers(&self, path: &[u8], case: PathCase) -> Option<Cover> {
        let (start, rest) = path.split_at_checked(self.0.len())?;
        if !matches!(rest.first(), None | Some(b'/')) {
            return None;
        }
        if start == self.0.as_bytes() {
            return Some(Cover::AsWritten);
        }
        same_loosely(start, self.0.as_bytes(), case).then_some(Cover::Loosely)
    }

    /// Whether this prefix covers the path of `other`.
    #[must_use]
    pub fn is_above(&self, other: &Self) -> bool {
        self.covers(other.0.as_bytes(), PathCase::Sensitive)
            .is_some()
    }

    /// Whether an origin could confuse this path with `other`.
    #[must_use]
    pub fn is_loosely(&self, other: &Self, case: PathCase) -> bool {
        same_loosely(self.0.as_bytes(), other.0.as_bytes(), case)
    }
}

/// Maps bytes that some origin treats as equal to the same byte.
fn folded(byte: u8, case: PathCase) -> u8 {
    match (byte, case) {
        (b' ', _) => b'+',
        (byte, PathCase::Either) => byte.to_ascii_lowercase(),
        (byte, PathCase::Sensitive) => byte,
    }
}

/// Whether some origin treats the two as equal.
fn same_loosely(one: &[u8], other: &[u8], case: PathCase) -> bool {
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .all(|(one, other)| folded(*one, case) == folded(*other, case))
}

impl Default for PathPrefix {
    /// Covers every path.
    fn default() -> Self {
        Self(String::new())
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "/" } else { &self.0 })
    }
}

/// Method that a route can name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodName(pub Method);

/// Why a text is no method of a route.
#[derive(Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is not a method that the gateway proxies: GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS, in upper case"
)]
pub struct NotAMethod(String);

impl MethodName {
    /// Parses a method as it stands in requests.
    ///
    /// # Errors
    /// Not one of [`KNOWN_METHODS`].
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

/// Strips the port and the trailing dot from `host`: neither changes the host.
fn host_name(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests;
