//! Checks of all routes together: refuses contradictions, warns of likely mistakes.

use std::time::Duration;

use actix_http::Method;

use crate::auth::demand::Demand;
use crate::auth::key_sources::KeySources;
use crate::auth::methods::Methods;
use crate::config::buffering::read_buffering;
use crate::config::cors::read_cors;
use crate::config::header_edits::{read_header_edits, refuse_fixed_headers};
use crate::config::key_sources::read_key_sources;
use crate::config::limit_values::{Cost, LimitName};
use crate::config::methods::read_methods;
use crate::config::reader::Reader;
use crate::config::upstreams::{UpstreamRef, UpstreamSettings};
use crate::config::value::{HostName, QuotableText, Setting as _, Span};
use crate::http::cors::{Cors, CorsSettings};
use crate::http::health_path::HealthPath;
use crate::http::target::KNOWN_METHODS;
use crate::proxy::fixed_headers::{Claimed, Edited};
use crate::routes::shape::Shape;
use crate::routes::{MethodName, PathCase, PathPrefix, Route};

/// One of `[[routes]]`; without an upstream it uses the default one.
pub type RouteSettings = Route<Option<UpstreamRef>>;

/// Defaults of the settings of routes that other sections have.
pub(super) struct RouteDefaults {
    /// Of `preserve_host`.
    pub(super) preserve_host: bool,
    /// Of `auth`.
    pub(super) methods: Methods,
    /// Of `key_sources`.
    pub(super) key_sources: KeySources,
    /// Of `first_byte_timeout`.
    pub(super) first_byte_timeout: Duration,
    /// Of `idle_timeout`.
    pub(super) idle_timeout: Duration,
    /// Of `max_body_bytes`.
    pub(super) max_body_bytes: u64,
    /// Memory for bodies that are buffered, in bytes.
    pub(super) max_buffered_bytes: u64,
    /// Of the table `cors`.
    pub(super) cors: CorsSettings,
}

/// Reads one of `[[routes]]`.
pub(super) fn read_route(section: &mut Reader, defaults: &RouteDefaults) -> RouteSettings {
    let path = section.take("path", PathPrefix::default());
    let name = section.take("name", QuotableText(path.to_string())).0;
    let hosts: Vec<HostName> = section.take_list("hosts");
    let methods: Vec<MethodName> = section.take_list("methods");
    let methods: Vec<Method> = methods.into_iter().map(|method| method.0).collect();
    let default = RouteSettings::new(&name, path, section.take_optional("upstream"));
    let says_of_missing_keys = section.has("on_missing_key");
    let demand = Demand {
        buckets: section.take_list("buckets"),
        scopes: section.take_list("scopes"),
        on_missing_key: section.take("on_missing_key", default.demand.on_missing_key),
    };
    let auth = read_methods(section, "auth", &defaults.methods);
    if auth.observe() && says_of_missing_keys {
        let message = "a route whose `auth` has \"observe\" lets every request pass, with or without a key: leave on_missing_key out, or \"observe\"";
        section.problem("on_missing_key", "the routes", message.to_owned());
    }
    let (auth, key_sources) = auth.with_places(read_key_sources(section, &defaults.key_sources));
    let mut route = Route {
        strip_prefix: strip_prefix(section, &default.path),
        send_secret: section.take("send_secret", default.send_secret),
        hosts: hosts.into_iter().map(|host| host.0).collect(),
        methods,
        demand,
        auth,
        key_sources,
        preserve_host: section.take("preserve_host", defaults.preserve_host),
        forward_metadata: section.take("forward_metadata", default.forward_metadata),
        rewrite_location: section.take("rewrite_location", default.rewrite_location),
        upgrades: section.take_list_or("upgrades", default.upgrades),
        self_path: section.take_optional("self_path"),
        allow_ambiguous_path: section.take("allow_ambiguous_path", default.allow_ambiguous_path),
        cost: section.take("cost", Cost(default.cost)).0,
        limits: section
            .take_optional_list("limits")
            .map(|limits: Vec<LimitName>| limits.into_iter().map(|limit| limit.0).collect()),
        ..default
    };
    let request_headers = read_header_edits(section, Edited::Requests);
    let response_headers = read_header_edits(section, Edited::Answers);
    let first_byte_timeout = own_span(section, "first_byte_timeout", defaults.first_byte_timeout);
    let idle_timeout = own_span(section, "idle_timeout", defaults.idle_timeout);
    let max_body_bytes = section.take("max_body_bytes", defaults.max_body_bytes);
    let shape = Shape {
        request_headers,
        response_headers,
        first_byte_timeout,
        idle_timeout,
        max_body_bytes: Some(max_body_bytes).filter(|bytes| *bytes != defaults.max_body_bytes),
        buffered_bytes: read_buffering(section, max_body_bytes, defaults.max_buffered_bytes),
    };
    refuse_self_path(section, &route);
    // Last, so that its settings do not stand between those of the route.
    let cors = section.section("cors", |section| read_cors(section, &defaults.cors));
    route.cors = Cors::new(&cors, &route.methods, route.key_sources.headers());
    let claimed = Claimed {
        of_credentials: route.key_sources.headers(),
        has_cors: route.cors.is_some(),
    };
    refuse_fixed_headers(section, Edited::Requests, &shape.request_headers, claimed);
    refuse_fixed_headers(section, Edited::Answers, &shape.response_headers, claimed);
    route.shape = shape.unless_empty();
    route
}

