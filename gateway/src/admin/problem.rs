//! Error responses of the admin API (RFC 9457), by the table in `kind`.

mod kind;

use std::borrow::Cow;
use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::field_error;
use crate::admin::problem::kind::{Effect, Row};
use crate::http::request_id::RequestId;
use crate::store::{Fault, StoreError};

pub(super) use crate::admin::field_error::FieldError;
pub(super) use crate::admin::problem::kind::Kind;

/// A refusal of the admin API, independent of the request.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    kind: Kind,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    allow: Option<HeaderValue>,
}

/// Error response (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody<'p> {
    /// URN of the problem type: `urn:postern:problem:` and the code.
    r#type: String,
    /// Title of the problem type.
    title: &'p str,
    /// HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// Explanation of this occurrence, for people.
    detail: &'p str,
    /// Path of the request. Missing if it might contain an API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    instance: Option<&'p str>,
    /// Code of the problem type, for programs.
    code: &'p str,
    /// Id of the request, equal to the header `x-request-id`.
    request_id: &'p str,
    /// Single errors, if known.
    #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
    #[schema(value_type = Vec<FieldError>, required = false)]
    errors: &'p [FieldError],
}

impl Problem {
    /// Builds a problem; `detail` is for people, and public.
    #[must_use]
    pub(super) fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            allow: None,
        }
    }

    /// Adds single errors, up to the limit of an answer.
    #[must_use]
    pub(super) fn with(self, errors: Vec<FieldError>) -> Self {
        Self {
            errors: field_error::limited(errors),
            ..self
        }
    }

    /// Path with other methods, listed in `allow`.
    #[must_use]
    pub(super) fn method_not_allowed(allow: HeaderValue) -> Self {
        let problem = Self::new(
            Kind::MethodNotAllowed,
            "The Allow header lists the accepted methods.",
        );
        Self {
            allow: Some(allow),
            ..problem
        }
    }

    /// Unknown path.
    #[must_use]
    pub(super) fn no_such_path() -> Self {
        Self::new(Kind::NotFound, "There is nothing at this path.")
    }

    /// The store is unavailable for the moment.
    #[must_use]
    pub(super) fn store_unavailable() -> Self {
        Self::new(
            Kind::StoreUnavailable,
            "The database is not available at the moment. Try again shortly.",
        )
    }

    /// Returns the problem type.
    #[must_use]
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Builds the response to the request with this id. `instance` is its path, or `None` to hide
    /// it.
    #[must_use]
    pub(super) fn respond(&self, instance: Option<&str>, request_id: &RequestId) -> HttpResponse {
        let Row {
            status,
            code,
            title,
            effects,
        } = self.kind.row();
        let body = ProblemBody {
            r#type: format!("urn:postern:problem:{code}"),
            title,
            status: status.as_u16(),
            detail: &self.detail,
            instance,
            code,
            request_id: request_id.as_str(),
            errors: &self.errors,
        };
        let mut response = HttpResponse::build(*status);
        response.content_type("application/problem+json");
        if let Some(allow) = &self.allow {
            response.insert_header((header::ALLOW, allow.clone()));
        }
        for effect in *effects {
            response.insert_header(match effect {
                Effect::Challenge(challenge) => (header::WWW_AUTHENTICATE, *challenge),
                Effect::RetryAfter => (header::RETRY_AFTER, "1"),
            });
        }
        // Infallible: texts and numbers.
        response.body(serde_json::to_string(&body).unwrap_or_default())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.kind.row().status
    }

    /// Without a body: `gate` knows the request and adds it.
    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status_code())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let public = error.to_string();
        match error {
            StoreError::Unreachable { .. }
            | StoreError::Failed { .. }
            | StoreError::Busy { .. }
            | StoreError::Unwritable { .. }
            | StoreError::CannotOpen { .. }
            | StoreError::NotADatabase { .. } => {
                log::error!("admin API: {error}");
                match error.fault() {
                    Some(Fault::TooManyReads) => Self::new(
                        Kind::TooManyReads,
                        "Enough lists and reports are being read from the database. Try again shortly.",
                    ),
                    // The cause is logged; operators may see the class of the failure.
                    fault => Self::new(
                        Kind::StoreUnavailable,
                        store_unavailable_text(fault.unwrap_or(Fault::Other)),
                    ),
                }
            }
            StoreError::OutcomeUnknown { ref subject, .. } => {
                log::error!("admin API: {error}");
                let look = match subject {
                    Some(place) if place.starts_with('/') => format!("check `GET {place}`"),
                    Some(id) => format!("look for {id}"),
                    None => "check the audit".to_owned(),
                };
                Self::new(
                    Kind::OutcomeUnknown,
                    format!(
                        "The outcome of the change is unknown; it may have been made. Before a retry, \
                         {look}. Revoke a created key that was never shown. With an Idempotency-Key, the same request can be \
                         repeated safely."
                    ),
                )
            }
            StoreError::Duplicate { field } => {
                let pointer = match field {
                    "the name" => "/name",
                    "the custom id" => "/custom_id",
                    _ => "",
                };
                let errors = vec![FieldError::at(pointer, public.clone())];
                Self::new(Kind::Duplicate, sentence(public)).with(errors)
            }
            StoreError::UnknownBucket { .. } => {
                let errors = vec![FieldError::at("/bucket", public.clone())];
                Self::new(Kind::NotFound, sentence(public)).with(errors)
            }
            StoreError::UnknownConsumer { .. } | StoreError::UnknownKey(_) => {
                Self::new(Kind::NotFound, sentence(public))
            }
            StoreError::InvalidRoll(_) => Self::new(Kind::NotGood, sentence(public)),
            StoreError::GatewayRuns(_) => Self::new(Kind::GatewayRuns, sentence(public)),
            StoreError::TagMismatch => Self::new(Kind::TagMismatch, sentence(public)),
            StoreError::KeyRevoked(_) => Self::new(Kind::KeyRevoked, sentence(public)),
            StoreError::KeyEnding(_) => Self::new(Kind::KeyEnding, sentence(public)),
            StoreError::ScopeNotGranted { .. } => {
                let errors = vec![FieldError::at("/scopes", public.clone())];
                Self::new(Kind::ScopeNotGranted, sentence(public)).with(errors)
            }
            StoreError::UnknownPlan { .. } => {
                let errors = vec![FieldError::at("/plan", public.clone())];
                Self::new(Kind::NotFound, sentence(public)).with(errors)
            }
            StoreError::PlanInUse { .. } => Self::new(Kind::PlanInUse, sentence(public)),
            StoreError::LifetimeTooLong { .. } => {
                let errors = vec![FieldError::at("/expires_at", public.clone())];
                Self::new(Kind::LifetimeTooLong, sentence(public)).with(errors)
            }
            StoreError::TooManyKeys { .. } => Self::new(Kind::TooManyKeys, sentence(public)),
            StoreError::DefaultAboveLongest => {
                let errors = vec![FieldError::at(
                    "/default_key_lifetime_seconds",
                    public.clone(),
                )];
                Self::new(Kind::DefaultAboveLongest, sentence(public)).with(errors)
            }
            StoreError::LimitNotGranted { ref what, .. } => {
                let pointer = match what.index {
                    Some(index) => format!("/{}/{index}", what.attribute),
                    None => format!("/{}", what.attribute),
                };
                let errors = vec![FieldError::at(&pointer, public.clone())];
                Self::new(Kind::LimitNotGranted, sentence(public)).with(errors)
            }
            StoreError::IdempotencyKeyReused => Self::new(
                Kind::IdempotencyKeyReused,
                "This Idempotency-Key was used for another request in the last 24 hours. Choose a new one.",
            ),
            StoreError::NoStore { .. }
            | StoreError::PlanDiffers { .. }
            | StoreError::UnknownActor { .. }
            | StoreError::NewerSchema { .. }
            | StoreError::OtherSchema { .. }
            | StoreError::UnreadableRow { .. }
            | StoreError::Entropy(_)
            | StoreError::OutOfStep(_)
            | StoreError::Database(_) => {
                log::error!("admin API: {error}");
                Self::new(
                    Kind::Internal,
                    "The gateway failed. Its log has the cause, at the time of this request.",
                )
            }
        }
    }
}

