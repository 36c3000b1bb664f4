//! What requests of each route carry to prove themselves to their origin: which secret, by the name
//! of its upstream and never its value, and whether the caller's identity.

use crate::config::routes::RouteSettings;
use crate::config::settings::Settings;
use crate::config::upstreams::UpstreamRef;
use crate::proxy::upstream::Proof;

/// Lists every route as a comment, so that the output stays TOML.
#[must_use]
pub(super) fn show(settings: &Settings) -> String {
    let mut text = "\n# What each route sends to its origin\n".to_owned();
    if settings.routes.is_empty() {
        text.push_str(&line(settings, "default", None, true));
    }
    for RouteSettings {
        name,
        upstream,
        send_secret,
        ..
    } in &settings.routes
    {
        text.push_str(&line(settings, name, upstream.as_ref(), *send_secret));
    }
    text
}

fn line(
    settings: &Settings,
    route: &str,
    upstream: Option<&UpstreamRef>,
    send_secret: bool,
) -> String {
    let (origin, proof) = match upstream {
        None => (settings.origin.url.to_string(), &Proof::Shared),
        Some(UpstreamRef::At(url)) => (url.to_string(), &Proof::Shared),
        Some(UpstreamRef::Named(name)) => {
            let mut upstreams = settings.upstreams.iter();
            let named = upstreams.find(|upstream| upstream.name == *name);
            let proof = named.map_or(&Proof::Shared, |upstream| &upstream.policy.proof);
            (format!("upstream {:?}", name.0), proof)
        }
    };
    let sent = match proof {
        _ if !send_secret => "no secret and no identity".to_owned(),
        Proof::Shared => "SHARED_SECRET and the caller's identity".to_owned(),
        Proof::Own(_) => format!("the secret of {origin} and the caller's identity"),
        Proof::Withheld => "no secret and no identity".to_owned(),
    };
    format!("# route {route:?} to {origin}: {sent}\n")
}
