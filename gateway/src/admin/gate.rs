//! The gate of the admin listener: checks URL, host and token of every request, and completes
//! headers and problem body of every answer. Any path not listed here as open needs a token,
//! unknown paths included.

use std::rc::Rc;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, Uri};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _, web};

use crate::admin::operator::Operator;
use crate::admin::problem::{Kind, Problem};
use crate::admin::{Operations, Refused, forward_auth, leaks, query};
use crate::http::request_id::RequestIds;
use crate::http::shown_path::ShownPath;

/// Path for health probes, open to any `Host`.
const HEALTH: &str = "/healthz";

/// Paths without a token.
const OPEN: [&str; 5] = [HEALTH, "/readyz", "/metrics", "/openapi.json", "/docs"];

/// Passes a request to its handler and completes the answer.
pub async fn gate(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(operations) = request.app_data::<web::Data<Operations>>().cloned() else {
        return Ok(request.into_response(actix_web::HttpResponse::InternalServerError().finish()));
    };
    let request_id = match request.app_data::<Rc<RequestIds>>() {
        Some(ids) => ids.identify(request.headers(), operations.prefix()),
        None => RequestIds::new().make(),
    };
    let instance = request.uri().path().to_owned();
    let refused = request.app_data::<web::Data<Refused>>().cloned();
    let (method, peer) = (request.method().clone(), request.peer_addr());
    let note = |kind: Kind, is_turned_away: bool| {
        let Some(refused) = &refused else { return };
        refused.count(kind);
        if is_turned_away {
            // Path and unknown methods may contain the key.
            let path = match kind {
                Kind::KeyInUrl => "[key]",
                _ => instance.as_str(),
            };
            let method = if is_standard(&method) {
                method.as_str()
            } else {
                "UNKNOWN"
            };
            refused.tell(kind, method, path, peer);
        }
    };
    let mut response = match admit(&request, &operations) {
        Err(problem) => {
            note(problem.kind(), true);
            // The path may contain the key.
            let instance = Some(instance.as_str()).filter(|_| problem.kind() != Kind::KeyInUrl);
            request.into_response(problem.respond(instance, &request_id))
        }
        Ok(caller) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            let response = next.call(request).await?.map_into_boxed_body();
            match problem_of(&response) {
                Some(problem) => {
                    let is_turned_away =
                        matches!(problem.kind(), Kind::InsufficientRole | Kind::BadRequest);
                    note(problem.kind(), is_turned_away);
                    let (request, _) = response.into_parts();
                    ServiceResponse::new(request, problem.respond(Some(&instance), &request_id))
                }
                None => response,
            }
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    let name = HeaderName::from_static(postern_shared::headers::REQUEST_ID);
    // An answer for another proxy sets its own.
    if !headers.contains_key(&name) {
        headers.insert(name, request_id.header_value());
    }
    Ok(response)
}

/// Authenticates the caller; `None` on open paths.
fn admit(request: &ServiceRequest, operations: &Operations) -> Result<Option<Operator>, Problem> {
    // Below this path, the query is that of the original request, whose route may take keys from
    // it.
    let has_key = if forward_auth::is_below(request.path()) {
        let path = Uri::try_from(request.uri().path()).unwrap_or_default();
        ShownPath::of(&path, operations.prefix(), operations.keys()) == ShownPath::HasKey
    } else {
        ShownPath::of(request.uri(), operations.prefix(), operations.keys()) == ShownPath::HasKey
    };
    if has_key {
        return Err(Problem::new(
            Kind::KeyInUrl,
            "The URL contains an API key. The gateway did not store or log it, but others may have: consider revoking it.",
        ));
    }
    // The headers come from the client of another proxy: host and origin are not this listener's.
    if request.path() != forward_auth::PATH && !forward_auth::is_below(request.path()) {
        if request.path() != HEALTH {
            operations.hosts().check(request.headers())?;
        }
        operations.hosts().check_origin(request.headers())?;
    }
    if forward_auth::is_below(request.path()) || request.path() == forward_auth::PATH {
        // The query belongs to the original request.
        return Ok(None);
    }
    let no_query = || query::parse::<()>(request.query_string(), false).map(|_| None);
    if OPEN.contains(&request.path()) {
        return no_query();
    }
    let tokens = operations.tokens();
    if tokens.is_empty() {
        return Err(Problem::new(
            Kind::AdminDisabled,
            "Set ADMIN_TOKEN to enable the admin API.",
        ));
    }
    if leaks::is_report(request.method(), request.path(), request.headers()) {
        return no_query();
    }
    let presented = bearer_token(request).unwrap_or_default();
    let Some((token, role)) = tokens.find(presented) else {
        return Err(Problem::new(
            Kind::Unauthorized,
            "Send the admin token as Authorization: Bearer TOKEN.",
        ));
    };
    Ok(Some(Operator {
        token: token.to_owned(),
        role,
        address: request
            .peer_addr()
            .map(|address| address.ip().to_canonical()),
    }))
}

/// Returns whether the method is one of RFC 9110, hence safe to log.
fn is_standard(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET
            | Method::HEAD
            | Method::POST
            | Method::PUT
            | Method::DELETE
            | Method::OPTIONS
            | Method::PATCH
            | Method::TRACE
            | Method::CONNECT
    )
}

fn bearer_token(request: &ServiceRequest) -> Option<&[u8]> {
    let mut credentials = request.headers().get_all(header::AUTHORIZATION);
    let (Some(credential), None) = (credentials.next(), credentials.next()) else {
        return None;
    };
    let (scheme, token) = credential.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

/// Returns the problem of a failed handler: ours unchanged, the framework's by its status.
fn problem_of(response: &ServiceResponse<BoxBody>) -> Option<Problem> {
    let error = response.response().error()?;
    let framework = || match response.status() {
        status if status.is_server_error() => {
            log::error!("admin API: {error}");
            Problem::new(Kind::Internal, "The gateway failed. Its log has the cause.")
        }
        _ => Problem::new(Kind::BadRequest, "The request is malformed."),
    };
    Some(
        error
            .as_error::<Problem>()
            .cloned()
            .unwrap_or_else(framework),
    )
}
