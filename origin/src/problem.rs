//! Refusals as `application/problem+json` (RFC 9457). A refusal is about one request, so it is never stored by a cache.

use actix_web::HttpResponse;
use actix_web::http::{StatusCode, header};
use serde::Serialize;

/// What a client is told about one kind of refusal. It carries no cause: causes go to the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) detail: &'static str,
}

/// The members of the answer, in the order of RFC 9457.
#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'static str,
    instance: &'a str,
    code: &'static str,
}

impl Problem {
    /// The answer. `instance` is the path of the request, without its query, which may hold what nobody should see again.
    pub(crate) fn respond(self, instance: &str) -> HttpResponse {
        let body = Body {
            // RFC 9457, 4.2.1: with this type the title is the status's own phrase.
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            detail: self.detail,
            instance,
            code: self.code,
        };
        HttpResponse::build(self.status)
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .insert_header((header::CONTENT_TYPE, "application/problem+json"))
            .body(serde_json::to_vec(&body).unwrap_or_default())
    }
}
