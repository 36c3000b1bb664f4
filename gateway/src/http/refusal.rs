//! The one table that turns a refusal into a response: status, code, public text, challenge. Covers
//! every response of the gateway itself, and nothing else. `docs/PROBLEMS.md` is generated from it.

mod of_fault;
mod response;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use actix_http::{Method, StatusCode};

use crate::auth::key_sources::KeySources;
use crate::http::own_refusal::OwnRefusal;
use crate::http::rate_limit_fields::whole_seconds;
pub use crate::http::refusal::response::Protection;

/// Why a valid key is not accepted here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restriction {
    /// The client's address is not allowed.
    #[default]
    Address,
    /// The key may not be used with the method or on the route, or the route does not accept keys of
    /// its bucket. The client does not learn which, nor that buckets exist.
    Use,
}

/// A limit that denied a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceeded {
    /// Name of the limit.
    pub policy: Arc<str>,
    /// Whole seconds until it admits the request, one at least; `None` if it never does.
    pub retry_after: Option<u64>,
}

impl Exceeded {
    /// The limit `policy`, which admits the request after `wait`.
    #[must_use]
    pub fn new(policy: Arc<str>, wait: Option<Duration>) -> Self {
        Self {
            policy,
            // 0 would make clients try at once, for ever.
            retry_after: wait.map(|wait| whole_seconds(wait).max(1)),
        }
    }
}

impl Default for Exceeded {
    fn default() -> Self {
        Self::new("burst".into(), Some(Duration::ZERO))
    }
}

/// Header or connection effect of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Challenge without an error code: no credential was sent (RFC 6750, section 3.1).
    Challenge,
    /// Challenge with an error code and its description.
    ChallengeError(&'static str, &'static str),
    /// Challenge with the required scopes.
    ChallengeScope,
    /// `Allow` with the accepted methods.
    Allow,
    /// `Retry-After`: the time of a limit, otherwise one second.
    RetryAfter,
    /// Closes the connection, because its framing is no longer trustworthy.
    Closes,
}

/// Common properties of the refusals of one code.
struct Row {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    effects: &'static [Effect],
}

