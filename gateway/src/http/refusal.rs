//! The one table that turns a refusal into a response: status, code, public text, challenge. Whatever the gateway
//! answers in the origin's place is here, and nothing else is.

use std::borrow::Cow;

use actix_http::body::{BoxBody, MessageBody as _};
use actix_http::header::{self, HeaderName, HeaderValue};
use actix_http::{ConnectionType, Method, Response, StatusCode};
use serde::Serialize;

use crate::front::client_stream::ClientFault;
use crate::http::request_id::RequestId;

/// Every code of the table, once, for whoever counts them.
pub const CODES: &[&str] = &[
    "api_key_missing",
    "api_key_invalid",
    "api_key_expired",
    "api_key_revoked",
    "api_key_disabled",
    "invalid_request",
    "insufficient_scope",
    "key_restricted",
    "bad_request",
    "key_in_url",
    "ambiguous_path",
    "method_not_allowed",
    "no_route",
    "expectation_failed",
    "loop_detected",
    "body_too_large",
    "request_timeout",
    "uri_too_long",
    "request_header_too_large",
    "origin_rejected_gateway",
    "origin_unreachable",
    "origin_bad_answer",
    "origin_timeout",
    "not_ready",
    "overloaded",
    "too_many_requests",
    "internal_error",
    "version_not_supported",
];

/// What a good key may not be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restriction {
    /// Where the client is.
    Address,
    /// The route takes no keys of its bucket. The client is not told that there are buckets.
    Bucket,
}

/// Why the gateway answers in the origin's place. What an operator needs beyond the public text is logged, not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No credential, or one of another scheme.
    KeyMissing,
    /// The credential cannot be a key, or no key is like it. One answer for all, so that guessing teaches nothing.
    KeyInvalid,
    /// The holder proved possession of a key that has expired.
    KeyExpired,
    /// The holder proved possession of a key that was revoked.
    KeyRevoked,
    /// The holder proved possession of a key that is switched off.
    KeyDisabled,
    /// More than one credential.
    CredentialTwice,
    /// The credential lacks scopes of the route; these are needed.
    InsufficientScope(Vec<String>),
    /// The key may not be used so.
    KeyRestricted(Restriction),
    /// The request is not well-formed HTTP; what is wrong.
    BadRequest(&'static str),
    /// A whole API key stands in the path or the query, where proxies and histories keep it.
    KeyInUrl,
    /// Gateway and origin could read the path differently; why.
    AmbiguousPath(&'static str),
    /// The method is never proxied, or not by the routes of this path; these are.
    MethodNotAllowed(Vec<Method>),
    /// No route covers the request.
    NoRoute,
    /// The head of the request did not arrive in time.
    HeadTimeout,
    /// The target of the request is too long (RFC 9110, section 15.5.15).
    UriTooLong,
    /// The head of the request is too large or has too many fields.
    HeadTooLarge,
    /// An expectation other than `100-continue`.
    ExpectationFailed,
    /// The request has come through gateways like this one too often.
    LoopDetected,
    /// The body is larger than this many bytes.
    BodyTooLarge(u64),
    /// The client stopped in the middle of its body.
    BodyTimeout,
    /// The client's body was cut off or badly framed.
    BodyBroken,
    /// The origin did not accept our secret.
    OriginRejectedGateway,
    /// No connection to the origin, or it broke before an answer.
    OriginUnreachable,
    /// The origin answered, but not with HTTP that can be passed on.
    OriginBadAnswer,
    /// The origin did not answer in time.
    OriginTimeout,
    /// The keys were never loaded, or are too old to be trusted.
    NotReady,
    /// As many requests are in flight as may be.
    Overloaded,
    /// The key has as many requests in flight as one key may: the others still have theirs.
    TooManyOfKey,
    /// A fault of the gateway's own: its code panicked.
    Internal,
    /// A version of HTTP that is not spoken here (RFC 9110, section 15.6.6).
    VersionNotSupported,
}

/// The body of a refusal (RFC 9457), in the order in which people read it.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    instance: &'a str,
    code: &'a str,
    request_id: &'a str,
}

/// The row of the table.
struct Row {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
}