/// Names of the routes, whatever else is wrong with them.
pub(super) fn names(reader: &Reader) -> Vec<String> {
    let named = |[name, path]: [Option<String>; 2]| {
        let path = PathPrefix::parse(path.as_deref().unwrap_or("/"));
        name.or_else(|| Some(path.ok()?.to_string()))
    };
    let routes = reader.peek("routes", ["name", "path"]);
    routes.into_iter().filter_map(named).collect()
}

/// Span of the route, if it differs from the usual one.
fn own_span(section: &mut Reader, key: &str, usual: Duration) -> Option<Duration> {
    Some(section.take(key, Span(usual)).0).filter(|span| *span != usual)
}

fn strip_prefix(section: &mut Reader, path: &PathPrefix) -> bool {
    let strips = section.take("strip_prefix", false);
    if strips && *path == PathPrefix::default() {
        let message =
            "a route for \"/\" has no prefix to strip: give it a longer path, or leave it out";
        section.problem("strip_prefix", "the routes", message.to_owned());
    }
    strips
}

/// Refuses a path for questions of keys that no request of the route has.
fn refuse_self_path(section: &mut Reader, route: &RouteSettings) {
    let Some(path) = &route.self_path else { return };
    let is_below = PathPrefix::parse(path.as_str()).is_ok_and(|path| route.path.is_above(&path));
    let takes_get = route.methods.is_empty() || route.methods.contains(&Method::GET);
    let message = if !is_below {
        format!(
            "the path \"{path}\" is not below that of the route, \"{}\", and so no request for it falls under the route: write the whole path, such as \"{}/whoami\"",
            route.path,
            route.path.to_string().trim_end_matches('/')
        )
    } else if !takes_get {
        "keys ask with GET, which the route does not take: add it to its methods".to_owned()
    } else {
        return;
    };
    section.problem("self_path", "the routes", message);
}

/// Refuses a path for questions of keys where health checks are answered.
pub(super) fn refuse_health_path(
    reader: &mut Reader,
    routes: &[RouteSettings],
    health: Option<&HealthPath>,
) {
    for (index, route) in routes.iter().enumerate() {
        if let (Some(path), Some(health)) = (&route.self_path, health)
            && path.is(health)
        {
            let message = format!(
                "\"{path}\" is listen.health_path, which is answered without a key: choose another"
            );
            let setting = format!("routes[{index}].self_path");
            reader.problems().add(&setting, "the routes", message);
        }
    }
}

/// Refuses ambiguous routes: two for the same requests, `HEAD` without `GET`, and paths that some
/// origin confuses.
pub(super) fn refuse_routes(reader: &mut Reader, routes: &[RouteSettings], case: PathCase) {
    for (index, route) in routes.iter().enumerate() {
        let takes = |method: &Method| route.methods.contains(method);
        if takes(&Method::HEAD) && !takes(&Method::GET) {
            let message = "HEAD falls under the route that takes GET, since origins answer both with one handler: list GET too, or leave HEAD out";
            reader.problems().add(
                &format!("routes[{index}].methods"),
                "the routes",
                message.to_owned(),
            );
        }
        let twin = routes[..index].iter().find(|earlier| {
            earlier.path != route.path && earlier.path.is_loosely(&route.path, case)
        });
        if let Some(twin) = twin {
            let message = format!(
                "its path and {:?} differ in case only, so each of their requests could be read in two ways: change one, or set origin.case_sensitive_paths = true where every origin tells them apart",
                twin.path.to_string()
            );
            reader
                .problems()
                .add(&format!("routes[{index}].path"), "the routes", message);
        }
        let hides = |earlier: &&RouteSettings| {
            let hosts = earlier.hosts.is_empty() == route.hosts.is_empty()
                && (route.hosts.is_empty()
                    || earlier.hosts.iter().any(|host| route.hosts.contains(host)));
            let methods = earlier.methods.is_empty() == route.methods.is_empty()
                && (route.methods.is_empty()
                    || earlier
                        .methods
                        .iter()
                        .any(|method| route.methods.contains(method)));
            hosts && methods && earlier.path == route.path
        };
        if let Some(earlier) = routes[..index].iter().find(hides) {
            let message = format!(
                "it takes the same requests as route {:?}: change its path, hosts or methods",
                earlier.name
            );
            reader
                .problems()
                .add(&format!("routes[{index}]"), "the routes", message);
        }
        if let Some(twin) = routes[..index]
            .iter()
            .find(|earlier| earlier.name == route.name && earlier.path != route.path)
        {
            let message = format!("the name {:?} is that of another route already", twin.name);
            reader
                .problems()
                .add(&format!("routes[{index}].name"), "the routes", message);
        }
    }
}

