//! The one table that turns what is wrong with a call of the admin API into an answer (RFC 9457).

use std::borrow::Cow;
use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::field_error;
use crate::http::request_id::RequestId;
use crate::store::{Fault, StoreError};

pub(super) use crate::admin::field_error::FieldError;

/// What is wrong, in terms that a program can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// No token is configured.
    AdminDisabled,
    /// The database is not open, is busy, or cannot be written.
    StoreUnavailable,
    /// A change was sent to the database, and whether it was made is not known.
    OutcomeUnknown,
    /// Enough lists are being read from the database.
    TooManyReads,
    /// No token, or a wrong one.
    Unauthorized,
    /// The token may read only.
    InsufficientRole,
    /// A report is not signed by whom it says it is from.
    SignatureInvalid,
    /// The keys to check signatures with cannot be had at the moment.
    PublicKeysUnavailable,
    /// So many reports that nobody is known to have sent are being checked.
    TooManyReports,
    /// A whole API key stands in the URL, where proxies and histories keep it.
    KeyInUrl,
    /// The request is for a host that the listener does not answer to.
    MisdirectedRequest,
    /// A browser sends it for a page of another origin.
    CrossOrigin,
    /// The request is not what HTTP allows.
    BadRequest,
    /// The body is not what is accepted.
    InvalidBody,
    /// A parameter in the query or a header is not what is accepted.
    InvalidParameter,
    /// Each parameter is what is accepted, and together they cannot be followed.
    UnfollowableQuery,
    /// Nothing is at this path, or has this id.
    NotFound,
    /// Something is at this path, but not for this method.
    MethodNotAllowed,
    /// Another one has this already.
    Duplicate,
    /// Revoking is final.
    KeyRevoked,
    /// What is to be replaced cannot go on for longer.
    KeyEnding,
    /// Which request another proxy asks about is not clear.
    AmbiguousRequest,
    /// What is not good cannot be rolled.
    NotGood,
    /// A gateway that runs cannot be forgotten.
    GatewayRuns,
    /// A request with this idempotency key is running.
    IdempotencyKeyInUse,
    /// The idempotency key was used for another request.
    IdempotencyKeyReused,
    /// The tags are not those that the caller asked for.
    TagMismatch,
    /// The body is too large.
    BodyTooLarge,
    /// The metadata in the body is too large.
    MetadataTooLarge,
    /// The body is not of a media type that is read here.
    UnsupportedMediaType,
    /// A key cannot do more than its consumer.
    ScopeNotGranted,
    /// A key cannot end before it is made.
    ExpiryInThePast,
    /// A failure of the gateway, which its log explains.
    Internal,
}

/// A refusal of the admin API, before it is known to which request.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    kind: Kind,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    allow: Option<HeaderValue>,
}

/// A refusal (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody<'p> {
    /// Names the kind of problem: `urn:postern:problem:` and the code.
    r#type: String,
    /// What the kind is called.
    title: &'p str,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong this time, for people.
    detail: &'p str,
    /// The path of the request. Missing where it could hold an API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    instance: Option<&'p str>,
    /// Names the kind of problem, for programs.
    code: &'p str,
    /// The id of the request, as in the header `x-request-id`.
    request_id: &'p str,
    /// Each thing that is wrong, where that can be said.
    #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
    #[schema(value_type = Vec<FieldError>, required = false)]
    errors: &'p [FieldError],
}

// A kind that is new stands in the list too; `Internal` stays the last.
const _: () = assert!(Kind::ALL.len() == Kind::Internal as usize + 1);

impl Kind {
    /// All of them, in their order.
    pub(super) const ALL: [Self; 33] = [
        Self::AdminDisabled,
        Self::StoreUnavailable,
        Self::OutcomeUnknown,
        Self::TooManyReads,
        Self::Unauthorized,
        Self::InsufficientRole,
        Self::SignatureInvalid,
        Self::PublicKeysUnavailable,
        Self::TooManyReports,
        Self::KeyInUrl,
        Self::MisdirectedRequest,
        Self::CrossOrigin,
        Self::BadRequest,
        Self::InvalidBody,
        Self::InvalidParameter,
        Self::UnfollowableQuery,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Duplicate,
        Self::KeyRevoked,
        Self::KeyEnding,
        Self::AmbiguousRequest,
        Self::NotGood,
        Self::GatewayRuns,
        Self::IdempotencyKeyInUse,
        Self::IdempotencyKeyReused,
        Self::TagMismatch,
        Self::BodyTooLarge,
        Self::MetadataTooLarge,
        Self::UnsupportedMediaType,
        Self::ScopeNotGranted,
        Self::ExpiryInThePast,
        Self::Internal,
    ];