impl Refusal {
    /// The answer to what a client did wrong before its request could run, or within it; none where none can be given.
    #[must_use]
    pub fn of_fault(fault: ClientFault) -> Option<Self> {
        Some(match fault {
            ClientFault::HeadTimeout => Self::HeadTimeout,
            ClientFault::HeadTooLarge | ClientFault::TooManyFields => Self::HeadTooLarge,
            ClientFault::TargetTooLong => Self::UriTooLong,
            ClientFault::Version => Self::VersionNotSupported,
            ClientFault::NoRequestLine => Self::BadRequest("there is no request line"),
            ClientFault::BadRequestLine => Self::BadRequest("the first line is no request line"),
            ClientFault::BadTarget => Self::BadRequest("the request target is malformed"),
            ClientFault::BareLineFeed => {
                Self::BadRequest("a line of the head ends with a bare line feed")
            }
            ClientFault::Fragment => Self::BadRequest("the request target has a fragment"),
            ClientFault::BadField => Self::BadRequest("a line of the head is no header field"),
            ClientFault::BadHost(what) | ClientFault::BadFraming(what) => Self::BadRequest(what),
            ClientFault::TlsOnPlain => {
                Self::BadRequest("this port speaks plain HTTP, and the client TLS")
            }
            ClientFault::PlainOnTls => {
                Self::BadRequest("this port speaks TLS, and the client plain HTTP: use https://")
            }
            ClientFault::UnexpectedProxyHeader => {
                Self::BadRequest("the connection begins with a PROXY protocol header")
            }
            ClientFault::BadChunk(_) => Self::BodyBroken,
            ClientFault::BodyStalled | ClientFault::BodyTooSlow => Self::BodyTimeout,
            ClientFault::TlsHandshake
            | ClientFault::TlsTimeout
            | ClientFault::MadeRoom
            | ClientFault::Http2(_)
            | ClientFault::Http2Flood
            | ClientFault::ProxyHeader(_)
            | ClientFault::WriteStalled
            | ClientFault::StrayResponse => return None,
        })
    }

