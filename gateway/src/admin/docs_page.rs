//! `/docs`: a page that renders `/openapi.json` with an inline script and style. Loads nothing from
//! elsewhere, and its policy forbids it.

use std::sync::LazyLock;

use actix_web::http::header::CONTENT_SECURITY_POLICY;
use actix_web::{HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use utoipa::openapi::schema::{ObjectBuilder, Type};

use crate::admin::endpoint::Endpoint;

const STYLE: &str = include_str!("docs_page/page.css");
const SCRIPT: &str = include_str!("docs_page/page.js");

static PAGE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>Postern admin API</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main id=\"page\"><p>Loading…</p></main>\n\
         <noscript><p>This page needs its script to show <a href=\"/openapi.json\">/openapi.json</a>.</p></noscript>\n\
         <script>{SCRIPT}</script>\n</body>\n</html>\n"
    )
});

/// Allows exactly this script and this style; injected ones do not run.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE)
    )
});

/// Describes the operation for the page.
pub(super) fn endpoint() -> Endpoint {
    let show = async || {
        HttpResponse::Ok()
            .content_type("text/html; charset=utf-8")
            .insert_header((CONTENT_SECURITY_POLICY, POLICY.as_str()))
            .body(PAGE.as_str())
    };
    Endpoint::open("/docs", web::route().to(show))
        .named("show_page", "document", "Show this document as a page")
        .answers_with(
            200,
            "The page.",
            "text/html",
            ObjectBuilder::new().schema_type(Type::String).into(),
        )
}

fn hash(text: &str) -> String {
    format!(
        "sha256-{}",
        STANDARD.encode(Sha256::digest(text.as_bytes()))
    )
}
