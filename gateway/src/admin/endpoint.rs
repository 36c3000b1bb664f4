//! [`Endpoint`]: one operation of the admin listener, for router and document. Both derive from the
//! same list and cannot diverge; a handler receives path, query and body as the documented types.

mod call;
mod description;

use std::collections::BTreeMap;

use actix_web::http::Method;
use actix_web::http::header::HeaderValue;
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, Resource, Route, guard, web};
use utoipa::openapi::RefOr;
use utoipa::openapi::path::OperationBuilder;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::security::SecurityRequirement;

use crate::admin::Operations;
use crate::admin::body::{self, Body};
use crate::admin::described;
pub(super) use crate::admin::endpoint::call::{Answered, Ask, Call, Recall, check_role};
use crate::admin::endpoint::call::{expected, failed, run};
use crate::admin::endpoint::description::{GUARDED, READ_ONLY};
use crate::admin::operator::Operator;
use crate::admin::path::PathId;
use crate::admin::problem::Problem;
use crate::admin::query::{self, Query};

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

    /// Adds a route for the same method and path, taken if its guards match.
    pub(super) fn alternative(self, route: Route) -> Self {
        Self {
            alternative: Some(route),
            ..self
        }
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
