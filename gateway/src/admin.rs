//! The admin listener: health, readiness and the OpenAPI document without a token, the admin API
//! with one.
//!
//! [`endpoint`] defines an operation; each resource's file lists its own. A new operation is one
//! handler and one list entry there: router and document derive from it.

mod adoption;
mod audit;
mod body;
mod brake;
mod buckets;
mod config;
mod consumers;
mod described;
mod docs_page;
mod endpoint;
mod field_error;
mod find;
mod forward_auth;
mod gate;
mod gateways;
mod hosts;
mod idempotency;
mod issuers;
mod json;
mod keys;
mod leaks;
mod limits;
mod member;
pub mod metrics;
mod openapi;
mod operations;
pub mod operator;
mod page;
mod path;
mod plans;
mod problem;
mod query;
mod quotas;
mod refused;
mod roll;
mod usage;
mod verify;

pub use endpoint::Endpoint;
pub use gate::Gate;
pub use openapi::document;
pub use operations::Operations;
pub use refused::Refused;

use actix_web::http::header::{HeaderValue, LOCATION};
use actix_web::{HttpResponse, HttpResponseBuilder, web};
use serde::Serialize;

use crate::admin::problem::Problem;
use crate::store::{Creation, StoredAnswer};

/// Returns every operation of the listener.
#[must_use]
pub fn endpoints() -> Vec<Endpoint> {
    let mut all = consumers::endpoints();
    all.extend(keys::endpoints());
    all.extend(roll::endpoints());
    all.push(leaks::endpoint());
    all.extend(buckets::endpoints());
    all.extend(plans::endpoints());
    all.extend([usage::endpoint(), adoption::endpoint(), audit::endpoint()]);
    all.extend(gateways::endpoints());
    all.extend(config::endpoints());
    all.extend(limits::endpoints());
    all.extend(brake::endpoints());
    all.extend(issuers::endpoints());
    all.extend(quotas::endpoints());
    all.extend(operations::endpoints());
    all.extend([
        verify::endpoint(),
        forward_auth::endpoint(),
        metrics::endpoint(),
        openapi::endpoint(),
        docs_page::endpoint(),
    ]);
    all
}

/// Registers the operations in an `App` behind a [`Gate`].
pub fn routes(config: &mut web::ServiceConfig) {
    for resource in endpoint::resources(endpoints()) {
        config.service(resource);
    }
    forward_auth::routes(config);
    config.default_service(web::to(async || {
        Err::<HttpResponse, _>(Problem::no_such_path())
    }));
}

/// Serializes a view as JSON; infallible for names and texts.
fn text(view: &impl Serialize) -> String {
    serde_json::to_string(view).unwrap_or_default()
}

/// Answers a creation; `answer` builds the first answer.
fn created<T>(creation: Creation<T>, answer: impl FnOnce(&T) -> StoredAnswer) -> HttpResponse {
    match creation {
        Creation::Made(made) => answer_creation(HttpResponse::Created(), answer(&made)),
        Creation::Repeated(before) => repeated(before),
    }
}

/// Answers a repeated creation.
fn repeated(before: StoredAnswer) -> HttpResponse {
    let mut response = HttpResponse::Created();
    response.insert_header((idempotency::REPLAYED, "true"));
    answer_creation(response, before)
}

fn answer_creation(mut response: HttpResponseBuilder, answer: StoredAnswer) -> HttpResponse {
    let StoredAnswer { location, body } = answer;
    if let Ok(location) = HeaderValue::try_from(location) {
        response.insert_header((LOCATION, location));
    }
    response.content_type("application/json").body(body)
}
