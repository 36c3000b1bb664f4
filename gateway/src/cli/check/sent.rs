//! What requests of each route carry to prove themselves to their origin: which secret, by the name
//! of its upstream and never its value, and whether the caller's identity; and how their paths
//! arrive.

use crate::config::routes::RouteSettings;
use crate::config::settings::Settings;
use crate::config::upstreams::UpstreamRef;
use crate::proxy::OriginUrl;
use crate::proxy::path_mapping::PathMapping;
use crate::proxy::upstream::Proof;
use crate::routes::PathPrefix;

/// Lists every route as a comment, so that the output stays TOML.
#[must_use]
pub(super) fn show(settings: &Settings) -> String {
    let default = RouteSettings::new("default", PathPrefix::default(), None);
    let routes = match settings.routes.as_slice() {
        [] => std::slice::from_ref(&default),
        routes => routes,
    };
    let lines = routes.iter().map(|route| line(settings, route));
    let begin = "\n# What each route sends to its origin\n".to_owned();
    std::iter::once(begin).chain(lines).collect()
}

fn line(settings: &Settings, route: &RouteSettings) -> String {
    let (origin, base, proof) = match &route.upstream {
        None => of_address(&settings.origin.url),
        Some(UpstreamRef::At(url)) => of_address(url),
        Some(UpstreamRef::Named(name)) => {
            let mut upstreams = settings.upstreams.iter();
            let named = upstreams.find(|upstream| upstream.name == *name);
            let target = named.and_then(|upstream| upstream.targets.first());
            (
                format!("upstream {:?}", name.0),
                target.map_or("", OriginUrl::base_path),
                named.map_or(&Proof::Shared, |upstream| &upstream.policy.proof),
            )
        }
    };
    let proof = match route.send_secret {
        true => proof,
        false => &Proof::Withheld,
    };
    let sent = match proof {
        Proof::Shared => "SHARED_SECRET and the caller's identity".to_owned(),
        Proof::Own(_) => format!("the secret of {origin} and the caller's identity"),
        Proof::Withheld => "no secret and no identity".to_owned(),
    };
    let path = route.path.to_string();
    let path = path.trim_end_matches('/');
    let mapping = PathMapping {
        stripped: if route.strip_prefix { path } else { "" },
        base,
    };
    let arrives = if mapping.is_identity() {
        String::new()
    } else {
        let example = format!("{path}/x");
        format!("; {example} arrives as {}", mapping.to_origin(&example))
    };
    format!("# route {:?} to {origin}: {sent}{arrives}\n", route.name)
}

fn of_address(url: &OriginUrl) -> (String, &str, &'static Proof) {
    (url.to_string(), url.base_path(), &Proof::Shared)
}
