//! A key asks about itself, on the path that its route opens for it: answered here, not forwarded,
//! under the rules of the route. Takes nothing of limits and quotas, so that who has used them up
//! still learns when there will be more.

use std::sync::Arc;

use actix_http::body::{BodySize, BoxBody, EitherBody};
use actix_http::header::{self, HeaderValue};
use actix_http::{Method, Request, Response};
use serde::Serialize;

use crate::auth::Caller;
use crate::auth::demand::Denial;
use crate::http::refusal::Refusal;
use crate::keys::allowance::window_text;
use crate::keys::{KnownKey, UnixMillis};
use crate::limits::quota::{QuotaState, QuotaSubject};
use crate::limits::{By, Holder, LimitUse, Purpose};
use crate::pipeline::heads::announce_end;
use crate::pipeline::record::Exchange;
use crate::pipeline::refused::Refused;
use crate::pipeline::worker::{Policy, Worker};
use crate::pipeline::{Entered, credentials, enter, locate};
use crate::proxy::body::OriginBody;
use crate::proxy::headers::REQUEST_ID;
use crate::proxy::vary;
use crate::routes::Route;

/// What a key is told of itself: nothing that its origin would not get, and of limits those alone
/// that its consumer shares with nobody.
#[derive(Serialize)]
struct SelfView<'k> {
    consumer: ConsumerView<'k>,
    key: KeyView<'k>,
    limits: Vec<LimitView>,
    quotas: Vec<QuotaView>,
}

#[derive(Serialize)]
struct ConsumerView<'k> {
    id: &'k str,
    name: &'k str,
    custom_id: Option<&'k str>,
}

#[derive(Serialize)]
struct KeyView<'k> {
    id: &'k str,
    scopes: Vec<String>,
    expires_at: Option<UnixMillis>,
    /// Since when it should be replaced; it ends at `expires_at`.
    deprecated_at: Option<UnixMillis>,
}

#[derive(Serialize)]
struct LimitView {
    name: String,
    /// Units per window.
    limit: u64,
    window: String,
    remaining: u64,
    resets_at: UnixMillis,
}

#[derive(Serialize)]
struct QuotaView {
    name: String,
    /// Units per period.
    limit: u64,
    remaining: u64,
    resets_at: Option<UnixMillis>,
}

/// Answers a request for the path at which keys ask about themselves; `None` for any other request.
pub(super) fn answer(
    worker: &Worker,
    policy: &Policy,
    exchange: &mut Exchange,
    request: &Request,
    size: BodySize,
) -> Option<Result<Response<EitherBody<OriginBody, BoxBody>>, Refused>> {
    let path = request.uri().path();
    if !policy.routes.have_self_path(path) {
        return None;
    }
    let (_, route) = locate(worker, policy, exchange, request, request.method()).ok()?;
    route
        .self_path
        .as_ref()
        .filter(|own| own.as_str() == path)?;
    Some(tell(worker, policy, exchange, request, size))
}

/// Checks the request by the rules of its route, and tells what its key may know.
fn tell(
    worker: &Worker,
    policy: &Policy,
    exchange: &mut Exchange,
    request: &Request,
    size: BodySize,
) -> Result<Response<EitherBody<OriginBody, BoxBody>>, Refused> {
    let Entered { route, caller, .. } =
        enter(worker, policy, exchange, request, size, Purpose::Look)?;
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Refusal::MethodNotAllowed(vec![Method::GET, Method::HEAD]).into());
    }
    if !matches!(size, BodySize::None | BodySize::Sized(0)) {
        return Err(Refusal::BadRequest("a question about a key has no body").into());
    }
    let credentials = credentials(request, route);
    let denied = |denial| Refused::denied(denial, route, &credentials, &policy.prefix);
    let view = match &caller {
        Caller::Key(key) => SelfView::of(key, policy, route, exchange),
        // A token says of itself what it is, to whoever has it.
        Caller::Token(_) => return Err(denied(Denial::NotAccepted)),
        Caller::Anonymous => {
            // A route that observes let it pass with whatever it brought.
            let observed = exchange.observed().map(|observed| observed.denial);
            return Err(denied(observed.unwrap_or(Denial::Missing)));
        }
    };
    // Serializing texts and numbers cannot fail.
    let body = serde_json::to_string(&view).unwrap_or_default();
    let mut response = Response::ok().set_body(EitherBody::right(BoxBody::new(body)));
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REQUEST_ID.clone(), exchange.request_id().header_value());
    announce_end(headers, &caller);
    vary::add(headers, route.key_sources.headers());
    Ok(response)
}

impl<'k> SelfView<'k> {
    fn of(key: &'k KnownKey, policy: &Policy, route: &Arc<Route>, exchange: &Exchange) -> Self {
        let consumer = key.consumer();
        let of_route = [(&route.name, &route.in_force)];
        let limits = policy.limits.uses(Holder::Known(key), &of_route);
        let quotas = policy.quotas.of_key(key, UnixMillis::from(exchange.at()));
        Self {
            consumer: ConsumerView {
                id: consumer.id.as_str(),
                name: consumer.name.as_str(),
                custom_id: consumer.custom_id.map(|id| id.as_str()),
            },
            key: KeyView {
                id: key.id().as_str(),
                scopes: key.scopes().iter().map(str::to_owned).collect(),
                expires_at: key.expires_at(),
                deprecated_at: key.deprecated_at(),
            },
            limits: limits.into_iter().filter_map(LimitView::of).collect(),
            quotas: quotas.iter().filter_map(QuotaView::of).collect(),
        }
    }
}

impl LimitView {
    /// `None` for a limit that denies nobody, or that others use up too.
    fn of(limit: LimitUse) -> Option<Self> {
        let is_own = limit
            .by
            .iter()
            .any(|by| matches!(by, By::Key | By::Consumer));
        (limit.enforced && is_own).then(|| Self {
            name: limit.name.to_string(),
            limit: limit.limit,
            window: window_text(limit.window),
            remaining: limit.remaining,
            resets_at: UnixMillis(limit.free_at.unix_millis()),
        })
    }
}

impl QuotaView {
    /// `None` for a quota that denies nobody, or that others use up too.
    fn of(state: &QuotaState) -> Option<Self> {
        let limit = i64::try_from(state.limit).unwrap_or(i64::MAX);
        let left = limit.saturating_sub(state.level.used);
        let is_own = match state.cell.subject {
            QuotaSubject::Key(_) | QuotaSubject::Consumer(_) => true,
            QuotaSubject::Tag(_) => false,
        };
        (state.enforced && is_own).then(|| Self {
            name: state.cell.quota.to_string(),
            limit: state.limit,
            remaining: u64::try_from(left).unwrap_or_default(),
            resets_at: state.level.period.end,
        })
    }
}
