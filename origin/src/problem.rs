//! Refusals as `application/problem+json` (RFC 9457). Caches never store them, because each is
//! about one request.

use actix_web::HttpResponse;
use actix_web::http::{StatusCode, header};
use serde::Serialize;

/// One kind of refusal as the client sees it. Carries no cause: causes go to the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) detail: &'static str,
}

/// Members of the body, in the order of RFC 9457.
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
    /// Builds the response. `instance` is the path of the request without the query, which may hold
    /// secrets.
    pub(crate) fn respond(self, instance: &str) -> HttpResponse {
        let body = Body {
            // With this type, the title is the status's own phrase (RFC 9457, section 4.2.1).
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
