//! The gate of the admin listener: checks URL, host and token of every request, has the API answer
//! it, and completes headers and problem body of every answer. Any path not listed here as open
//! needs a token, unknown paths included.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use actix_http::{ConnectionType, Request, Response};
use actix_service::Service;
use actix_web::body::BoxBody;
use actix_web::dev::ServiceResponse;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, Uri};
use actix_web::{Error, HttpMessage as _, HttpResponse, web};
use futures_core::future::LocalBoxFuture;

use crate::admin::operator::Operator;
use crate::admin::problem::{Kind, Problem};
use crate::admin::{Operations, Refused, forward_auth, leaks, query};
use crate::front::client_stream::{ClientControl, ClientFault};
use crate::front::dispatcher::Handler;
use crate::http::request_id::{RequestId, RequestIds};
use crate::http::shown_path::ShownPath;
use crate::panics::catch_panic;

/// Path for health probes, open to any `Host`.
const HEALTH: &str = "/healthz";

/// Paths without a token.
const OPEN: [&str; 5] = [HEALTH, "/readyz", "/metrics", "/openapi.json", "/docs"];

/// Text of a failure whose cause is logged.
const FAILED: &str = "The gateway failed. Its log has the cause.";

/// The gate before `api`, an `App` with [`routes`](crate::admin::routes).
pub struct Gate<A> {
    api: A,
    operations: web::Data<Operations>,
    refused: Arc<Refused>,
    ids: RequestIds,
}

/// What is said of a request in its answer and in the log.
struct Asked {
    id: RequestId,
    method: Method,
    path: String,
    peer: Option<SocketAddr>,
}

impl<A> Gate<A> {
    /// Puts a gate before `api`.
    pub fn before(api: A, operations: web::Data<Operations>, refused: Arc<Refused>) -> Self {
        Self {
            api,
            operations,
            refused,
            ids: RequestIds::new(),
        }
    }

    fn asked(&self, request: &Request) -> Asked {
        Asked {
            id: self
                .ids
                .identify(request.headers(), self.operations.prefix()),
            method: request.method().clone(),
            path: request.path().to_owned(),
            peer: request.peer_addr(),
        }
    }

    fn admit(&self, request: &Request, asked: &Asked) -> Result<Option<Operator>, Problem> {
        admit(request, &self.operations).inspect_err(|problem| self.tell(problem.kind(), asked))
    }

    /// Logs a refusal.
    fn tell(&self, kind: Kind, asked: &Asked) {
        // Path and unknown methods may contain the key.
        let path = match kind {
            Kind::KeyInUrl => "[key]",
            _ => &asked.path,
        };
        let method = match is_standard(&asked.method) {
            true => asked.method.as_str(),
            false => "UNKNOWN",
        };
        self.refused.tell(kind, method, path, asked.peer);
    }

    /// Counts a problem and answers with it; `instance` is the path, unless it may contain a key.
    fn refuse(
        &self,
        problem: &Problem,
        instance: Option<&str>,
        id: &RequestId,
    ) -> Response<BoxBody> {
        self.refused.count(problem.kind());
        complete(problem.respond(instance, id), id)
    }

    fn refuse_asked(&self, problem: &Problem, asked: &Asked) -> Response<BoxBody> {
        let instance = Some(&*asked.path).filter(|_| problem.kind() != Kind::KeyInUrl);
        self.refuse(problem, instance, &asked.id)
    }
}

impl<A> Gate<A>
where
    A: Service<Request, Response = ServiceResponse, Error = Error> + 'static,
{
    async fn serve(&self, request: Request, asked: &Asked) -> Response<BoxBody> {
        match catch_panic(self.respond(request, asked)).await {
            Ok(Ok(response)) => complete(response, &asked.id),
            Ok(Err(problem)) => self.refuse_asked(&problem, asked),
            Err(panicked) => {
                let id = asked.id.as_str();
                log::error!("admin API: the request {id} ended in {panicked}");
                // Where it ended is unknown, and with it whether the path was found free of keys.
                self.refuse(&Problem::new(Kind::Internal, FAILED), None, &asked.id)
            }
        }
    }

    /// Passes a request to its handler.
    async fn respond(&self, request: Request, asked: &Asked) -> Result<HttpResponse, Problem> {
        if let Some(operator) = self.admit(&request, asked)? {
            request.extensions_mut().insert(operator);
        }
        let answered = self.api.call(request).await;
        let response =
            answered.map_or_else(HttpResponse::from_error, |answered| answered.into_parts().1);
        let Some(problem) = problem_of(&response) else {
            return Ok(response);
        };
        if matches!(problem.kind(), Kind::InsufficientRole | Kind::BadRequest) {
            self.tell(problem.kind(), asked);
        }
        Err(problem)
    }
}