    /// The status of its answer.
    pub(super) fn status(self) -> u16 {
        self.row().0.as_u16()
    }

    /// Its name, for programs.
    pub(super) fn code(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::AdminDisabled => (
                StatusCode::SERVICE_UNAVAILABLE,
                "admin_disabled",
                "Admin API disabled",
            ),
            Self::StoreUnavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "store_unavailable",
                "Store unavailable",
            ),
            Self::OutcomeUnknown => (
                StatusCode::SERVICE_UNAVAILABLE,
                "outcome_unknown",
                "Outcome not known",
            ),
            Self::TooManyReads => (
                StatusCode::SERVICE_UNAVAILABLE,
                "too_many_reads",
                "Too many lists at once",
            ),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "Not authorised"),
            Self::InsufficientRole => (
                StatusCode::FORBIDDEN,
                "insufficient_role",
                "Insufficient role",
            ),
            Self::SignatureInvalid => (
                StatusCode::FORBIDDEN,
                "signature_invalid",
                "Signature not valid",
            ),
            Self::PublicKeysUnavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "public_keys_unavailable",
                "Public keys not available",
            ),
            Self::TooManyReports => (
                StatusCode::SERVICE_UNAVAILABLE,
                "too_many_reports",
                "Too many reports at once",
            ),
            Self::KeyInUrl => (StatusCode::BAD_REQUEST, "key_in_url", "API key in the URL"),
            Self::MisdirectedRequest => (
                StatusCode::MISDIRECTED_REQUEST,
                "misdirected_request",
                "Misdirected request",
            ),
            Self::CrossOrigin => (
                StatusCode::FORBIDDEN,
                "cross_origin",
                "Cross-origin request",
            ),
            Self::BadRequest => (StatusCode::BAD_REQUEST, "bad_request", "Malformed request"),
            Self::InvalidBody => (StatusCode::BAD_REQUEST, "invalid_body", "Invalid body"),
            Self::InvalidParameter => (
                StatusCode::BAD_REQUEST,
                "invalid_parameter",
                "Invalid parameter",
            ),
            Self::UnfollowableQuery => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "unfollowable_query",
                "Parameters do not go together",
            ),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found", "Not found"),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "Method not allowed",
            ),
            Self::Duplicate => (StatusCode::CONFLICT, "duplicate", "Already taken"),
            Self::KeyRevoked => (StatusCode::CONFLICT, "key_revoked", "Key revoked"),
            Self::KeyEnding => (StatusCode::CONFLICT, "key_ending", "Key ending"),
            Self::AmbiguousRequest => (
                StatusCode::FORBIDDEN,
                "ambiguous_request",
                "Ambiguous request",
            ),
            Self::NotGood => (StatusCode::CONFLICT, "key_not_good", "Key not good"),
            Self::GatewayRuns => (StatusCode::CONFLICT, "gateway_runs", "Gateway runs"),
            Self::IdempotencyKeyInUse => (
                StatusCode::CONFLICT,
                "idempotency_key_in_use",
                "Request is running",
            ),
            Self::IdempotencyKeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "Idempotency key reused",
            ),
            Self::TagMismatch => (
                StatusCode::PRECONDITION_FAILED,
                "tag_mismatch",
                "Tags do not match",
            ),
            Self::BodyTooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                "Body too large",
            ),
            Self::MetadataTooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "metadata_too_large",
                "Metadata too large",
            ),
            Self::UnsupportedMediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "Unsupported media type",
            ),
            Self::ScopeNotGranted => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "scope_not_granted",
                "Scope not granted",
            ),
            Self::ExpiryInThePast => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "expiry_in_the_past",
                "Expiry in the past",
            ),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal_error",
                "Internal error",
            ),
        }
    }
}

