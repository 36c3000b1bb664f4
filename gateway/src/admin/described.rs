//! Descriptions shared by several endpoints and the OpenAPI document.

use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Ref, Schema, Type};
use utoipa::openapi::{ContentBuilder, Response, ResponseBuilder};

use crate::views::schemas;

/// Name of the bearer token's security scheme in the document.
pub(super) const SCHEME: &str = "token";

/// Header that reports whether a change is in force on the answering gateway.
pub(super) const IN_FORCE: &str = "postern-in-force";

/// Describes a refusal with this status.
pub(super) fn problem(status: u16, meaning: &str) -> Response {
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .build();
    let response = ResponseBuilder::new()
        .description(meaning)
        .content("application/problem+json", content);
    let response = match status {
        401 => response.header(
            "www-authenticate",
            header(
                "The challenge (RFC 6750).",
                schemas::text("^Bearer ", 7, 1024).into(),
            ),
        ),
        503 => response.header(
            "retry-after",
            header(
                "Seconds to wait before the next attempt.",
                schemas::text("^[0-9]+$", 1, 10).into(),
            ),
        ),
        _ => response,
    };
    response.build()
}

/// Describes a response header.
pub(super) fn header(meaning: &str, schema: Schema) -> Header {
    HeaderBuilder::new()
        .description(Some(meaning))
        .schema(schema)
        .build()
}

/// Returns the schema of an enumeration.
pub(super) fn text_of(words: &[&str]) -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(words.iter().copied()))
        .into()
}