impl<A> Handler for Gate<A>
where
    A: Service<Request, Response = ServiceResponse, Error = Error> + 'static,
{
    type Body = BoxBody;
    type Connection = ();

    // A change is made or it is not, whatever becomes of its client.
    const ANSWERS_HALF_CLOSED: bool = true;

    const LEAVES_HTTP: bool = false;

    fn connected(&self) {}

    fn expect(
        &self,
        request: Request,
        _: &Rc<ClientControl>,
    ) -> Result<Request, Box<Response<BoxBody>>> {
        let asked = self.asked(&request);
        match self.admit(&request, &asked) {
            Ok(_) => Ok(request),
            Err(problem) => Err(Box::new(self.refuse_asked(&problem, &asked))),
        }
    }

    /// Never asked: the listener speaks HTTP/1.1 alone, whose stream refuses by itself.
    fn refuse(&self, _: &ClientControl, _: ClientFault) -> Option<Response<BoxBody>> {
        None
    }

    fn is_stopping(&self) -> bool {
        self.operations.is_stopping()
    }

    fn answer(
        self: &Rc<Self>,
        request: Request,
        client: &Rc<ClientControl>,
    ) -> LocalBoxFuture<'static, Response<BoxBody>> {
        let (gate, asked) = (Rc::clone(self), self.asked(&request));
        client.begin_request(&asked.id);
        Box::pin(async move {
            let mut response = gate.serve(request, &asked).await;
            if gate.is_stopping() {
                let head = response.head_mut();
                head.set_connection_type(ConnectionType::Close);
            }
            response
        })
    }
}

/// Adds the headers that every answer has.
fn complete(response: HttpResponse, id: &RequestId) -> Response<BoxBody> {
    let mut response = Response::from(response);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    let name = HeaderName::from_static(postern_shared::headers::REQUEST_ID);
    // An answer for another proxy sets its own.
    if !headers.contains_key(&name) {
        headers.insert(name, id.header_value());
    }
    response
}

/// Authenticates the caller; `None` on open paths.
fn admit(request: &Request, operations: &Operations) -> Result<Option<Operator>, Problem> {
    // Below this path, the query is that of the original request, whose route may take keys from
    // it.
    let has_key = if forward_auth::is_below(request.path()) {
        let path = Uri::try_from(request.uri().path()).unwrap_or_default();
        ShownPath::of(&path, operations.prefix(), operations.keys()) == ShownPath::HasKey
    } else {
        ShownPath::of(request.uri(), operations.prefix(), operations.keys()) == ShownPath::HasKey
    };
    if has_key {
        return Err(Problem::new(
            Kind::KeyInUrl,
            "The URL contains an API key. The gateway did not store or log it, but others may have: consider revoking it.",
        ));
    }
    // The headers come from the client of another proxy: host and origin are not this listener's.
    if request.path() != forward_auth::PATH && !forward_auth::is_below(request.path()) {
        if request.path() != HEALTH {
            operations.hosts().check(request.uri(), request.headers())?;
        }
        operations.hosts().check_origin(request.headers())?;
    }
    if forward_auth::is_below(request.path()) || request.path() == forward_auth::PATH {
        // The query belongs to the original request.
        return Ok(None);
    }
    let no_query =
        || query::parse::<()>(request.uri().query().unwrap_or_default(), false).map(|_| None);
    if OPEN.contains(&request.path()) {
        return no_query();
    }
    let tokens = operations.tokens();
    if tokens.is_empty() {
        return Err(Problem::new(
            Kind::AdminDisabled,
            "Set ADMIN_TOKEN to enable the admin API.",
        ));
    }
    if leaks::is_report(request.method(), request.path(), request.headers()) {
        return no_query();
    }
    let presented = bearer_token(request).unwrap_or_default();
    let Some((token, role)) = tokens.find(presented) else {
        return Err(Problem::new(
            Kind::Unauthorized,
            "Send the admin token as Authorization: Bearer TOKEN.",
        ));
    };
    Ok(Some(Operator {
        token: token.to_owned(),
        role,
        address: request
            .peer_addr()
            .map(|address| address.ip().to_canonical()),
    }))
}

/// Returns whether the method is one of RFC 9110, hence safe to log.
fn is_standard(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET
            | Method::HEAD
            | Method::POST
            | Method::PUT
            | Method::DELETE
            | Method::OPTIONS
            | Method::PATCH
            | Method::TRACE
            | Method::CONNECT
    )
}

fn bearer_token(request: &Request) -> Option<&[u8]> {
    let mut credentials = request.headers().get_all(header::AUTHORIZATION);
    let (Some(credential), None) = (credentials.next(), credentials.next()) else {
        return None;
    };
    let (scheme, token) = credential.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

/// Returns the problem of a failed handler: ours unchanged, the framework's by its status.
fn problem_of(response: &HttpResponse) -> Option<Problem> {
    let error = response.error()?;
    let framework = || match response.status() {
        status if status.is_server_error() => {
            log::error!("admin API: {error}");
            Problem::new(Kind::Internal, FAILED)
        }
        _ => Problem::new(Kind::BadRequest, "The request is malformed."),
    };
    Some(
        error
            .as_error::<Problem>()
            .cloned()
            .unwrap_or_else(framework),
    )
}

#[cfg(test)]
mod tests;
