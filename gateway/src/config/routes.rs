//! What the routes of the file say together: what contradicts itself is refused, what may not be meant is warned of.

use actix_http::Method;

use crate::config::reader::Reader;
use crate::config::settings::RouteSettings;
use crate::config::value::HostName;
use crate::routes::{KNOWN_METHODS, PathCase};

/// Refuses routes whose requests fall under no one policy: two routes for the same requests, `HEAD` without `GET`, and
/// paths that some origin takes for one.
pub(super) fn refuse_routes(reader: &mut Reader, routes: &[RouteSettings], case: PathCase) {
    for (index, route) in routes.iter().enumerate() {
        let takes = |method: &Method| route.methods.iter().any(|taken| taken.0 == *method);
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

/// Warns where a route looks as if it protected requests that a looser one takes.
pub(super) fn warn_of_routes(routes: &[RouteSettings]) -> Vec<String> {
    let mut warnings = Vec::new();
    for (index, route) in routes.iter().enumerate() {
        for (taker, methods) in takers_of_the_rest(routes, route) {
            if !routes[taker].demand.is_looser_than(&route.demand) {
                continue;
            }
            warnings.push(format!(
                "{} takes {} only: on its path, {} fall under {}, which asks for less; add a route for that path without methods",
                shown(index, route),
                listed(route.methods.iter().map(|method| &method.0)),
                listed(methods),
                shown(taker, &routes[taker]),
            ));
        }
        if route.hosts.is_empty() {
            continue;
        }
        for (other, longer) in routes.iter().enumerate() {
            let inside = longer.path != route.path && route.path.is_above(&longer.path);
            if inside && longer.hosts.is_empty() && longer.demand.is_looser_than(&route.demand) {
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

/// The routes that take requests to the path of `route` with methods that no route of that path takes, each with these
/// methods.
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
            .filter(|(_, other)| answers_to(other, host) && takes(other, method))
            // The most specific one, as requests are given to them.
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

fn answers_to(route: &RouteSettings, host: Option<&HostName>) -> bool {
    route.hosts.is_empty() || host.is_some_and(|host| route.hosts.contains(host))
}

fn takes(route: &RouteSettings, method: &Method) -> bool {
    let method = if *method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    route.methods.is_empty() || route.methods.iter().any(|taken| taken.0 == *method)
}

fn shown(index: usize, route: &RouteSettings) -> String {
    format!("routes[{index}] ({:?})", route.name)
}

fn listed<'m>(methods: impl IntoIterator<Item = &'m Method>) -> String {
    let methods: Vec<&str> = methods.into_iter().map(Method::as_str).collect();
    methods.join(", ")
}
