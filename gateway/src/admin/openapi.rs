//! `/openapi.json`: the OpenAPI 3.1 document, derived from the endpoints. It has no examples, so
//! none can hold a secret.

use std::sync::LazyLock;

use actix_web::body::BoxBody;
use actix_web::{HttpResponse, Route, web};
use utoipa::PartialSchema as _;
use utoipa::openapi::path::{PathItem, Paths};
use utoipa::openapi::schema::{Components, ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::tag::Tag;
use utoipa::openapi::{InfoBuilder, OpenApi, OpenApiBuilder, Server};

use crate::admin::Operations;
use crate::admin::described::SCHEME;
use crate::admin::endpoint::Endpoint;
use crate::admin::endpoints;
use crate::admin::problem::{FieldError, ProblemBody};
use crate::config::public_url::PublicUrl;

static DOCUMENT: LazyLock<String> = LazyLock::new(|| text(None));

/// Describes the operation for the document.
pub(super) fn endpoint() -> Endpoint {
    let any_object = ObjectBuilder::new().schema_type(Type::Object).build();
    Endpoint::open("/openapi.json", show())
        .named("show_document", "document", "Show this document")
        .answers_with(
            200,
            "This document (OpenAPI 3.1).",
            "application/json",
            any_object.into(),
        )
}

/// Returns the document as text, with the public URL if known.
pub(super) fn text(reached_at: Option<&PublicUrl>) -> String {
    let mut document = document();
    document.servers = reached_at.map(|url| vec![Server::new(url.origin())]);
    document.to_json().unwrap_or_default()
}

/// Builds the document.
#[must_use]
pub fn document() -> OpenApi {
    let mut components = Components::new();
    components
        .schemas
        .insert("Problem".to_owned(), ProblemBody::schema());
    components
        .schemas
        .insert("FieldError".to_owned(), FieldError::schema());
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "An admin token: ADMIN_TOKEN, or one of `[[admin.tokens]]`.",
        ));
    components.add_security_scheme(SCHEME, SecurityScheme::Http(bearer.build()));
    let mut paths = Paths::new();
    for endpoint in endpoints() {
        let path = endpoint.path;
        let (method, operation, schemas) = endpoint.describe();
        components.schemas.extend(schemas);
        match paths.paths.get_mut(path) {
            Some(item) => item.merge_operations(PathItem::new(method, operation)),
            None => drop(
                paths
                    .paths
                    .insert(path.to_owned(), PathItem::new(method, operation)),
            ),
        }
    }
    let description = "Consumers and their API keys. Every change is recorded in the audit log and reaches every gateway at once. Refusals are application/problem+json (RFC 9457).";
    let info = InfoBuilder::new()
        .title("Postern admin API")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(description));
    let tag = |name, description: &str| {
        let mut tag = Tag::new(name);
        tag.description = Some(description.to_owned());
        tag
    };
    OpenApiBuilder::new()
        .info(info.build())
        .paths(paths)
        .components(Some(components))
        .tags(Some([
            tag("consumers", "Owners of keys."),
            tag("keys", "Credentials of clients."),
            tag("buckets", "Namespaces of consumers."),
            tag("plans", "Scopes and numbers that consumers share."),
            tag(
                "verification",
                "Verification of keys for other proxies and services.",
            ),
            tag("usage", "Usage of keys, and who comes without one."),
            tag("audit", "Log of all changes: actor, time and source."),
            tag("operations", "Liveness, readiness and metrics."),
            tag("document", "This document, for programs and for people."),
        ]))
        .build()
}

fn show() -> Route {
    web::route().to(async |operations: web::Data<Operations>| {
        let named = operations.document().map(|document| document.to_string());
        let body = named.map_or_else(|| BoxBody::new(DOCUMENT.as_str()), BoxBody::new);
        HttpResponse::Ok()
            .content_type("application/json")
            .body(body)
    })
}
