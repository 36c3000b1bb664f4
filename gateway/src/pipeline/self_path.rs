//! A key or a token asks about itself, on the path that its route opens for it: answered here, not
//! forwarded, under the rules of the route. Takes nothing of limits and quotas, so that who has used them up
//! still learns when there will be more.

use std::sync::Arc;

use actix_http::body::{BodySize, BoxBody, EitherBody};
use actix_http::header::{self, HeaderValue};
use actix_http::{Method, Request, Response};
use serde::Serialize;

use crate::auth::Caller;
use crate::auth::demand::Denial;
use crate::auth::token_holder::TokenHolder;
use crate::http::refusal::Refusal;
use crate::keys::allowance::window_text;
use crate::keys::{KnownConsumer, KnownKey, UnixMillis};
use crate::limits::quota::{Counted, QuotaState, QuotaSubject};
use crate::limits::{By, Holder, LimitUse, Purpose};
use crate::pipeline::authorising::credentials;
use crate::pipeline::heads::announce_end;
use crate::pipeline::locating::locate;
use crate::pipeline::record::Exchange;
use crate::pipeline::refused::Refused;
use crate::pipeline::worker::{Policy, Worker};
use crate::pipeline::{Entered, enter};
use crate::proxy::body::OriginBody;
use crate::proxy::headers::REQUEST_ID;
use crate::proxy::vary;
use crate::routes::Route;

/// What a credential is told of itself: nothing that its origin would not get, and of limits those alone
/// that its consumer shares with nobody.
#[derive(Serialize)]
struct SelfView<'k> {
    /// Null for a token without a consumer.
    consumer: Option<ConsumerView<'k>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<KeyView<'k>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<TokenView<'k>>,
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
struct TokenView<'k> {
    /// Name of the issuer.
    issuer: &'k str,
    subject: Option<&'k str>,
    scopes: Vec<&'k str>,
    expires_at: UnixMillis,
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

/// Answers a request for the path at which credentials ask about themselves; `None` for any other request.
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
        return Err(Refusal::BadRequest("a question about a credential has no body").into());
    }
    let credentials = credentials(request, route);
    let denied = |denial| Refused::denied(denial, route, &credentials, &policy.prefix);
    let scopes;
    let view = match &caller {
        Caller::Key(key) => SelfView::of_key(key, policy, route, exchange),
        Caller::Token(holder) => {
            scopes = holder.scopes();
            SelfView::of_token(holder, scopes.iter().collect(), policy, route, exchange)
        }
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
    fn of_key(key: &'k KnownKey, policy: &Policy, route: &Arc<Route>, exchange: &Exchange) -> Self {
        let quotas = policy.quotas.of_caller(key, exchange.at());
        let key_view = KeyView {
            id: key.id().as_str(),
            scopes: key.scopes().iter().map(str::to_owned).collect(),
            expires_at: key.expires_at(),
            deprecated_at: key.deprecated_at(),
        };
        Self {
            consumer: Some(ConsumerView::of(&key.consumer())),
            key: Some(key_view),
            token: None,
            limits: LimitView::all(Holder::Known(key), policy, route),
            quotas: quotas.iter().filter_map(QuotaView::of).collect(),
        }
    }

    fn of_token(
        holder: &'k TokenHolder,
        scopes: Vec<&'k str>,
        policy: &Policy,
        route: &Arc<Route>,
        exchange: &Exchange,
    ) -> Self {
        let (token, consumer) = (holder.token(), holder.consumer());
        let at = exchange.at();
        let quotas = consumer.map(|consumer| {
            let counted = Counted::Consumer(consumer);
            policy.quotas.of_caller(counted, at)
        });
        let token_view = TokenView {
            issuer: token.issuer().name(),
            subject: token.subject(),
            scopes,
            expires_at: token.ends_at(),
        };
        Self {
            consumer: consumer.map(|consumer| ConsumerView::of(&consumer.known())),
            key: None,
            token: Some(token_view),
            limits: LimitView::all(Holder::Token(holder.subject()), policy, route),
            quotas: quotas.iter().flatten().filter_map(QuotaView::of).collect(),
        }
    }
}

impl<'k> ConsumerView<'k> {
    fn of(consumer: &KnownConsumer<'k>) -> Self {
        Self {
            id: consumer.id.as_str(),
            name: consumer.name.as_str(),
            custom_id: consumer.custom_id.map(|id| id.as_str()),
        }
    }
}

impl LimitView {
    /// The limits of `holder` that hold on the route.
    fn all(holder: Holder<'_>, policy: &Policy, route: &Arc<Route>) -> Vec<Self> {
        let of_route = [(&route.name, &route.in_force)];
        let limits = policy.limits.uses(holder, &of_route);
        limits.into_iter().filter_map(Self::of).collect()
    }

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
