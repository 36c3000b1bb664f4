//! The stage `authorise`, and what becomes of the places that a credential was looked for in.

use actix_http::Request;

use crate::auth::demand::{Attempt, Denial};
use crate::auth::key_sources::{Credentials, KeySources};
use crate::auth::{Caller, Proven};
use crate::http::shown_path::ShownPath;
use crate::http::target::Target;
use crate::pipeline::record::Exchange;
use crate::pipeline::worker::{Policy, Worker};
use crate::proxy::presented_key::PresentedKey;
use crate::routes::Route;

/// Decides whether the presented credential admits its holder. One that is present must be valid,
/// even on routes that need none.
pub(super) fn authorise(
    presented: Result<Proven, Denial>,
    route: &Route,
    exchange: &mut Exchange,
) -> Result<Caller, Denial> {
    let (demand, address) = (&route.demand, exchange.address().client);
    if let Ok(proven) = &presented {
        exchange.set_proven(proven);
    }
    match presented {
        Ok(Proven::Key(key)) => {
            let now = exchange.at();
            let attempt = Attempt {
                address: Some(address),
                method: Some(exchange.method().as_str()),
                route: Some(&route.name),
            };
            demand.admits(&key, now, &attempt)?;
            Ok(Caller::Key(key))
        }
        Ok(Proven::Token(holder)) => {
            demand.admits_token(&holder, Some(address))?;
            Ok(Caller::Token(holder))
        }
        Err(Denial::Missing) => demand.admits_anonymous().map(|()| Caller::Anonymous),
        Err(denial) => Err(denial),
    }
}

/// Where the credential of `request` may stand on `route`.
pub(super) fn credentials<'r>(request: &'r Request, route: &'r Route) -> Credentials<'r> {
    Credentials {
        sources: &route.key_sources,
        headers: request.head().headers(),
        query: request.uri().query(),
    }
}

/// Where a credential may stand that is kept from the origin. On a route that observes, one that is
/// none of ours may be the origin's, and stays.
pub(super) fn removed_credentials<'r>(
    exchange: &Exchange,
    request: &'r Request,
    route: &'r Route,
) -> Credentials<'r> {
    let credentials = credentials(request, route);
    if !exchange.passes_credential() {
        return credentials;
    }
    Credentials {
        sources: KeySources::none(),
        ..credentials
    }
}

/// Puts the query back as the client sent it, unless a key of ours is in it.
pub(super) fn keep_query(
    worker: &Worker,
    policy: &Policy,
    request: &Request,
    route: &Route,
    target: &mut Target,
) {
    if !route.key_sources.read_query() {
        return;
    }
    let shown = ShownPath::of(request.uri(), &policy.prefix, &worker.keys);
    if let Some(sent) = request.uri().path_and_query()
        && shown != ShownPath::HasKey
        && sent.path() == target.path()
    {
        target.path_and_query = sent.clone();
    }
}

/// Whether the URL contains the token that the caller presented. Tokens of others may stand there:
/// some protocols send them so.
pub(super) fn has_token_in_url(
    worker: &Worker,
    policy: &Policy,
    request: &Request,
    credentials: &Credentials<'_>,
    caller: &Caller,
) -> bool {
    let (url, token) = (request.uri().path_and_query(), credentials.of(caller));
    url.zip(token).is_some_and(|(url, token)| {
        url.as_str().len() >= token.len()
            && PresentedKey::new(&policy.prefix, &worker.keys, Some(&token))
                .is_in_value(url.as_str().as_bytes())
    })
}
