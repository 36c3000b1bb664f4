//! `GET /v1/auth`: authorizes a request on behalf of another proxy, before that proxy forwards it:
//! nginx's `auth_request`, Traefik's ForwardAuth, Caddy's `forward_auth` and Envoy's `ext_authz`.
//!
//! The answer has every identity header, so that a proxy that copies them replaces those of its
//! client. Headers that it cannot replace are refused: other spellings, and other names of the same
//! families.
//!
//! The request carries the client's own credential, in the places of its route, so no admin token
//! is required: an answer reveals no more than the public listener does.

use std::rc::Rc;

use actix_http::Request;
use actix_http::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode, Uri};
use actix_web::{HttpRequest, HttpResponse, web};
use postern_shared::headers as names;
use utoipa::openapi::schema::{ObjectBuilder, Type};

use crate::admin::endpoint::Endpoint;
use crate::admin::problem::{Kind, Problem};
use crate::pipeline::Worker;
use crate::pipeline::forward_auth::authorize_external;
use crate::pipeline::record::body::RecordedBody;

/// Path of the endpoint. Envoy appends the path of the original request and uses its method.
pub(super) const PATH: &str = "/v1/auth";

/// Returns whether a path is below [`PATH`].
pub(super) fn is_below(path: &str) -> bool {
    path.strip_prefix(PATH)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// Original target from nginx.
static ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
static ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
/// Original target from Traefik and Caddy.
static FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
static FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Original URL from ingress-nginx, host included.
static ORIGINAL_URL: HeaderName = HeaderName::from_static("x-original-url");
/// Headers that Envoy removes from the request.
static ENVOY_REMOVES: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

/// Describes the operation for proxies that send the original request in headers.
pub(super) fn endpoint() -> Endpoint {
    Endpoint::open(PATH, web::route().to(by_headers))
        .named("authorise_request", "verification", "Authorize a request for another proxy")
        .described(
            "For nginx's `auth_request` (`X-Original-URI`, `X-Original-Method`), Traefik's ForwardAuth and Caddy's `forward_auth` \
             (`X-Forwarded-Uri`, `-Method`, `-Host`), and Envoy's `ext_authz`, which appends the path to this one. The caller's API \
             key is in `Authorization`, or in the places that `key_sources` of its route names. Without any of the headers the request is `GET /`. A request is ambiguous if the client sent such a header too, or a look-alike of a header that only the gateway may set: `X_Consumer_Id`, `X-Consumer-Anything`.",
        )
        .answers_with(
            200,
            "The request would be forwarded. The headers identify the caller, as for the origin; headers without a value are empty.",
            "text/plain",
            ObjectBuilder::new().schema_type(Type::String).max_length(Some(0)).into(),
        )
        .refuses(&[
            (401, "The key is missing, not valid, expired, revoked or disabled."),
            (403, "The key lacks a scope or may not be used from this address; or the request in question is ambiguous."),
            (404, "No route covers the request."),
            (405, "The routes of this path do not take the method."),
            (429, "The caller is over a limit, or too many failures came from its address."),
            (503, "The keys are not loaded, or too many requests are in flight."),
        ])
}

/// Registers the paths below [`PATH`], for Envoy.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    config.service(web::resource(format!("{PATH}/{{tail:.*}}")).to(by_path));
}

async fn by_headers(request: HttpRequest) -> Result<HttpResponse<RecordedBody>, Problem> {
    let headers = request.headers();
    check_spellings(headers)?;
    let (nginx, other) = (
        headers.contains_key(&ORIGINAL_URI),
        headers.contains_key(&FORWARDED_URI),
    );
    // One of them came from the client, and it is unknown which.
    if nginx && other {
        return Err(contradiction("X-Original-URI and X-Forwarded-Uri"));
    }
    // It would count as `GET /`, whatever the proxy forwards.
    if !nginx && !other && names_request(headers) {
        return Err(Problem::new(
            Kind::AmbiguousRequest,
            "The request in question is named in part. Have the proxy set X-Original-URI or X-Forwarded-Uri, with the method.",
        ));
    }
    let (uri, method, foreign) = if other {
        (&FORWARDED_URI, &FORWARDED_METHOD, &ORIGINAL_METHOD)
    } else {
        (&ORIGINAL_URI, &ORIGINAL_METHOD, &FORWARDED_METHOD)
    };
    // Otherwise it would count as a GET.
    if !headers.contains_key(method) && headers.contains_key(foreign) {
        return Err(Problem::new(
            Kind::AmbiguousRequest,
            "The path is named as one proxy names it, and the method as another. Have the proxy set both of one kind.",
        ));
    }
    let uri = one(headers, uri)?.map_or(Ok(Uri::from_static("/")), |uri| {
        // A fragment would be dropped silently, and the proxy might forward another target than the
        // authorized one.
        let whole = uri.to_str().ok().filter(|uri| !uri.contains('#'));
        whole
            .and_then(|uri| uri.parse().ok())
            .ok_or_else(|| malformed("URI"))
    })?;
    let method = one(headers, method)?.map_or(Ok(Method::GET), |method| {
        Method::from_bytes(method.as_bytes()).map_err(|_| malformed("method"))
    })?;
    let host = if other {
        one(headers, &FORWARDED_HOST)?
    } else {
        None
    };
    let host = host.or(headers.get(HOST)).cloned();
    let original = original(&request, method, uri, host);
    let authorized = authorize_external(worker_of(&request)?, &original).await;
    let mut response = HttpResponse::from(authorized.response);
    // nginx treats any other status than 2xx and these as its own failure.
    if nginx && response.status().is_client_error() && response.status() != StatusCode::UNAUTHORIZED
    {
        *response.status_mut() = StatusCode::FORBIDDEN;
    }
    Ok(response)
}

