//! Table of all problem types of the admin API. `docs/PROBLEMS.md` is generated from it.

use actix_web::http::StatusCode;

/// Additional headers of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Challenge of RFC 6750, section 3.
    Challenge(&'static str),
    /// `Retry-After` of one second.
    RetryAfter,
}

/// Properties of a problem type.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) title: &'static str,
    pub(super) effects: &'static [Effect],
}

/// Declares the enum of problem types with status, code, title and effects.
macro_rules! kinds {
    ($($(#[doc = $when:literal])+ $kind:ident = $status:ident $code:literal $title:literal $effects:tt;)+) => {
        /// Type of a problem, for programs to act on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(in crate::admin) enum Kind {
            $($(#[doc = $when])+ $kind,)+
        }

        impl Kind {
            /// All types in order.
            pub(in crate::admin) const ALL: [Self; [$($code),+].len()] = [$(Self::$kind),+];

            /// Descriptions for `docs/PROBLEMS.md`.
            #[cfg(test)]
            const WHEN: [&'static str; Self::ALL.len()] = [$(concat!($($when),+)),+];

            pub(super) fn row(self) -> &'static Row {
                use Effect::*;
                match self {
                    $(Self::$kind => &Row {
                        status: StatusCode::$status,
                        code: $code,
                        title: $title,
                        effects: &$effects,
                    },)+
                }
            }
        }
    };
}

kinds! {
    /// Malformed HTTP, or a body that broke off or took too long.
    BadRequest = BAD_REQUEST "bad_request" "Malformed request" [];
    /// Not JSON, a member twice, unknown, missing or of the wrong type, a text that is too long or
    /// has control characters, or a whole API key.
    InvalidBody = BAD_REQUEST "invalid_body" "Invalid body" [];
    /// A parameter that is unknown, on any operation but `/v1/auth`; a parameter or
    /// `Idempotency-Key` that is repeated, or not what is accepted.
    InvalidParameter = BAD_REQUEST "invalid_parameter" "Invalid parameter" [];
    /// A whole API key stands in the path or the query, where proxies and histories keep it;
    /// nothing is done.
    KeyInUrl = BAD_REQUEST "key_in_url" "API key in the URL" [];
    /// No token, or a wrong one.
    Unauthorized = UNAUTHORIZED "unauthorized" "Not authorised"
        [Challenge("Bearer realm=\"postern-admin\"")];
    /// A cross-origin request of a browser; not on `/v1/auth`.
    CrossOrigin = FORBIDDEN "cross_origin" "Cross-origin request" [];
    /// A `read-only` token on anything but `GET` and `POST /v1/keys/verify` without `cost`.
    InsufficientRole = FORBIDDEN "insufficient_role" "Insufficient role"
        [Challenge("Bearer realm=\"postern-admin\", error=\"insufficient_scope\", scope=\"admin\"")];
    /// `/v1/auth` cannot tell which request it is asked about: it is named twice, in part, or
    /// malformed; or a header of the client reads like one of the gateway's own
    /// ([FORWARD-AUTH.md](FORWARD-AUTH.md)).
    AmbiguousRequest = FORBIDDEN "ambiguous_request" "Ambiguous request" [];
    /// The signature of a report of leaked keys is not GitHub's.
    SignatureInvalid = FORBIDDEN "signature_invalid" "Signature not valid" [];
    /// No such path, id, or bucket, also in a query.
    NotFound = NOT_FOUND "not_found" "Not found" [];
    /// The path exists, but not for this method: `Allow` lists the supported ones.
    MethodNotAllowed = METHOD_NOT_ALLOWED "method_not_allowed" "Method not allowed" [];
    /// A head is not whole within five seconds; the connection closes.
    RequestTimeout = REQUEST_TIMEOUT "request_timeout" "Request timeout" [];
    /// A name or custom id that is taken; `errors` says which.
    Duplicate = CONFLICT "duplicate" "Already taken" [];
    /// Revoking is final.
    KeyRevoked = CONFLICT "key_revoked" "Key revoked" [];
    /// The expiry of a rolled key can be made earlier, not later.
    KeyEnding = CONFLICT "key_ending" "Key ending" [];
    /// Only an active key can be rolled.
    NotGood = CONFLICT "key_not_good" "Key not good" [];
    /// A running gateway cannot be forgotten: stop it, and it deregisters by itself.
    GatewayRuns = CONFLICT "gateway_runs" "Gateway runs" [];
    /// The consumer has as many live keys as its bucket allows: revoke one, or roll one instead.
    TooManyKeys = CONFLICT "too_many_keys" "Too many live keys" [];
    /// Consumers have the plan: give them another one, or none.
    PlanInUse = CONFLICT "plan_in_use" "Plan in use" [];
    /// A request with this idempotency key is running.
    IdempotencyKeyInUse = CONFLICT "idempotency_key_in_use" "Request is running" [RetryAfter];
    /// The consumer lacks a tag of `?tag.NAME=VALUE`, or would be created without it.
    TagMismatch = PRECONDITION_FAILED "tag_mismatch" "Tags do not match" [];
    /// The settings in force are not those of `If-Match`: somebody changed them meanwhile.
    SettingsChanged = PRECONDITION_FAILED "settings_changed" "Settings changed" [];
    /// The body has more than 65536 bytes.
    BodyTooLarge = PAYLOAD_TOO_LARGE "body_too_large" "Body too large" [];
    /// The metadata has more than 4096 bytes.
    MetadataTooLarge = PAYLOAD_TOO_LARGE "metadata_too_large" "Metadata too large" [];
    /// The target of the request is too long; the connection closes.
    UriTooLong = URI_TOO_LONG "uri_too_long" "Request target too long" [];
    /// The body is not `application/json`; for `PATCH` also `application/merge-patch+json`.
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE "unsupported_media_type" "Unsupported media type" [];
    /// `Host` is no IP address, not `localhost`, not the machine's name, not among
    /// [`admin.hosts`](CONFIGURATION.md), and not that of `admin.public_url`; not on `/healthz` and
    /// `/v1/auth`.
    MisdirectedRequest = MISDIRECTED_REQUEST "misdirected_request" "Misdirected request" [];
    /// The idempotency key was used for another request in the last 24 hours.
    IdempotencyKeyReused = UNPROCESSABLE_ENTITY "idempotency_key_reused" "Idempotency key reused" [];
    /// Valid parameters in an invalid combination: an empty or oversized range, or two subjects.
    UnfollowableQuery = UNPROCESSABLE_ENTITY "unfollowable_query" "Parameters do not go together" [];
    /// A key cannot do more than its consumer.
    ScopeNotGranted = UNPROCESSABLE_ENTITY "scope_not_granted" "Scope not granted" [];
    /// A key narrows the limits, the quotas and the requests in flight of its consumer, or of the
    /// plan of its consumer, and is never unlimited.
    LimitNotGranted = UNPROCESSABLE_ENTITY "limit_not_granted" "Limit not granted" [];
    /// The expiry is beyond the longest lifetime that the bucket or the plan allows.
    LifetimeTooLong = UNPROCESSABLE_ENTITY "lifetime_too_long" "Lifetime too long" [];
    /// The default lifetime of keys is above the longest.
    DefaultAboveLongest = UNPROCESSABLE_ENTITY "default_above_longest" "Default above the longest" [];
    /// Two entries of `limits` or of `quotas` have the same name.
    RepeatedName = UNPROCESSABLE_ENTITY "repeated_name" "Name repeated" [];
    /// The expiry is in the past; to end a key, revoke it.
    ExpiryInThePast = UNPROCESSABLE_ENTITY "expiry_in_the_past" "Expiry in the past" [];
    /// The settings in the files cannot be used; `errors` has every problem, and the settings in
    /// force stay.
    SettingsRefused = UNPROCESSABLE_ENTITY "settings_refused" "Settings refused" [];
    /// The head of the request is too large or has too many fields; the connection closes.
    HeadTooLarge = REQUEST_HEADER_FIELDS_TOO_LARGE "request_header_too_large" "Request head too large" [];
    /// A failure of the gateway, which its log explains.
    Internal = INTERNAL_SERVER_ERROR "internal_error" "Internal error" [];
    /// No token is configured.
    AdminDisabled = SERVICE_UNAVAILABLE "admin_disabled" "Admin API disabled" [];
    /// The gateway is stopping, and reads no settings any more.
    GatewayStopping = SERVICE_UNAVAILABLE "gateway_stopping" "Gateway stopping" [];
    /// GitHub's public keys are unavailable, so its report cannot be verified.
    PublicKeysUnavailable = SERVICE_UNAVAILABLE "public_keys_unavailable" "Public keys not available" [RetryAfter];
    /// A report of GitHub's was still arriving when four others had begun.
    TooManyReports = SERVICE_UNAVAILABLE "too_many_reports" "Too many reports at once" [RetryAfter];
    /// The database is not open yet, or [fails](SCALING.md#what-a-database-can-fail-of); nothing
    /// was changed.
    StoreUnavailable = SERVICE_UNAVAILABLE "store_unavailable" "Store unavailable" [RetryAfter];
    /// The outcome of the change is unknown: `detail` names what to look for. Repeat it blindly
    /// only with its `Idempotency-Key`.
    OutcomeUnknown = SERVICE_UNAVAILABLE "outcome_unknown" "Outcome not known" [];
    /// Two lists or reports are being read, and six wait.
    TooManyReads = SERVICE_UNAVAILABLE "too_many_reads" "Too many lists at once" [RetryAfter];
    /// A version of HTTP other than 1.1 and 1.0; the connection closes.
    VersionNotSupported = HTTP_VERSION_NOT_SUPPORTED "version_not_supported" "HTTP version not supported" [];
}

impl Kind {
    /// Returns the HTTP status.
    pub(in crate::admin) fn status(self) -> u16 {
        self.row().status.as_u16()
    }

    /// Returns the code, for programs.
    pub(in crate::admin) fn code(self) -> &'static str {
        self.row().code
    }

    /// Returns the type with this code.
    pub(in crate::admin) fn named(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_the_table_that_is_made_from_the_rows() {
        let mut table = "| status | `code` | when |\n|---|---|---|\n".to_owned();
        for (kind, when) in Kind::ALL.into_iter().zip(Kind::WHEN) {
            let asks_again = kind.row().effects.contains(&Effect::RetryAfter);
            let effects = if asks_again {
                " With `Retry-After`."
            } else {
                ""
            };
            let (status, code) = (kind.status(), kind.code());
            table += &format!("| {status} | `{code}` |{when}{effects} |\n");
        }
        crate::documents::assert_table("PROBLEMS.md", "kinds", &table);
    }

    #[test]
    fn a_code_has_one_row() {
        for kind in Kind::ALL {
            assert_eq!(Kind::named(kind.code()), Some(kind));
        }
    }
}