    /// What the client is told, as a sentence.
    #[must_use]
    pub fn detail(&self) -> Cow<'static, str> {
        self.row().detail
    }

    /// The stable name of the refusal, for programs and logs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.row().code
    }

    fn row(&self) -> Row {
        let row = |status, code, title, detail: &'static str| Row {
            status,
            code,
            title,
            detail: Cow::Borrowed(detail),
        };
        match self {
            Self::KeyMissing => row(
                StatusCode::UNAUTHORIZED,
                "api_key_missing",
                "API key missing",
                "Send your key as Authorization: Bearer API_KEY.",
            ),
            Self::KeyInvalid => row(
                StatusCode::UNAUTHORIZED,
                "api_key_invalid",
                "API key invalid",
                "The API key is not valid.",
            ),
            Self::KeyExpired => row(
                StatusCode::UNAUTHORIZED,
                "api_key_expired",
                "API key expired",
                "The API key has expired.",
            ),
            Self::KeyRevoked => row(
                StatusCode::UNAUTHORIZED,
                "api_key_revoked",
                "API key revoked",
                "The API key was revoked.",
            ),
            Self::KeyDisabled => row(
                StatusCode::UNAUTHORIZED,
                "api_key_disabled",
                "API key disabled",
                "The API key is disabled.",
            ),
            Self::CredentialTwice => row(
                StatusCode::BAD_REQUEST,
                "invalid_request",
                "More than one credential",
                "Send exactly one Authorization header.",
            ),
            Self::InsufficientScope(scopes) => Row {
                status: StatusCode::FORBIDDEN,
                code: "insufficient_scope",
                title: "Scope missing",
                detail: Cow::Owned(format!(
                    "The API key needs these scopes: {}.",
                    scopes.join(" ")
                )),
            },
            Self::KeyRestricted(restriction) => row(
                StatusCode::FORBIDDEN,
                "key_restricted",
                "Key restricted",
                match restriction {
                    Restriction::Address => "The API key may not be used from this address.",
                    Restriction::Bucket => "The API key may not be used for this.",
                },
            ),
            Self::BadRequest(what) => Row {
                status: StatusCode::BAD_REQUEST,
                code: "bad_request",
                title: "Malformed request",
                detail: Cow::Owned(format!("The request is malformed: {what}.")),
            },
            Self::KeyInUrl => row(
                StatusCode::BAD_REQUEST,
                "key_in_url",
                "API key in the URL",
                "A whole API key stands in the URL. It was not logged here, but others may have: consider revoking it.",
            ),
            Self::AmbiguousPath(why) => Row {
                status: StatusCode::BAD_REQUEST,
                code: "ambiguous_path",
                title: "Ambiguous path",
                detail: Cow::Owned(format!("The path could be read in two ways: {why}.")),
            },
            Self::MethodNotAllowed(_) => row(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "Method not allowed",
                "The Allow header names the methods that are taken here.",
            ),
            Self::NoRoute => row(
                StatusCode::NOT_FOUND,
                "no_route",
                "No route",
                "No route covers this host and path.",
            ),
            Self::HeadTimeout => row(
                StatusCode::REQUEST_TIMEOUT,
                "request_timeout",
                "Request timeout",
                "The head of the request did not arrive in time.",
            ),
            Self::UriTooLong => row(
                StatusCode::URI_TOO_LONG,
                "uri_too_long",
                "Request target too long",
                "The target of the request is too long.",
            ),
            Self::HeadTooLarge => row(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "request_header_too_large",
                "Request head too large",
                "The head of the request is too large or has too many fields.",
            ),
            Self::ExpectationFailed => row(
                StatusCode::EXPECTATION_FAILED,
                "expectation_failed",
                "Expectation failed",
                "The only expectation that is met is 100-continue.",
            ),
            Self::LoopDetected => row(
                StatusCode::LOOP_DETECTED,
                "loop_detected",
                "Loop detected",
                "The request goes around in a loop.",
            ),
            Self::BodyTooLarge(limit) => Row {
                status: StatusCode::PAYLOAD_TOO_LARGE,
                code: "body_too_large",
                title: "Body too large",
                detail: Cow::Owned(format!("The body may have at most {limit} bytes.")),
            },
            Self::BodyTimeout => row(
                StatusCode::REQUEST_TIMEOUT,
                "request_timeout",
                "Request timeout",
                "The body of the request stopped arriving.",
            ),
            Self::BodyBroken => row(
                StatusCode::BAD_REQUEST,
                "bad_request",
                "Malformed request",
                "The body of the request broke off or is badly framed.",
            ),
            Self::OriginRejectedGateway => row(
                StatusCode::BAD_GATEWAY,
                "origin_rejected_gateway",
                "Origin rejected the gateway",
                "The origin did not accept this gateway. The operator has to see to it.",
            ),
            Self::OriginUnreachable => row(
                StatusCode::BAD_GATEWAY,
                "origin_unreachable",
                "Origin unreachable",
                "The origin could not be reached.",
            ),
            Self::OriginBadAnswer => row(
                StatusCode::BAD_GATEWAY,
                "origin_bad_answer",
                "Origin answered badly",
                "The origin's answer was not well-formed.",
            ),
            Self::OriginTimeout => row(
                StatusCode::GATEWAY_TIMEOUT,
                "origin_timeout",
                "Origin timeout",
                "The origin did not answer in time.",
            ),
            Self::NotReady => row(
                StatusCode::SERVICE_UNAVAILABLE,
                "not_ready",
                "Not ready",
                "The gateway cannot check keys at the moment. Try again shortly.",
            ),
            Self::Overloaded => row(
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "Overloaded",
                "Too many requests are in flight. Try again shortly.",
            ),
            Self::TooManyOfKey => row(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_requests",
                "Too many requests at once",
                "The API key has as many requests in flight as it may. Try again when one of them has ended.",
            ),
            Self::Internal => row(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal_error",
                "Internal error",
                "The gateway failed. Its operator knows.",
            ),
            Self::VersionNotSupported => row(
                StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                "version_not_supported",
                "HTTP version not supported",
                "Send the request with HTTP/1.1 or HTTP/1.0.",
            ),
        }
    }

    /// The challenge of RFC 6750, section 3; `realm` is the protection space.
    fn challenge(&self, realm: &str) -> Option<String> {
        let with_error = |error: &str, description: &str| {
            format!(
                "Bearer realm=\"{realm}\", error=\"{error}\", error_description=\"{description}\""
            )
        };
        match self {
            // Without any credential, the challenge names no error.
            Self::KeyMissing => Some(format!("Bearer realm=\"{realm}\"")),
            Self::KeyInvalid => Some(with_error("invalid_token", "The API key is not valid")),
            Self::KeyExpired => Some(with_error("invalid_token", "The API key has expired")),
            Self::KeyRevoked => Some(with_error("invalid_token", "The API key was revoked")),
            Self::KeyDisabled => Some(with_error("invalid_token", "The API key is disabled")),
            Self::CredentialTwice => {
                Some(with_error("invalid_request", "More than one credential"))
            }
            Self::InsufficientScope(scopes) => Some(format!(
                "Bearer realm=\"{realm}\", error=\"insufficient_scope\", scope=\"{}\"",
                scopes.join(" ")
            )),
            Self::KeyRestricted(_)
            | Self::BadRequest(_)
            | Self::KeyInUrl
            | Self::AmbiguousPath(_)
            | Self::MethodNotAllowed(_)
            | Self::NoRoute
            | Self::HeadTimeout
            | Self::UriTooLong
            | Self::HeadTooLarge
            | Self::ExpectationFailed
            | Self::LoopDetected
            | Self::BodyTooLarge(_)
            | Self::BodyTimeout
            | Self::BodyBroken
            | Self::OriginRejectedGateway
            | Self::OriginUnreachable
            | Self::OriginBadAnswer
            | Self::OriginTimeout
            | Self::NotReady
            | Self::Overloaded
            | Self::TooManyOfKey
            | Self::Internal
            | Self::VersionNotSupported => None,
        }
    }

    /// Whether the connection cannot be trusted to be in step any more.
    fn closes(&self) -> bool {
        matches!(
            self,
            Self::BadRequest(_)
                | Self::KeyInUrl
                | Self::AmbiguousPath(_)
                | Self::HeadTimeout
                | Self::UriTooLong
                | Self::HeadTooLarge
                | Self::VersionNotSupported
                | Self::ExpectationFailed
                | Self::BodyTooLarge(_)
                | Self::BodyTimeout
                | Self::BodyBroken
                | Self::Internal
        )
    }

    /// The response: problem+json (RFC 9457) that is never stored. `instance` is the path of the request, empty if unknown, and
    /// `body_unread` says that the request's body was not read to its end, so that the connection has to close.
    #[must_use]
    pub fn respond(
        &self,
        realm: &str,
        instance: &str,
        request_id: &RequestId,
        body_unread: bool,
    ) -> Response<BoxBody> {
        let Row {
            status,
            code,
            title,
            detail,
        } = self.row();
        let problem = Problem {
            r#type: format!("urn:postern:problem:{code}"),
            title,
            status: status.as_u16(),
            detail: &detail,
            instance,
            code,
            request_id: request_id.as_str(),
        };
        // Texts and a number always become JSON.
        let body = serde_json::to_string(&problem).unwrap_or_default();
        let mut response = Response::with_body(status, BoxBody::new(body));
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(
            HeaderName::from_static(postern_shared::headers::REQUEST_ID),
            request_id.header_value(),
        );
        // The realm and scopes were checked when they were configured: they fit a header.
        if let Some(challenge) = self
            .challenge(realm)
            .and_then(|text| HeaderValue::try_from(text).ok())
        {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Self::MethodNotAllowed(methods) = self {
            let allowed: Vec<&str> = methods.iter().map(Method::as_str).collect();
            if let Ok(allowed) = HeaderValue::try_from(allowed.join(", ")) {
                headers.insert(header::ALLOW, allowed);
            }
        }
        if matches!(self, Self::NotReady | Self::Overloaded | Self::TooManyOfKey) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if body_unread || self.closes() {
            response
                .head_mut()
                .set_connection_type(ConnectionType::Close);
        }
        response
    }

    /// The response as it goes over the wire, to a client whose request was not read; its connection closes.
    #[must_use]
    pub fn to_bytes(&self, realm: &str, request_id: &RequestId) -> Vec<u8> {
        let response = self.respond(realm, "", request_id, true);
        let status = response.status();
        let mut bytes = format!(
            "HTTP/1.1 {} {}\r\n",
            status.as_u16(),
            status.canonical_reason().unwrap_or_default()
        )
        .into_bytes();
        for (name, value) in response.headers() {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        // It is text, so it is in hand.
        let body = response.into_body().try_into_bytes().unwrap_or_default();
        bytes.extend_from_slice(
            format!(
                "content-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            )
            .as_bytes(),
        );
        bytes.extend_from_slice(&body);
        bytes
    }
}

#[cfg(test)]
mod tests;