/// Generates the enum of refusals: per code its status, title and effects, then its refusals with
/// their public texts.
macro_rules! refusals {
    ($($status:ident $code:literal $title:literal $effects:tt {
        $($(#[doc = $when:literal])+ $refusal:ident $(($payload:ident: $type:ty))? => $detail:expr;)+
    })+) => {
        /// Response of the gateway itself instead of the origin's. Further detail for the operator
        /// is logged, not sent.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Refusal {
            $($($(#[doc = $when])+ $refusal $(($type))?,)+)+
        }

        impl Refusal {
            /// Every code, once.
            pub const CODES: [&'static str; [$($code),+].len()] = [$($code),+];

            /// Description of each code in `docs/PROBLEMS.md`.
            #[cfg(test)]
            const WHEN: [&'static str; Self::CODES.len()] = [$(concat!($($($when),+),+)),+];

            /// One example of each refusal.
            #[must_use]
            pub fn one_of_each() -> Vec<Self> {
                vec![$($(Self::$refusal $((<$type>::default()))?),+),+]
            }

            fn row(&self) -> &'static Row {
                use Effect::*;
                match self {
                    $($(Self::$refusal { .. } => &Row {
                        status: StatusCode::$status,
                        code: $code,
                        title: $title,
                        effects: &$effects,
                    },)+)+
                }
            }

            /// Public text, as a sentence.
            #[must_use]
            pub fn detail(&self) -> Cow<'static, str> {
                match self {
                    $($(Self::$refusal $(($payload))? => Cow::from($detail),)+)+
                }
            }
        }
    };
}

refusals! {
    BAD_REQUEST "invalid_request" "More than one credential"
    [ChallengeError("invalid_request", "More than one credential")] {
        /// More than one `Authorization` header, or API keys in more than one of the
        /// [places](CONFIGURATION.md#where-a-key-may-come-from) that the route takes keys from.
        CredentialTwice => "Send exactly one API key, in one place.";
    }
    BAD_REQUEST "bad_request" "Malformed request" [Closes] {
        /// Malformed HTTP, an invalid `Host` or target, TLS on a plain-HTTP port, or plain HTTP on
        /// a TLS port.
        BadRequest(what: &'static str) => format!("The request is malformed: {what}.");
        /// The body is incomplete, or its framing is invalid.
        BodyBroken => "The body of the request broke off or is badly framed.";
    }
    BAD_REQUEST "key_in_url" "API key in the URL" [Closes] {
        /// The path, the query or the host contains a whole API key, escaped or not. If the path
        /// does, `instance` is omitted.
        KeyInUrl =>
            "The URL contains an API key. The gateway did not log it, but others may have: consider revoking it.";
    }
    BAD_REQUEST "ambiguous_path" "Ambiguous path" [Closes] {
        /// An origin could read the path as one of
        /// [another route](CONFIGURATION.md#how-a-request-finds-its-route), or the path contains
        /// `%2f`, `\`, a dot segment or similar.
        AmbiguousPath(why: &'static str) => format!("The path could be read in two ways: {why}.");
    }
    UNAUTHORIZED "api_key_missing" "API key missing" [Challenge] {
        /// No API key in any place that the route takes keys from, or a credential with another
        /// scheme.
        KeyMissing(sources: KeySources) => format!("Send your key {}.", sources.instruction());
        /// The route takes tokens too.
        CredentialMissing(ways: String) =>
            format!("Send a token as Authorization: Bearer TOKEN, or your key {ways}.");
    }
    UNAUTHORIZED "token_missing" "Token missing" [Challenge] {
        /// No `Authorization: Bearer` on a route that takes [tokens](JWT.md) only.
        TokenMissing => "Send a token as Authorization: Bearer TOKEN.";
    }
    UNAUTHORIZED "token_invalid" "Token invalid"
    [ChallengeError("invalid_token", "The token is not valid")] {
        /// The [token](JWT.md) is malformed, has a wrong signature, issuer, audience or type, or a
        /// claim that is not accepted: one response for all, so that a forger learns nothing. The
        /// access log has the cause.
        TokenInvalid => "The token is not valid.";
    }
    UNAUTHORIZED "token_expired" "Token expired"
    [ChallengeError("invalid_token", "The token has expired")] {
        /// The token has expired; its signature is right.
        TokenExpired => "The token has expired.";
    }
    UNAUTHORIZED "credential_not_accepted" "Credential not accepted"
    [ChallengeError("invalid_token", "Another kind of credential is required")] {
        /// A token where [`auth`](CONFIGURATION.md#routes) of the route takes keys only, a key
        /// where it takes tokens only, or a token of an issuer that it does not take.
        CredentialNotAccepted => "This kind of credential is not accepted here.";
    }
    UNAUTHORIZED "api_key_invalid" "API key invalid"
    [ChallengeError("invalid_token", "The API key is not valid")] {
        /// The key is malformed, has a wrong checksum, or is unknown: one response for all, so that
        /// a guess reveals nothing.
        KeyInvalid => "The API key is not valid.";
    }
    UNAUTHORIZED "api_key_expired" "API key expired"
    [ChallengeError("invalid_token", "The API key has expired")] {
        /// The key has expired; its holder proved possession of it.
        KeyExpired => "The API key has expired.";
    }
    UNAUTHORIZED "api_key_revoked" "API key revoked"
    [ChallengeError("invalid_token", "The API key was revoked")] {
        /// The key was revoked; its holder proved possession of it.
        KeyRevoked => "The API key was revoked.";
    }
    UNAUTHORIZED "api_key_disabled" "API key disabled"
    [ChallengeError("invalid_token", "The API key is disabled")] {
        /// The key is disabled; its holder proved possession of it.
        KeyDisabled => "The API key is disabled.";
    }
    FORBIDDEN "insufficient_scope" "Scope missing" [ChallengeScope] {
        /// The key or the token lacks a scope of the route.
        InsufficientScope(scopes: Vec<String>) =>
            format!("These scopes are needed: {}.", scopes.join(" "));
    }
    FORBIDDEN "consumer_unknown" "Consumer unknown" [] {
        /// The token is valid, and there is no consumer with the
        /// [id that it names](JWT.md#consumers), or more than one.
        ConsumerUnknown => "The consumer that the token names is not known.";
    }
    FORBIDDEN "key_restricted" "Key restricted" [] {
        /// The key or its consumer does not allow the client's address, that address is
        /// [not known](CONFIGURATION.md#behind-a-load-balancer-or-another-proxy), the
        /// [key](ADMIN-API.md#what-a-key-may-be-used-for) may not be used with this method or on
        /// this route, or the route does not accept keys and tokens of this
        /// [bucket](BUCKETS.md).
        KeyRestricted(restriction: Restriction) => match restriction {
            Restriction::Address => "The credential may not be used from this address.",
            Restriction::Use => "The credential may not be used for this.",
        };
    }
    FORBIDDEN "cors_refused" "Cross-origin request refused" [] {
        /// A browser asked whether a page of another origin may send a request (a CORS preflight),
        /// and [`cors`](CONFIGURATION.md#cors-pages-of-other-origins) does not allow the origin,
        /// the method or a header.
        CorsRefused(why: &'static str) => format!("The preflight of a browser is refused: {why}.");
    }
    FORBIDDEN "own_rule" "Refused by a rule of this gateway" [] {
        /// A [check](EXTEND.md) that is built into this gateway refused the request. The response
        /// has the status, the code and the title of the check, and `Retry-After` if it says so;
        /// the access log has its code, and metrics have this one.
        Own(refusal: Box<OwnRefusal>) => refusal.detail();
    }
    NOT_FOUND "no_route" "No route" [] {
        /// No route covers host and path.
        NoRoute => "No route covers this host and path.";
    }
    METHOD_NOT_ALLOWED "method_not_allowed" "Method not allowed" [Allow] {
        /// The method is never proxied, or no route of this path accepts it; `Allow` lists the
        /// accepted methods.
        MethodNotAllowed(_methods: Vec<Method>) =>
            "The Allow header lists the accepted methods.";
    }
    REQUEST_TIMEOUT "request_timeout" "Request timeout" [Closes] {
        /// The request head did not arrive in time.
        HeadTimeout => "The head of the request did not arrive in time.";
        /// The request body stopped arriving.
        BodyTimeout => "The body of the request stopped arriving.";
    }
    PAYLOAD_TOO_LARGE "body_too_large" "Body too large" [Closes] {
        /// The body is over `max_body_bytes` of the route or of `[listen]`.
        BodyTooLarge(limit: u64) => format!("The body may have at most {limit} bytes.");
    }
    URI_TOO_LONG "uri_too_long" "Request target too long" [Closes] {
        /// The request target is longer than `listen.max_head_bytes`, or than 65,534 bytes
        /// (RFC 9110, section 15.5.15).
        UriTooLong => "The target of the request is too long.";
    }
    EXPECTATION_FAILED "expectation_failed" "Expectation failed" [Closes] {
        /// An expectation other than `100-continue`.
        ExpectationFailed => "Only the expectation 100-continue is supported.";
    }
    TOO_MANY_REQUESTS "too_many_requests" "Too many requests at once" [RetryAfter] {
        /// The key, or the subject of the token, has `listen.max_requests_in_flight_per_key` requests
        /// in flight; others are still served. 429 rather than 503, so that a load balancer does not consider the gateway
        /// unhealthy.
        TooManyOfKey =>
            "The credential is at its limit of requests in flight. Try again when one of them has ended.";
    }
    TOO_MANY_REQUESTS "too_many_in_flight" "Too many requests in flight" [RetryAfter] {
        /// A [limit](LIMITS.md#requests-in-flight) on requests in flight is reached;
        /// `violated-policies` names it. The request counted for no limit.
        TooManyInFlight(exceeded: Exceeded) => format!(
            "The limit {:?} on requests in flight is reached. Try again when one of them has ended.",
            exceeded.policy
        );
    }
    TOO_MANY_REQUESTS "quota_exceeded" "Quota exceeded" [RetryAfter] {
        /// A [quota](LIMITS.md#quotas) is used up; `violated-policies` names it, and `Retry-After`
        /// says when its next period begins, if one admits the request. The request counted for no
        /// limit.
        QuotaExceeded(exceeded: Exceeded) => match exceeded.retry_after {
            Some(seconds) => format!(
                "The quota {:?} is used up. Try again in {seconds} s.",
                exceeded.policy
            ),
            None => format!(
                "The quota {:?} does not admit the request, and no later period of it does.",
                exceeded.policy
            ),
        };
    }
    TOO_MANY_REQUESTS "too_many_failures" "Too many failures" [RetryAfter] {
        /// More requests with unknown or ended keys came from the address than the
        /// [brake](BRAKE.md) allows. One answer for all of them; a good key from the same address
        /// passes, unless `brake.block` is `all`.
        TooManyFailures(_seconds: u64) =>
            "Too many requests with keys that are not accepted came from this address. Try again later.";
    }
    TOO_MANY_REQUESTS "rate_limited" "Rate limit reached" [RetryAfter] {
        /// A [limit](LIMITS.md) on the rate of requests is reached; `violated-policies` names it,
        /// and `Retry-After` says when it admits the request, if it ever does. The request counted
        /// for no limit.
        RateLimited(exceeded: Exceeded) => match exceeded.retry_after {
            Some(seconds) => format!(
                "The rate limit {:?} is reached. Try again in {seconds} s.",
                exceeded.policy
            ),
            None => format!("The request costs more than the rate limit {:?} allows.", exceeded.policy),
        };
    }
    SERVICE_UNAVAILABLE "limits_unavailable" "Limits unavailable" [RetryAfter] {
        /// The gateways cannot exchange the counts of a shared [limit](LIMITS.md), and
        /// `limits.on_outage` is `closed`.
        LimitsUnavailable => "What is left of a limit cannot be determined. Try again in a second.";
    }
    REQUEST_HEADER_FIELDS_TOO_LARGE "request_header_too_large" "Request head too large" [Closes] {
        /// The head is over `listen.max_head_bytes` or has more than `listen.max_headers` fields.
        HeadTooLarge => "The head of the request is too large or has too many fields.";
    }
    INTERNAL_SERVER_ERROR "internal_error" "Internal error" [Closes] {
        /// The gateway failed; its log names the place in the source.
        Internal => "The gateway failed. Its operator knows.";
    }
    BAD_GATEWAY "origin_unreachable" "Origin unreachable" [] {
        /// The connection to the origin failed, or broke before the response.
        OriginUnreachable => "The origin could not be reached.";
    }
    BAD_GATEWAY "origin_bad_answer" "Origin answered badly" [] {
        /// The origin's response is not well-formed HTTP, or its status is outside 200 to 599 (101
        /// only after an upgrade request).
        OriginBadAnswer => "The origin's answer was not well-formed.";
    }
    BAD_GATEWAY "origin_rejected_gateway" "Origin rejected the gateway" [] {
        /// The origin's guard rejected the shared secret, also in response to a WebSocket upgrade.
        /// Check that both sides have the same secret.
        OriginRejectedGateway =>
            "The origin did not accept this gateway. The operator has to see to it.";
    }
    SERVICE_UNAVAILABLE "not_ready" "Not ready" [RetryAfter] {
        /// The keys are not loaded yet, or older than `store.max_staleness`. On
        /// `listen.health_path` also while the gateway drains.
        NotReady => "The gateway cannot check keys at the moment. Try again shortly.";
    }
    SERVICE_UNAVAILABLE "keys_unavailable" "Keys unavailable" [RetryAfter] {
        /// The gateway does not have the keys of the token's [issuer](JWT.md), or has had them for
        /// too long without hearing from it.
        KeysUnavailable => "The gateway cannot check this token at the moment. Try again shortly.";
    }
    SERVICE_UNAVAILABLE "overloaded" "Overloaded" [RetryAfter] {
        /// `listen.max_requests_in_flight`, the share of anonymous requests, the limit of every
        /// target or `listen.max_buffered_bytes` is reached, or no file descriptor is left for a
        /// connection to an origin.
        Overloaded => "Too many requests are in flight. Try again shortly.";
    }
    GATEWAY_TIMEOUT "origin_timeout" "Origin timeout" [] {
        /// The connection or the response took too long.
        OriginTimeout => "The origin did not answer in time.";
    }
    HTTP_VERSION_NOT_SUPPORTED "version_not_supported" "HTTP version not supported" [Closes] {
        /// An HTTP version other than 1.1 and 1.0 (RFC 9110, section 15.6.6).
        VersionNotSupported => "Send the request with HTTP/1.1 or HTTP/1.0.";
    }
    LOOP_DETECTED "loop_detected" "Loop detected" [] {
        /// The request has already passed through eight such gateways.
        LoopDetected => "The request loops through this gateway.";
    }
}

impl Refusal {
    /// Code in metrics of all refusals by checks that are built into this gateway.
    pub const OWN_CODE: &'static str = "own_rule";

    /// Stable name of the refusal, for programs and logs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Own(own) => own.code(),
            _ => self.row().code,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
