//! [`Endpoint`]: one operation of the admin listener, for router and document. Both derive from the
//! same list and cannot diverge; a handler receives path, query and body as the documented types.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::{self as names, HeaderValue};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, Resource, Route, guard, web};
use tokio::time::timeout;
use utoipa::ToSchema;
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, ParameterBuilder, ParameterIn,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{Ref, Schema};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{ContentBuilder, RefOr, Required, Response, ResponseBuilder};

use crate::admin::body::{self, Body};
use crate::admin::described::{self, IN_FORCE, header, text_of};
use crate::admin::idempotency;
use crate::admin::operator::Operator;
use crate::admin::path::PathId;
use crate::admin::problem::{FieldError, Kind, Problem};
use crate::admin::query::{self, Guard, Query};
use crate::admin::{Operations, repeated};
use crate::auth::admin_token::Role;
use crate::keys::{Prefix, UnixMillis};
use crate::pipeline::Policy;
use crate::store::{CreationKey, Stamp, Store};
use crate::views::schemas;

/// Timeout of a handler, longer than any statement and any requested wait: nothing else detects an
/// unresponsive database.
const HANDLER_TIMEOUT: Duration = Duration::from_secs(90);

/// Refusals by the gate, common to all operations.
const GUARDED: [(u16, &str); 2] = [
    (403, "Cross-origin request of a browser."),
    (421, "The host of the request is not this listener's."),
];

/// Refusal of what changes something.
const READ_ONLY: (u16, &str) = (
    403,
    "The token is read-only, or a browser sends a cross-origin request.",
);

/// Description of an answer to a change that is not in force on this gateway yet.
const NOT_IN_FORCE: &str = "As with 200: the change is made, but not in force on this gateway yet.";

/// Result of a handler.
pub(super) type Answered = Result<HttpResponse, Problem>;

/// An authorized call with its parsed parts.
pub(super) struct Call<P, Q, B> {
    /// Path parameter.
    pub(super) path: P,
    /// Query parameters.
    pub(super) query: Q,
    /// Body.
    pub(super) body: B,
    /// Store handle of this call.
    pub(super) store: Store,
    /// Prefix of new keys.
    pub(super) prefix: Prefix,
    /// Actor, time and source for the audit.
    pub(super) stamp: Stamp,
    /// Identity of an idempotent creation.
    pub(super) creation: Option<CreationKey>,
    /// Shared state of the listener.
    pub(super) operations: web::Data<Operations>,
}

/// A call answered from memory, open to any token.
pub(super) struct Ask<Q, B> {
    /// Role of the token.
    pub(super) role: Role,
    /// Query parameters.
    pub(super) query: Q,
    /// Body.
    pub(super) body: B,
    /// Shared state of the listener.
    pub(super) operations: web::Data<Operations>,
}

/// A call on the memory of this gateway; the store is not needed.
pub(super) struct Recall<P, Q = ()> {
    /// Path parameter.
    pub(super) path: P,
    /// Query parameters.
    pub(super) query: Q,
    /// Entity tags of `If-Match`, one of which must be current; `None` for any.
    pub(super) expected: Option<Vec<String>>,
    /// Name of the token, for the log.
    pub(super) operator: String,
    /// Shared state of the listener.
    pub(super) operations: web::Data<Operations>,
}

/// An operation.
pub struct Endpoint {
    /// HTTP method.
    pub method: Method,
    /// Path template, with `{name}` for a parameter.
    pub path: &'static str,
    route: Route,
    /// Route tried first; takes the request if its guard matches.
    alternative: Option<Route>,
    operation: OperationBuilder,
    verb: Verb,
    schemas: BTreeMap<String, RefOr<Schema>>,
}

/// Kind of operation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Read,
    Write,
    /// A write that accepts an idempotency key.
    Create,
}

impl Endpoint {
    /// Defines a read, open to any token.
    pub(super) fn get<P, Q, B>(
        path: &'static str,
        handler: impl AsyncFn(Call<P, Q, B>) -> Answered + Clone + 'static,
    ) -> Self
    where
        P: PathId + 'static,
        Q: Query + 'static,
        B: Body + 'static,
    {
        Self::new(Method::GET, Verb::Read, path, handler)
    }

    /// Defines a creation, executed once per idempotency key.
    pub(super) fn create<P, Q, B>(
        path: &'static str,
        handler: impl AsyncFn(Call<P, Q, B>) -> Answered + Clone + 'static,
    ) -> Self
    where
        P: PathId + 'static,
        Q: Query + 'static,
        B: Body + 'static,
    {
        Self::new(Method::POST, Verb::Create, path, handler)
    }

