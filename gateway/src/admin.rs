//! The listener for operators: health and readiness without a token, everything else with one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, CACHE_CONTROL, WWW_AUTHENTICATE};
use actix_web::{HttpRequest, HttpResponse, web};
use postern_shared::{AcceptedSecrets, Secret};
use serde_json::json;

use crate::keys::KeyTable;
use crate::proxy::Upstream;
use crate::store::feed::FeedStatus;

/// What the admin listener tells of, shared with the rest of the gateway.
#[derive(Clone)]
pub struct Operations {
    keys: Arc<KeyTable>,
    feed: Arc<FeedStatus>,
    upstreams: Vec<Arc<Upstream>>,
    stopping: Arc<AtomicBool>,
    tokens: Arc<AcceptedSecrets>,
}

impl Operations {
    /// Tells of `keys` and how `feed` keeps them current, and of `upstreams`; the admin API is open to the holder of `token`.
    #[must_use]
    pub fn new(keys: Arc<KeyTable>, feed: Arc<FeedStatus>, upstreams: Vec<Arc<Upstream>>, token: Option<&Secret>) -> Self {
        Self { keys, feed, upstreams, stopping: Arc::default(), tokens: Arc::new(AcceptedSecrets::new(token)) }
    }

    /// From now on the gateway is not ready: it takes no new work.
    pub fn begin_stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }
}

/// Adds the paths of the admin listener.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/healthz", web::get().to(async || HttpResponse::Ok().json(json!({ "status": "ok" }))))
        .route("/readyz", web::get().to(ready))
        .default_service(web::to(admin_api));
}

/// Whether the gateway takes work, how many keys it knows, and how long ago they were last known to be current: while the
/// store is away, requests go on with the keys known so far.
async fn ready(operations: web::Data<Operations>) -> HttpResponse {
    let stopping = operations.stopping.load(Ordering::Acquire);
    let (status, code) = match (stopping, operations.keys.is_loaded()) {
        (true, _) => ("stopping", StatusCode::SERVICE_UNAVAILABLE),
        (false, false) => ("loading", StatusCode::SERVICE_UNAVAILABLE),
        (false, true) => ("ready", StatusCode::OK),
    };
    // Told, not judged: an origin that is away makes no gateway unfit for the routes of the others.
    let upstreams: Vec<serde_json::Value> = operations.upstreams.iter().map(|upstream| tell(upstream)).collect();
    let age = operations.feed.age(Instant::now()).map(|age| age.as_secs_f64());
    HttpResponse::build(code).insert_header((CACHE_CONTROL, "no-store")).json(json!({
        "status": status,
        "keys": operations.keys.len(),
        "store_age_seconds": age,
        "store_revision": operations.feed.revision(),
        "upstreams": upstreams,
    }))
}

fn tell(upstream: &Upstream) -> serde_json::Value {
    let targets = upstream.targets().iter();
    let targets = targets.map(|target| json!({ "target": target.to_string(), "state": target.state().as_str() }));
    json!({ "name": upstream.name(), "targets": targets.collect::<Vec<_>>() })
}

/// The admin API has no paths yet; who may not know that is told so first.
async fn admin_api(request: HttpRequest, operations: web::Data<Operations>) -> HttpResponse {
    if operations.tokens.is_empty() {
        return problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "admin_disabled",
            "Admin API disabled",
            "Set ADMIN_TOKEN to enable the admin API.",
        );
    }
    let mut credentials = request.headers().get_all(AUTHORIZATION);
    let token = match (credentials.next(), credentials.next()) {
        (Some(credential), None) => credential.as_bytes(),
        _ => b"",
    };
    let token = token
        .split_at_checked(7)
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "))
        .map_or(&b""[..], |(_, token)| token);
    if !operations.tokens.matches(token) {
        let mut refusal = problem(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "Not authorised",
            "Send the admin token as Authorization: Bearer TOKEN.",
        );
        let challenge = actix_web::http::header::HeaderValue::from_static("Bearer realm=\"postern-admin\"");
        refusal.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        return refusal;
    }
    problem(StatusCode::NOT_FOUND, "not_found", "Not found", "There is nothing at this path.")
}

fn problem(status: StatusCode, code: &str, title: &str, detail: &str) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((CACHE_CONTROL, "no-store"))
        .content_type("application/problem+json")
        .body(json!({ "type": format!("urn:postern:problem:{code}"), "title": title, "status": status.as_u16(), "detail": detail, "code": code }).to_string())
}
