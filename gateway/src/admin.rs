//! The listener for operators: health, readiness and the document without a token, the admin API with one.
//!
//! [`endpoint`] says what an operation is made of; each file of a resource lists its own. An operation is added by one
//! handler there and one entry in its list: router and document follow from it.

mod audit;
mod body;
mod buckets;
mod consumers;
mod described;
mod docs_page;
mod endpoint;
mod field_error;
mod forward_auth;
mod gate;
mod gateways;
mod hosts;
mod idempotency;
mod json;
mod keys;
mod leaks;
mod member;
pub mod metrics;
mod openapi;
mod operations;
pub mod operator;
mod page;
mod path;
mod problem;
mod query;
mod refused;
mod roll;
mod usage;
mod verify;

pub use endpoint::Endpoint;
pub use gate::gate;
pub use openapi::document;
pub use operations::Operations;
pub use refused::Refused;

use std::rc::Rc;

use actix_web::http::header::{HeaderValue, LOCATION};
use actix_web::{HttpResponse, HttpResponseBuilder, web};
use serde::Serialize;

use crate::admin::problem::Problem;
use crate::http::request_id::RequestIds;
use crate::store::{Answer, Creation};

/// Every operation of the listener.
#[must_use]
pub fn endpoints() -> Vec<Endpoint> {
    let mut all = consumers::endpoints();
    all.extend(keys::endpoints());
    all.extend(roll::endpoints());
    all.push(leaks::endpoint());
    all.extend(buckets::endpoints());
    all.extend([usage::endpoint(), audit::endpoint()]);
    all.extend(gateways::endpoints());
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

/// Adds the operations, for an `App` that is wrapped in [`gate`].
pub fn routes(config: &mut web::ServiceConfig) {
    config.app_data(Rc::new(RequestIds::new()));
    for resource in endpoint::resources(endpoints()) {
        config.service(resource);
    }
    forward_auth::routes(config);
    config.default_service(web::to(async || {
        Err::<HttpResponse, _>(Problem::no_such_path())
    }));
}

/// What is seen of something, as JSON: names and texts always become that.
fn text(view: &impl Serialize) -> String {
    serde_json::to_string(view).unwrap_or_default()
}

/// The answer to a creation; `answer` is what it is the first time.
fn created<T>(creation: Creation<T>, answer: impl FnOnce(&T) -> Answer) -> HttpResponse {
    match creation {
        Creation::Made(made) => answer_creation(HttpResponse::Created(), answer(&made)),
        Creation::Repeated(before) => repeated(before),
    }
}

/// The answer to a creation that was made before.
fn repeated(before: Answer) -> HttpResponse {
    let mut response = HttpResponse::Created();
    response.insert_header((idempotency::REPLAYED, "true"));
    answer_creation(response, before)
}

fn answer_creation(mut response: HttpResponseBuilder, answer: Answer) -> HttpResponse {
    let Answer { location, body } = answer;
    if let Ok(location) = HeaderValue::try_from(location) {
        response.insert_header((LOCATION, location));
    }
    response.content_type("application/json").body(body)
}
