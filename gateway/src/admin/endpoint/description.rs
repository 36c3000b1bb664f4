//! The part of an operation in the OpenAPI document: built with it, so that neither is without the
//! other.

use std::collections::BTreeMap;

use actix_web::http::Method;
use utoipa::ToSchema;
use utoipa::openapi::path::{HttpMethod, Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{Ref, Schema};
use utoipa::openapi::{ContentBuilder, RefOr, Required, Response, ResponseBuilder};

use crate::admin::body::{self, Body};
use crate::admin::described::{self, IN_FORCE, header, text_of};
use crate::admin::endpoint::{Endpoint, Verb};
use crate::admin::idempotency;
use crate::admin::path::PathId;
use crate::admin::query::{self, Query};
use crate::views::schemas;

/// Refusals by the gate, common to all operations.
pub(super) const GUARDED: [(u16, &str); 2] = [
    (403, "Cross-origin request of a browser."),
    (421, "The host of the request is not this listener's."),
];

/// Refusal of what changes something.
pub(super) const READ_ONLY: (u16, &str) = (
    403,
    "The token is read-only, or a browser sends a cross-origin request.",
);

/// Description of an answer to a change that is not in force on this gateway yet.
const NOT_IN_FORCE: &str = "As with 200: the change is made, but not in force on this gateway yet.";

impl Endpoint {
    /// Describes the header `If-Match`.
    pub(in crate::admin) fn with_if_match(mut self, meaning: &str) -> Self {
        let parameter = ParameterBuilder::new()
            .name("If-Match")
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(meaning))
            .schema(Some(Schema::from(schemas::text(
                r#"^(\*|(W/)?"[!#-+\--~]*"(, *(W/)?"[!#-+\--~]*")*)$"#,
                1,
                1024,
            ))));
        self.operation = self.operation.parameter(parameter);
        self
    }

    /// Sets operation id, tag and summary.
    pub(in crate::admin) fn named(mut self, id: &str, tag: &str, summary: &str) -> Self {
        self.operation = self
            .operation
            .operation_id(Some(id))
            .tag(tag)
            .summary(Some(summary));
        self
    }

    /// Sets the description.
    pub(in crate::admin) fn described(mut self, description: &str) -> Self {
        self.operation = self.operation.description(Some(description));
        self
    }

    /// Adds an answer with the schema `name`.
    pub(in crate::admin) fn answers(
        mut self,
        status: u16,
        meaning: &str,
        name: &str,
        schema: impl Into<RefOr<Schema>>,
    ) -> Self {
        self.schemas.insert(name.to_owned(), schema.into());
        if self.verb != Verb::Read && status == 200 {
            self = self.answers_named(202, NOT_IN_FORCE, name);
        }
        self.answers_named(status, meaning, name)
    }

    fn answers_named(self, status: u16, meaning: &str, name: &str) -> Self {
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name(name)))
            .build();
        let mut response = ResponseBuilder::new()
            .description(meaning)
            .content("application/json", content);
        if status == 201 {
            response = response
                .header(
                    "location",
                    header(
                        "URL of the created item.",
                        schemas::text("^/v1/", 4, 1024).into(),
                    ),
                )
                .header(
                    "idempotency-replayed",
                    header("Present if the answer is repeated.", text_of(&["true"])),
                );
        }
        if self.verb != Verb::Read {
            let meaning = "Whether the change is in force on the answering gateway.";
            response = response.header(IN_FORCE, header(meaning, text_of(&["true", "false"])));
        }
        self.with_response(status, response.build())
    }

    /// Registers the schema of `T` and all schemas that it refers to.
    pub(in crate::admin) fn made_of<T: ToSchema>(mut self) -> Self {
        let mut parts = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut parts);
        self.schemas.extend(parts);
        self
    }

    /// Adds an answer that is not JSON of ours.
    pub(in crate::admin) fn answers_with(
        self,
        status: u16,
        meaning: &str,
        media_type: &str,
        schema: Schema,
    ) -> Self {
        let content = ContentBuilder::new().schema(Some(schema)).build();
        self.with_response(
            status,
            ResponseBuilder::new()
                .description(meaning)
                .content(media_type, content)
                .build(),
        )
    }

    /// Adds refusals beyond those of path, query, body and verb.
    pub(in crate::admin) fn refuses(self, refusals: &[(u16, &str)]) -> Self {
        refusals.iter().fold(self, |endpoint, (status, meaning)| {
            endpoint.with_response(*status, described::problem(*status, meaning))
        })
    }

    /// Returns the operation's part of the document.
    pub(in crate::admin) fn describe(
        self,
    ) -> (HttpMethod, Operation, BTreeMap<String, RefOr<Schema>>) {
        let method = match self.method {
            Method::POST => HttpMethod::Post,
            Method::PATCH => HttpMethod::Patch,
            Method::DELETE => HttpMethod::Delete,
            Method::PUT => HttpMethod::Put,
            _ => HttpMethod::Get,
        };
        (method, self.operation.build(), self.schemas)
    }

    pub(super) fn with_path<P: PathId>(mut self) -> Self {
        let Some((name, meaning, schema)) = P::describe() else {
            return self;
        };
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some(meaning))
            .schema(Some(schema));
        self.operation = self.operation.parameter(parameter);
        self.refuses(&[(404, "Not found.")])
    }

    pub(super) fn with_query<Q: Query>(mut self, is_guarded: bool) -> Self {
        for parameter in query::parameters::<Q>(is_guarded) {
            self.operation = self.operation.parameter(parameter);
        }
        if is_guarded {
            return self.refuses(&[(412, "The consumer lacks one of these tags.")]);
        }
        self
    }

    pub(super) fn with_body<B: Body>(mut self) -> Self {
        let Some(name) = B::NAME else { return self };
        let content = || {
            ContentBuilder::new()
                .schema(Some(Ref::from_schema_name(name)))
                .build()
        };
        let mut body = RequestBodyBuilder::new()
            .required(Some(if B::MAY_BE_MISSING {
                Required::False
            } else {
                Required::True
            }))
            .content("application/json", content());
        if self.method == Method::PATCH {
            body = body.content("application/merge-patch+json", content());
        }
        self.operation = self.operation.request_body(Some(body.build()));
        self.schemas
            .insert(name.to_owned(), body::schema::<B>().into());
        self.refuses(&[
            (413, "The body or its metadata is too large."),
            (415, "The body is not JSON."),
        ])
    }

    pub(super) fn with_verb(mut self, verb: Verb) -> Self {
        self = self.refuses(&[
            (
                400,
                "The URL, the query, a header or the body is not accepted.",
            ),
            (401, "The token is missing or wrong."),
            (500, "The gateway failed; its log has the cause."),
            (
                503,
                "The admin API is off, or the database is not available at the moment.",
            ),
        ]);
        self = self.refuses(&GUARDED);
        if verb == Verb::Read {
            return self;
        }
        self = self.refuses(&[READ_ONLY]);
        if verb == Verb::Write {
            return self;
        }
        let parameter = ParameterBuilder::new()
            .name("Idempotency-Key")
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(
                "Within 24 hours, a repeated request with the same key creates nothing new and gets the same answer.",
            ))
            .schema(Some(Schema::from(schemas::text("^[!-~]+$", 1, idempotency::MAX_BYTES))));
        self.operation = self.operation.parameter(parameter);
        self.refuses(&[
            (409, "A unique value is taken, or a request with the same Idempotency-Key is running."),
            (422, "The Idempotency-Key was used for another request, or the request cannot be followed."),
        ])
    }

    fn with_response(mut self, status: u16, response: Response) -> Self {
        self.operation = self.operation.response(status.to_string(), response);
        self
    }
}