/// Refuses unknown upstreams and duplicate names.
pub(super) fn refuse_unknown_upstreams(
    reader: &mut Reader,
    upstreams: &[UpstreamSettings],
    routes: &[RouteSettings],
) {
    for (index, upstream) in upstreams.iter().enumerate() {
        if upstreams[..index]
            .iter()
            .any(|earlier| earlier.name == upstream.name)
        {
            let message = format!(
                "the name \"{}\" is that of another upstream already",
                upstream.name.0
            );
            reader.problems().add(
                &format!("upstreams[{index}].name"),
                "the upstreams",
                message,
            );
        }
    }
    for (index, route) in routes.iter().enumerate() {
        let Some(UpstreamRef::Named(name)) = &route.upstream else {
            continue;
        };
        if upstreams.iter().any(|upstream| upstream.name == *name) {
            continue;
        }
        let known: Vec<String> = upstreams
            .iter()
            .map(|upstream| upstream.name.show())
            .collect();
        let known = if known.is_empty() {
            "none, so add one with [[upstreams]]".to_owned()
        } else {
            known.join(", ")
        };
        let message = format!(
            "there is no upstream {}; there is {known}; or write an address, such as \"http://127.0.0.1:9000\"",
            name.show()
        );
        reader
            .problems()
            .add(&format!("routes[{index}].upstream"), "the routes", message);
    }
}

/// Warns where a route seems to protect requests that a looser one takes.
pub(super) fn warn_of_routes(routes: &[RouteSettings]) -> Vec<String> {
    let mut warnings = Vec::new();
    for (index, route) in routes.iter().enumerate() {
        for (taker, methods) in takers_of_the_rest(routes, route) {
            if !is_looser(&routes[taker], route) {
                continue;
            }
            warnings.push(format!(
                "{} takes {} only: on its path, {} fall under {}, which asks for less; add a route for that path without methods",
                shown(index, route),
                listed(&route.methods),
                listed(methods),
                shown(taker, &routes[taker]),
            ));
        }
        if route.hosts.is_empty() {
            continue;
        }
        for (other, longer) in routes.iter().enumerate() {
            let inside = longer.path != route.path && route.path.is_above(&longer.path);
            if inside && longer.hosts.is_empty() && is_looser(longer, route) {
                warnings.push(format!(
                    "{} holds for named hosts, but there too {} takes what is below its longer path, and asks for less; add a route for these hosts with that path",
                    shown(index, route),
                    shown(other, longer),
                ));
            }
        }
    }
    warnings
}

/// Warns of routes that let everyone in; `methods` are those of the only route where there are none.
pub(super) fn warn_of_observing(routes: &[RouteSettings], methods: &Methods) -> Vec<String> {
    const REST: &str = "only observes: it lets every request pass, with or without a good key, so the gateway protects nothing there; `gateway adoption report` says who comes without one";
    if routes.is_empty() && methods.observe() {
        return vec![format!("auth.methods: the gateway {REST}")];
    }
    let observing = routes.iter().enumerate();
    let observing = observing.filter(|(_, route)| route.auth.observe());
    observing
        .map(|(index, route)| format!("{} {REST}", shown(index, route)))
        .collect()
}

/// Whether `route` admits a caller that `other` denies.
fn is_looser(route: &RouteSettings, other: &RouteSettings) -> bool {
    let only_this_observes = route.auth.observe() && !other.auth.observe();
    only_this_observes || !other.auth.observe() && route.demand.is_looser_than(&other.demand)
}

/// Routes that take requests to the path of `route` with methods that no route of this path takes,
/// each with these methods.
fn takers_of_the_rest<'r>(
    routes: &'r [RouteSettings],
    route: &RouteSettings,
) -> Vec<(usize, Vec<&'r Method>)> {
    let mut takers: Vec<(usize, Vec<&Method>)> = Vec::new();
    if route.methods.is_empty() {
        return takers;
    }
    let host = route.hosts.first();
    for method in &KNOWN_METHODS {
        let taker = routes
            .iter()
            .enumerate()
            .filter(|(_, other)| other.path.is_above(&route.path))
            .filter(|(_, other)| answers_to(other, host) && other.takes(method))
            // The most specific one, as in routing.
            .max_by_key(|(index, other)| {
                (
                    other.path.to_string().len(),
                    !other.hosts.is_empty(),
                    !other.methods.is_empty(),
                    std::cmp::Reverse(*index),
                )
            });
        let Some((taker, _)) = taker.filter(|(_, other)| other.path != route.path) else {
            continue;
        };
        match takers.iter_mut().find(|(index, _)| *index == taker) {
            Some((_, methods)) => methods.push(method),
            None => takers.push((taker, vec![method])),
        }
    }
    takers
}

fn answers_to(route: &RouteSettings, host: Option<&String>) -> bool {
    route.hosts.is_empty() || host.is_some_and(|host| route.hosts.contains(host))
}

fn shown(index: usize, route: &RouteSettings) -> String {
    format!("routes[{index}] ({:?})", route.name)
}

fn listed<'m>(methods: impl IntoIterator<Item = &'m Method>) -> String {
    let methods: Vec<&str> = methods.into_iter().map(Method::as_str).collect();
    methods.join(", ")
}
