//! What each route requires of its callers.

use crate::auth::demand::MissingKey;
use crate::auth::methods::Method;
use crate::config::routes::RouteSettings;
use crate::config::settings::Settings;
use crate::routes::PathPrefix;

/// Lists every route as a comment, so that the output stays TOML.
#[must_use]
pub(super) fn show(settings: &Settings) -> String {
    let default = RouteSettings {
        auth: settings.auth.0.clone(),
        ..RouteSettings::new("default", PathPrefix::default(), None)
    };
    let routes = match settings.routes.as_slice() {
        [] => std::slice::from_ref(&default),
        routes => routes,
    };
    let begin = "\n# What each route requires\n".to_owned();
    std::iter::once(begin)
        .chain(routes.iter().map(line))
        .collect()
}

fn line(route: &RouteSettings) -> String {
    let words = route.auth.words();
    let kinds = words.iter().filter_map(|word| match word {
        Method::Key => Some("a key".to_owned()),
        Method::AnyToken => Some("a token of any issuer".to_owned()),
        Method::Token(name) => Some(format!("a token of {name}")),
        Method::Observe => None,
    });
    let lets_in_anyone = route.demand.on_missing_key == MissingKey::Anonymous
        && route.demand.admits_anonymous().is_ok();
    let nothing = lets_in_anyone.then(|| "no credential".to_owned());
    let mut required = kinds.chain(nothing).collect::<Vec<_>>().join(" or ");
    let scopes: Vec<&str> = route
        .demand
        .scopes
        .iter()
        .map(|scope| scope.as_str())
        .collect();
    let buckets: Vec<&str> = route
        .demand
        .buckets
        .iter()
        .map(|name| name.as_str())
        .collect();
    for (what, names) in [("with the scopes", scopes), ("of the buckets", buckets)] {
        if !names.is_empty() {
            required += &format!(", {what} {}", names.join(" "));
        }
    }
    if route.auth.observe() {
        required += "; it only observes, and refuses nobody";
    }
    format!("# route {:?}: {required}\n", route.name)
}
