//! Forward-auth: decides about a subrequest of another proxy and returns the identity headers.

use actix_http::body::{BodySize, BoxBody, EitherBody};
use actix_http::header::{self, HeaderName, HeaderValue};
use actix_http::{Payload, Request, Response, StatusCode};

use crate::auth::Caller;
use crate::auth::key_sources::Credentials;
use crate::limits::Purpose;
use crate::panics::catch_panic;
use crate::pipeline::arrival::body_size;
use crate::pipeline::authorising::removed_credentials;
use crate::pipeline::heads::announce_end;
use crate::pipeline::record::Exchange;
use crate::pipeline::record::body::RecordedBody;
use crate::pipeline::{Admitted, Policy, Worker, decide, wait_for_units};
use crate::proxy::headers::{REQUEST_ID, set_whole_identity};
use crate::proxy::presented_key::PresentedKey;
use crate::proxy::upstream::Proof;

/// Answer to a forward-auth subrequest.
pub struct Authorized {
    /// Response with all identity headers, empty ones included; or the refusal.
    pub response: Response<RecordedBody>,
    /// Headers that the backend must not get: those with the key, and those that rules of one's own
    /// did not set.
    pub withheld: Vec<HeaderName>,
}

/// Answers a forward-auth subrequest: runs every stage before `forward`. Records the request like
/// any other.
pub async fn authorize_external(worker: &Worker, request: &Request) -> Authorized {
    let policy = worker.policy.load_full();
    let mut exchange = Exchange::begin(worker, &policy, request, None);
    let size = body_size(request.head(), &Payload::None);
    let deciding = async {
        let admitted = decide(worker, &policy, &mut exchange, request, size, Purpose::Take)?;
        if admitted.is_pending {
            let (route, caller) = (admitted.route, &admitted.caller);
            wait_for_units(worker, &policy, route, caller, &mut exchange).await?;
        }
        Ok(admitted)
    };
    let admitted = catch_panic(deciding).await;
    let Admitted { route, caller, .. } =
        match admitted.unwrap_or_else(|panicked| Err(exchange.panicked(&panicked))) {
            Ok(admitted) => admitted,
            Err(refused) => {
                return Authorized {
                    response: exchange.refuse(refused, &policy.realm, BodySize::None),
                    withheld: Vec::new(),
                };
            }
        };
    let removed = removed_credentials(&exchange, request, route);
    let mut withheld = with_key(worker, &policy, &removed, &caller);
    for name in &policy.own_rules.credential_headers {
        // Also where a credential for the backend stays.
        if !withheld.contains(name) {
            withheld.push(name.clone());
        }
    }
    let mut response = Response::with_body(StatusCode::OK, EitherBody::right(BoxBody::new(())));
    let headers = response.headers_mut();
    let claims = policy.issuers.forwarded_names();
    let told = match route.proof() {
        Proof::Shared | Proof::Own(_) => Some(&caller),
        Proof::Withheld => None,
    };
    set_whole_identity(told, route.forward_metadata, claims, headers);
    // Empty where none is set, like the identity.
    for name in &policy.own_rules.origin_headers {
        let mut lines = exchange.own_headers().iter();
        let set = lines.find(|(set, _)| set == name);
        let value = set.map_or(HeaderValue::from_static(""), |(_, value)| value.clone());
        if set.is_none() {
            withheld.push(name.clone());
        }
        headers.insert(name.clone(), value);
    }
    headers.insert(REQUEST_ID.clone(), exchange.request_id().header_value());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    announce_end(headers, &caller);
    exchange.told().add_to(headers);
    Authorized {
        response: exchange.record(response),
        withheld,
    }
}

/// Headers that carry nothing but the key on this route, and `Authorization` if it has a key
/// anyway.
fn with_key(
    worker: &Worker,
    policy: &Policy,
    credentials: &Credentials<'_>,
    caller: &Caller,
) -> Vec<HeaderName> {
    let mut with_key = credentials.sources.headers_of_keys_alone();
    let presented = credentials.of(caller);
    let presented = PresentedKey::new(&policy.prefix, &worker.keys, presented.as_deref());
    let mut lines = credentials.headers.get_all(header::AUTHORIZATION);
    if !credentials.sources.read_authorization()
        && lines.any(|line| presented.is_in(&header::AUTHORIZATION, line))
    {
        with_key.push(header::AUTHORIZATION);
    }
    with_key
}