    /// Defines any other write.
    pub(super) fn write<P, Q, B>(
        method: Method,
        path: &'static str,
        handler: impl AsyncFn(Call<P, Q, B>) -> Answered + Clone + 'static,
    ) -> Self
    where
        P: PathId + 'static,
        Q: Query + 'static,
        B: Body + 'static,
    {
        Self::new(method, Verb::Write, path, handler)
    }

    /// Defines a read with a body, open to any token.
    pub(super) fn ask<Q, B>(
        path: &'static str,
        handler: impl AsyncFn(Ask<Q, B>) -> Answered + Clone + 'static,
    ) -> Self
    where
        Q: Query + 'static,
        B: Body + 'static,
    {
        let route = web::post().to(move |request: HttpRequest, payload: web::Payload| {
            let handler = handler.clone();
            async move {
                let caller = request.extensions().get::<Operator>().cloned();
                let role = caller.ok_or_else(failed)?.role;
                let operations = request
                    .app_data::<web::Data<Operations>>()
                    .ok_or_else(failed)?
                    .clone();
                let (query, _) = query::parse(request.query_string(), false)?;
                let text = body::collect(&request, payload).await?;
                let body = body::parse(&request, &text, operations.prefix(), operations.keys())?;
                handler(Ask {
                    role,
                    query,
                    body,
                    operations,
                })
                .await
            }
        });
        let operation = OperationBuilder::new().security(SecurityRequirement::new::<
            _,
            [&str; 0],
            &str,
        >(described::SCHEME, []));
        Self {
            method: Method::POST,
            path,
            route,
            alternative: None,
            operation,
            verb: Verb::Read,
            schemas: BTreeMap::new(),
        }
        .with_query::<Q>(false)
        .with_body::<B>()
        .with_verb(Verb::Read)
    }

    /// Defines an operation on the memory of this gateway, without a body. A `GET` is open to any
    /// token.
    pub(super) fn recall<P: PathId + 'static, Q: Query + 'static>(
        method: Method,
        path: &'static str,
        handler: impl AsyncFn(Recall<P, Q>) -> Answered + Clone + 'static,
    ) -> Self {
        let is_read = method == Method::GET;
        let route = web::route().to(move |request: HttpRequest| {
            let handler = handler.clone();
            async move {
                let caller = request.extensions().get::<Operator>().cloned();
                let caller = caller.ok_or_else(failed)?;
                check_role(is_read, caller.role)?;
                let (query, _) = query::parse(request.query_string(), false)?;
                let operations = request.app_data::<web::Data<Operations>>();
                let operations = operations.ok_or_else(failed)?.clone();
                handler(Recall {
                    path: P::read(&request)?,
                    query,
                    expected: expected(&request)?,
                    operator: caller.token,
                    operations,
                })
                .await
            }
        });
        let route = if is_read {
            route.guard(reads())
        } else {
            route.method(method.clone())
        };
        let operation = OperationBuilder::new().security(SecurityRequirement::new::<
            _,
            [&str; 0],
            &str,
        >(described::SCHEME, []));
        let endpoint = Self {
            method,
            path,
            route,
            alternative: None,
            operation,
            // Neither in force later nor repeated, whatever the method.
            verb: Verb::Read,
            schemas: BTreeMap::new(),
        }
        .with_path::<P>()
        .with_query::<Q>(false)
        .with_verb(Verb::Read);
        if is_read {
            return endpoint;
        }
        endpoint.refuses(&[READ_ONLY])
    }