impl Problem {
    /// A problem of this kind; `detail` is for people, and public.
    #[must_use]
    pub(super) fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            allow: None,
        }
    }

    /// With each thing that is wrong, up to what an answer has room for.
    #[must_use]
    pub(super) fn with(self, errors: Vec<FieldError>) -> Self {
        Self {
            errors: field_error::limited(errors),
            ..self
        }
    }

    /// The path has other methods: these.
    #[must_use]
    pub(super) fn method_not_allowed(allow: HeaderValue) -> Self {
        let problem = Self::new(
            Kind::MethodNotAllowed,
            "The Allow header names the methods that are taken here.",
        );
        Self {
            allow: Some(allow),
            ..problem
        }
    }

    /// Nothing is at this path.
    #[must_use]
    pub(super) fn no_such_path() -> Self {
        Self::new(Kind::NotFound, "There is nothing at this path.")
    }

    /// The store is not there now, and may be in a moment.
    #[must_use]
    pub(super) fn store_unavailable() -> Self {
        Self::new(
            Kind::StoreUnavailable,
            "The database is not available at the moment. Try again shortly.",
        )
    }

    /// What kind of problem it is.
    #[must_use]
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// The answer to the request with this id. `instance` is its path, unless that must not be told.
    #[must_use]
    pub(super) fn respond(&self, instance: Option<&str>, request_id: &RequestId) -> HttpResponse {
        let (status, code, title) = self.kind.row();
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
        let mut response = HttpResponse::build(status);
        response.content_type("application/problem+json");
        if let Some(allow) = &self.allow {
            response.insert_header((header::ALLOW, allow.clone()));
        }
        match self.kind {
            Kind::Unauthorized => {
                response
                    .insert_header((header::WWW_AUTHENTICATE, "Bearer realm=\"postern-admin\""));
            }
            Kind::InsufficientRole => {
                let challenge =
                    "Bearer realm=\"postern-admin\", error=\"insufficient_scope\", scope=\"admin\"";
                response.insert_header((header::WWW_AUTHENTICATE, challenge));
            }
            Kind::StoreUnavailable
            | Kind::PublicKeysUnavailable
            | Kind::TooManyReports
            | Kind::TooManyReads
            | Kind::IdempotencyKeyInUse => {
                response.insert_header((header::RETRY_AFTER, "1"));
            }
            _ => {}
        }
        // Texts and numbers always become JSON.
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
        self.kind.row().0
    }

    /// Without a body: `gate` knows the request, and writes it.
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
                    // The cause is in the log; what kind of failure it is, operators may know.
                    fault => Self::new(
                        Kind::StoreUnavailable,
                        store_unavailable_text(fault.unwrap_or(Fault::Other)),
                    ),
                }
            }
            StoreError::OutcomeUnknown { ref subject, .. } => {
                log::error!("admin API: {error}");
                let look = match subject {
                    Some(place) if place.starts_with('/') => format!("`GET {place}` tells"),
                    Some(id) => format!("look for {id}"),
                    None => "the audit tells".to_owned(),
                };
                Self::new(
                    Kind::OutcomeUnknown,
                    format!(
                        "The database did not say whether the change was made; it may have been. Before you do it \
                         again, see whether it was: {look}. A key that was made and that nobody was shown is to be \
                         revoked. With an Idempotency-Key, the same request can be sent again: it is done once."
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
            StoreError::IdempotencyKeyReused => Self::new(
                Kind::IdempotencyKeyReused,
                "This Idempotency-Key was used for another request in the last 24 hours. Choose a new one.",
            ),
            StoreError::NoStore { .. }
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
                    "The gateway failed. Its log says why, under this request's time.",
                )
            }
        }
    }
}

/// What is said of a store that does not do what was asked. Nothing was changed.
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

/// A remark as a sentence.
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
    fn every_kind_is_documented_and_carries_what_its_status_demands() {
        let document = include_str!("../../../docs/PROBLEMS.md")
            .split_once("## What the admin API answers")
            .unwrap()
            .1;
        let id = RequestIds::new().make();
        for kind in Kind::ALL {
            let (status, code, _) = kind.row();
            let row = format!("| {} | `{code}` |", status.as_u16());
            let row = document
                .lines()
                .find(|line| line.starts_with(&row))
                .unwrap_or_else(|| panic!("{row} is not in docs/PROBLEMS.md"));
            let response = Problem::new(kind, "why").respond(Some("/x"), &id);
            assert_eq!(response.status(), status);
            let has = |name| response.headers().contains_key(name);
            let challenges = matches!(kind, Kind::Unauthorized | Kind::InsufficientRole);
            assert_eq!(has(header::WWW_AUTHENTICATE), challenges, "{kind:?}");
            assert_eq!(
                has(header::RETRY_AFTER),
                row.contains("`Retry-After`"),
                "{kind:?}: {row}"
            );
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
