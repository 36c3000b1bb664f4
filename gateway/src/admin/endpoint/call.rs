//! What a handler is called with, and how: parsed, authorized, on the store or on memory.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header as names;
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, web};
use tokio::time::timeout;

use crate::admin::body::{self, Body};
use crate::admin::endpoint::Verb;
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

/// Timeout of a handler, longer than any statement and any requested wait: nothing else detects an
/// unresponsive database.
const HANDLER_TIMEOUT: Duration = Duration::from_secs(90);

/// Result of a handler.
pub(in crate::admin) type Answered = Result<HttpResponse, Problem>;

/// An authorized call with its parsed parts.
pub(in crate::admin) struct Call<P, Q, B> {
    /// Path parameter.
    pub(in crate::admin) path: P,
    /// Query parameters.
    pub(in crate::admin) query: Q,
    /// Body.
    pub(in crate::admin) body: B,
    /// Store handle of this call.
    pub(in crate::admin) store: Store,
    /// Prefix of new keys.
    pub(in crate::admin) prefix: Prefix,
    /// Actor, time and source for the audit.
    pub(in crate::admin) stamp: Stamp,
    /// Identity of an idempotent creation.
    pub(in crate::admin) creation: Option<CreationKey>,
    /// Shared state of the listener.
    pub(in crate::admin) operations: web::Data<Operations>,
}

/// A call answered from memory, open to any token.
pub(in crate::admin) struct Ask<Q, B> {
    /// Role of the token.
    pub(in crate::admin) role: Role,
    /// Query parameters.
    pub(in crate::admin) query: Q,
    /// Body.
    pub(in crate::admin) body: B,
    /// Shared state of the listener.
    pub(in crate::admin) operations: web::Data<Operations>,
}

/// A call on the memory of this gateway; the store is not needed.
pub(in crate::admin) struct Recall<P, Q = ()> {
    /// Path parameter.
    pub(in crate::admin) path: P,
    /// Query parameters.
    pub(in crate::admin) query: Q,
    /// Entity tags of `If-Match`, one of which must be current; `None` for any.
    pub(in crate::admin) expected: Option<Vec<String>>,
    /// Name of the token, for the log.
    pub(in crate::admin) operator: String,
    /// Shared state of the listener.
    pub(in crate::admin) operations: web::Data<Operations>,
}

impl<P, Q, B> Call<P, Q, B> {
    /// Returns the current policy.
    ///
    /// # Errors
    /// This listener belongs to no data plane.
    pub(in crate::admin) fn policy(&self) -> Result<Arc<Policy>, Problem> {
        self.operations.policy().ok_or_else(failed)
    }

    /// Returns the time of the call.
    pub(in crate::admin) fn now(&self) -> UnixMillis {
        self.stamp.at
    }
}

pub(super) async fn run<P: PathId, Q: Query, B: Body>(
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
pub(in crate::admin) fn check_role(is_read: bool, role: Role) -> Result<(), Problem> {
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
pub(super) fn expected(request: &HttpRequest) -> Result<Option<Vec<String>>, Problem> {
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
pub(super) fn failed() -> Problem {
    Problem::new(Kind::Internal, "The gateway failed.")
}