async fn by_path(request: HttpRequest) -> Result<HttpResponse<RecordedBody>, Problem> {
    check_spellings(request.headers())?;
    if names_request(request.headers()) {
        return Err(contradiction("the path and a header"));
    }
    let target = request
        .uri()
        .path_and_query()
        .map_or("", |target| target.as_str());
    let uri = target
        .strip_prefix(PATH)
        .and_then(|target| target.parse().ok())
        .ok_or_else(|| malformed("path"))?;
    let host = request.headers().get(HOST).cloned();
    let original = original(&request, request.method().clone(), uri, host);
    let authorized = authorize_external(worker_of(&request)?, &original).await;
    let mut response = HttpResponse::from(authorized.response);
    if response.status().is_success() {
        let removed = removed_by_envoy(response.headers(), &authorized.withheld);
        response
            .headers_mut()
            .insert(ENVOY_REMOVES.clone(), removed);
    }
    Ok(response)
}

/// Returns whether a header carries the original request, or a part of it.
fn names_request(headers: &HeaderMap) -> bool {
    [
        &ORIGINAL_URI,
        &ORIGINAL_METHOD,
        &ORIGINAL_URL,
        &FORWARDED_URI,
        &FORWARDED_METHOD,
    ]
    .into_iter()
    .any(|name| headers.contains_key(name))
}

/// Refuses headers that no answer can replace: proxies replace exact names only, and forward
/// look-alikes. A header that arrives here was not removed by the proxy.
fn check_spellings(headers: &HeaderMap) -> Result<(), Problem> {
    let forged = headers.keys().any(|name| {
        names::is_privileged(name.as_str()) && !names::PRIVILEGED.contains(&name.as_str())
    });
    if forged {
        return Err(Problem::new(
            Kind::AmbiguousRequest,
            "The client sent a header that reads like one of the gateway's own. Have the proxy remove such headers.",
        ));
    }
    Ok(())
}

/// Returns the headers for Envoy to remove: empty identity headers, and headers that the gateway
/// withholds from origins, those `withheld` among them.
fn removed_by_envoy(answer: &HeaderMap, withheld: &[HeaderName]) -> HeaderValue {
    let empty =
        names::identity().filter(|name| answer.get(*name).is_some_and(HeaderValue::is_empty));
    let mut removed: Vec<&str> = empty.chain([names::SHARED_SECRET]).collect();
    removed.extend(withheld.iter().map(HeaderName::as_str));
    // Infallible: names from the header table and from HTTP.
    HeaderValue::try_from(removed.join(",")).unwrap_or(HeaderValue::from_static(""))
}

/// Rebuilds the original request as the public listener would have received it.
fn original(request: &HttpRequest, method: Method, uri: Uri, host: Option<HeaderValue>) -> Request {
    let mut original = Request::new();
    let head = original.head_mut();
    head.method = method;
    head.uri = uri;
    head.headers = request.headers().clone();
    head.headers.remove(HOST);
    if let Some(host) = host {
        head.headers.insert(HOST, host);
    }
    head.peer_addr = request.peer_addr();
    original
}

fn worker_of(request: &HttpRequest) -> Result<&Worker, Problem> {
    let worker = request
        .app_data::<Rc<Worker>>()
        .ok_or_else(|| Problem::new(Kind::Internal, "The gateway failed."))?;
    Ok(worker)
}

fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h HeaderValue>, Problem> {
    let mut lines = headers.get_all(name);
    match (lines.next(), lines.next()) {
        (line, None) => Ok(line),
        (_, Some(_)) => Err(contradiction(name.as_str())),
    }
}

fn contradiction(what: &str) -> Problem {
    Problem::new(
        Kind::AmbiguousRequest,
        format!(
            "The request in question is named twice, by {what}. Have the proxy take off what the client sent."
        ),
    )
}

fn malformed(what: &str) -> Problem {
    Problem::new(
        Kind::AmbiguousRequest,
        format!("The {what} of the request in question is malformed."),
    )
}