/// Returns the public text for a failure of the store. Nothing was changed.
fn store_unavailable_text(fault: Fault) -> String {
    let row = fault.row();
    let next = if row.passes {
        "Try again shortly."
    } else {
        "The gateway's log says why; it does not pass by itself."
    };
    format!(
        "{} Nothing was changed. {next}",
        sentence(row.text.to_owned())
    )
}

/// Formats a remark as a sentence.
fn sentence(remark: String) -> String {
    let mut letters = remark.chars();
    letters.next().map_or_else(String::new, |first| {
        format!("{}{}.", first.to_uppercase(), letters.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request_id::RequestIds;

    #[test]
    fn every_kind_carries_what_its_status_demands() {
        let id = RequestIds::new().make();
        for kind in Kind::ALL {
            let response = Problem::new(kind, "why").respond(Some("/x"), &id);
            assert_eq!(response.status().as_u16(), kind.status());
            let has = |name| response.headers().contains_key(name);
            let challenges = matches!(kind, Kind::Unauthorized | Kind::InsufficientRole);
            assert_eq!(has(header::WWW_AUTHENTICATE), challenges, "{kind:?}");
            // Excluded: a blind retry may repeat the change, no token appears by waiting, and a
            // gateway that stops does not come back.
            let asks_again = kind == Kind::IdempotencyKeyInUse
                || kind.status() == 503
                    && !matches!(
                        kind,
                        Kind::AdminDisabled | Kind::GatewayStopping | Kind::OutcomeUnknown
                    );
            assert_eq!(has(header::RETRY_AFTER), asks_again, "{kind:?}");
        }
    }

    #[test]
    fn a_store_that_fails_is_told_without_the_cause() {
        let secret = "postgres://user:password@host";
        for (error, kind) in [
            (
                StoreError::Busy {
                    holder: Some(secret.to_owned()),
                },
                Kind::StoreUnavailable,
            ),
            (
                StoreError::OutcomeUnknown {
                    subject: None,
                    reason: secret.to_owned(),
                },
                Kind::OutcomeUnknown,
            ),
            (
                StoreError::Failed {
                    fault: Fault::TooManyReads,
                    reason: secret.to_owned(),
                },
                Kind::TooManyReads,
            ),
            (
                StoreError::Failed {
                    fault: Fault::Denied,
                    reason: secret.to_owned(),
                },
                Kind::StoreUnavailable,
            ),
            (
                StoreError::Unwritable {
                    fault: Fault::Full,
                    reason: secret.to_owned(),
                },
                Kind::StoreUnavailable,
            ),
            (
                StoreError::CannotOpen {
                    location: "x".to_owned(),
                    reason: secret.to_owned(),
                },
                Kind::StoreUnavailable,
            ),
            (
                StoreError::Database(sqlx::Error::Protocol(secret.to_owned())),
                Kind::Internal,
            ),
            (
                StoreError::UnreadableRow {
                    what: "tags",
                    reason: secret.to_owned(),
                },
                Kind::Internal,
            ),
        ] {
            let problem = Problem::from(error);
            assert_eq!(problem.kind(), kind);
            assert!(!problem.to_string().contains("password"), "{problem}");
        }
    }
}