    /// Describes the header `If-Match`.
    pub(super) fn with_if_match(mut self, meaning: &str) -> Self {
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

    /// Defines an operation without a token. `gate` must list its path.
    pub(super) fn open(path: &'static str, route: Route) -> Self {
        let operation = OperationBuilder::new().security(SecurityRequirement::default());
        let route = route.guard(reads());
        Self {
            method: Method::GET,
            path,
            route,
            alternative: None,
            operation,
            verb: Verb::Read,
            schemas: BTreeMap::new(),
        }
        .refuses(&[(400, "The URL contains an API key or an unknown parameter.")])
        .refuses(&GUARDED)
    }

    fn new<P, Q, B>(
        method: Method,
        verb: Verb,
        path: &'static str,
        handler: impl AsyncFn(Call<P, Q, B>) -> Answered + Clone + 'static,
    ) -> Self
    where
        P: PathId + 'static,
        Q: Query + 'static,
        B: Body + 'static,
    {
        let route = web::route().to(move |request: HttpRequest, payload: web::Payload| {
            let handler = handler.clone();
            async move { run(&request, payload, verb, handler).await }
        });
        let route = if verb == Verb::Read {
            route.guard(reads())
        } else {
            route.method(method.clone())
        };
        let operation = OperationBuilder::new().security(SecurityRequirement::new::<
            _,
            [&str; 0],
            &str,
        >(described::SCHEME, []));
        Self {
            method,
            path,
            route,
            alternative: None,
            operation,
            verb,
            schemas: BTreeMap::new(),
        }
        .with_path::<P>()
        .with_query::<Q>(P::IS_GUARDED)
        .with_body::<B>()
        .with_verb(verb)
    }

    /// Sets operation id, tag and summary.
    pub(super) fn named(mut self, id: &str, tag: &str, summary: &str) -> Self {
        self.operation = self
            .operation
            .operation_id(Some(id))
            .tag(tag)
            .summary(Some(summary));
        self
    }

    /// Sets the description.
    pub(super) fn described(mut self, description: &str) -> Self {
        self.operation = self.operation.description(Some(description));
        self
    }

    /// Adds an answer with the schema `name`.
    pub(super) fn answers(
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
    pub(super) fn made_of<T: ToSchema>(mut self) -> Self {
        let mut parts = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut parts);
        self.schemas.extend(parts);
        self
    }

    /// Adds a route for the same method and path, taken if its guards match.
    pub(super) fn alternative(self, route: Route) -> Self {
        Self {
            alternative: Some(route),
            ..self
        }
    }

    /// Adds an answer that is not JSON of ours.
    pub(super) fn answers_with(
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
    pub(super) fn refuses(self, refusals: &[(u16, &str)]) -> Self {
        refusals.iter().fold(self, |endpoint, (status, meaning)| {
            endpoint.with_response(*status, described::problem(*status, meaning))
        })
    }

    /// Returns the operation's part of the document.
    pub(super) fn describe(self) -> (HttpMethod, Operation, BTreeMap<String, RefOr<Schema>>) {
        let method = match self.method {
            Method::POST => HttpMethod::Post,
            Method::PATCH => HttpMethod::Patch,
            Method::DELETE => HttpMethod::Delete,
            Method::PUT => HttpMethod::Put,
            _ => HttpMethod::Get,
        };
        (method, self.operation.build(), self.schemas)
    }

    fn with_path<P: PathId>(mut self) -> Self {
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

    fn with_query<Q: Query>(mut self, is_guarded: bool) -> Self {
        for parameter in query::parameters::<Q>(is_guarded) {
            self.operation = self.operation.parameter(parameter);
        }
        if is_guarded {
            return self.refuses(&[(412, "The consumer lacks one of these tags.")]);
        }
        self
    }

    fn with_body<B: Body>(mut self) -> Self {
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

    fn with_verb(mut self, verb: Verb) -> Self {
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

/// Builds one resource per path, with 405 for other methods.
pub(super) fn resources(endpoints: Vec<Endpoint>) -> Vec<Resource> {
    let mut paths: BTreeMap<&'static str, (Resource, Vec<&'static str>)> = BTreeMap::new();
    for endpoint in endpoints {
        let (resource, methods) = paths
            .remove(endpoint.path)
            .unwrap_or_else(|| (web::resource(endpoint.path), Vec::new()));
        let mut methods = methods;
        methods.extend(match endpoint.method {
            Method::POST => &["POST"][..],
            Method::PATCH => &["PATCH"],
            Method::DELETE => &["DELETE"],
            Method::PUT => &["PUT"],
            _ => &["GET", "HEAD"],
        });
        let resource = endpoint
            .alternative
            .into_iter()
            .fold(resource, Resource::route);
        paths.insert(endpoint.path, (resource.route(endpoint.route), methods));
    }
    let finish = |(resource, methods): (Resource, Vec<&'static str>)| {
        let allow =
            HeaderValue::try_from(methods.join(", ")).unwrap_or(HeaderValue::from_static("GET"));
        resource.default_service(web::to(move || {
            let allow = allow.clone();
            async move { Err::<HttpResponse, _>(Problem::method_not_allowed(allow)) }
        }))
    };
    paths.into_values().map(finish).collect()
}

/// Matches `GET` and `HEAD` (RFC 9110, section 9.3.2).
fn reads() -> impl guard::Guard {
    guard::Any(guard::Get()).or(guard::Head())
}

async fn run<P: PathId, Q: Query, B: Body>(
    request: &HttpRequest,
    payload: web::Payload,
    verb: Verb,
    handler: impl AsyncFn(Call<P, Q, B>) -> Answered,
) -> Answered {
    let operations = request
        .app_data::<web::Data<Operations>>()
        .ok_or_else(failed)?;
    let caller = request
        .extensions()
        .get::<Operator>()
        .cloned()
        .ok_or_else(failed)?;
    check_role(verb == Verb::Read, caller.role)?;
    let path = P::read(request)?;
    let (query, guard): (Q, Guard) = query::parse(request.query_string(), P::IS_GUARDED)?;
    let text = if verb == Verb::Read || request.method() == Method::DELETE {
        // Ignored: a body has no meaning here (RFC 9110, sections 9.3.1 and 9.3.5).
        web::BytesMut::new()
    } else {
        body::collect(request, payload).await?
    };
    let body = body::parse(request, &text, operations.prefix(), operations.keys())?;
    let creation = match verb {
        Verb::Create => idempotency::key_of(request, &caller.token, &text)?,
        Verb::Read | Verb::Write => None,
    };
    let _turn = creation
        .as_ref()
        .map(|key| operations.running().begin(key))
        .transpose()?;
    let (prefix, stamp) = (
        operations.prefix().clone(),
        Stamp {
            guard: if P::IS_GUARDED {
                guard.0.clone()
            } else {
                query.guard()
            },
            ..caller.stamp()
        },
    );
    operations
        .with_store(async |store| {
            if let Some(key) = &creation
                && let Some(before) = store.repeated(key).await?
            {
                return Ok(repeated(before));
            }
            let answered = timeout(HANDLER_TIMEOUT, async {
                // Checked here for all operations. Changes verify the tag precondition again, in
                // their transaction.
                if !guard.is_empty() {
                    guard.check(&path.owner_tags(&store).await?)?;
                }
                handler(Call {
                    path,
                    query,
                    body,
                    store,
                    prefix,
                    stamp,
                    creation,
                    operations: operations.clone(),
                })
                .await
            })
            .await;
            answered.unwrap_or_else(|_| Err(Problem::store_unavailable()))
        })
        .await
}

/// Refuses a change by a token that may read only.
///
/// # Errors
/// [`Kind::InsufficientRole`].
pub(super) fn check_role(is_read: bool, role: Role) -> Result<(), Problem> {
    if is_read || role == Role::Admin {
        return Ok(());
    }
    Err(Problem::new(
        Kind::InsufficientRole,
        "This token may read only.",
    ))
}

/// Reads the strong entity tags of `If-Match` (RFC 9110, section 13.1.1); a weak one matches
/// nothing.
fn expected(request: &HttpRequest) -> Result<Option<Vec<String>>, Problem> {
    let refuse = || {
        let error = FieldError::of(
            "If-Match",
            "`*`, or the ETag of `/v1/config` with its quotation marks, is accepted here",
        );
        Problem::new(Kind::InvalidParameter, "A header is not accepted.").with(vec![error])
    };
    let mut lines = request.headers().get_all(names::IF_MATCH).peekable();
    if lines.peek().is_none() {
        return Ok(None);
    }
    let mut tags = Vec::new();
    for line in lines {
        let line = line.to_str().map_err(|_| refuse())?;
        for tag in line.split(',').map(str::trim) {
            if tag == "*" {
                return Ok(None);
            }
            let (is_weak, tag) = match tag.strip_prefix("W/") {
                Some(tag) => (true, tag),
                None => (false, tag),
            };
            let tag = tag
                .strip_prefix('"')
                .and_then(|tag| tag.strip_suffix('"'))
                .filter(|tag| !tag.contains('"'))
                .ok_or_else(refuse)?;
            if !is_weak {
                tags.push(tag.to_owned());
            }
        }
    }
    Ok(Some(tags))
}

/// Internal error: a required part is missing.
fn failed() -> Problem {
    Problem::new(Kind::Internal, "The gateway failed.")
}

impl<P, Q, B> Call<P, Q, B> {
    /// Returns the current policy.
    ///
    /// # Errors
    /// This listener belongs to no data plane.
    pub(super) fn policy(&self) -> Result<Arc<Policy>, Problem> {
        self.operations.policy().ok_or_else(failed)
    }

    /// Returns the time of the call.
    pub(super) fn now(&self) -> UnixMillis {
        self.stamp.at
    }
}
