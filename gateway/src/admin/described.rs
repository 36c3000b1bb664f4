//! What the endpoints and the document that is made of them say in the same words.

use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Ref, Schema, Type};
use utoipa::openapi::{ContentBuilder, Response, ResponseBuilder};

use crate::views::schemas;

/// What the document calls the bearer token.
pub(super) const SCHEME: &str = "token";

/// Whether the gateway that answers a change goes by it.
pub(super) const IN_FORCE: &str = "postern-in-force";

/// A refusal of this status.
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
                "In how many seconds to try again.",
                schemas::text("^[0-9]+$", 1, 10).into(),
            ),
        ),
        _ => response,
    };
    response.build()
}

/// A header of an answer.
pub(super) fn header(meaning: &str, schema: Schema) -> Header {
    HeaderBuilder::new()
        .description(Some(meaning))
        .schema(schema)
        .build()
}

/// One of these words.
pub(super) fn text_of(words: &[&str]) -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(words.iter().copied()))
        .into()
}
