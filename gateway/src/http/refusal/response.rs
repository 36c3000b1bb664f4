//! The response of a refusal: problem+json (RFC 9457) with its challenges and other headers.

use actix_http::body::{BoxBody, MessageBody as _};
use actix_http::header::{self, HeaderName, HeaderValue};
use actix_http::{ConnectionType, Method, Response, StatusCode};
use serde::Serialize;

use crate::auth::key_source::KeySource;
use crate::auth::key_sources::KeySources;
use crate::http::refusal::{Effect, Exceeded, Refusal};
use crate::http::request_id::RequestId;

/// What challenges say of the place that is protected.
#[derive(Debug, Clone, Copy)]
pub struct Protection<'a> {
    /// Protection space.
    pub realm: &'a str,
    /// Places that the route takes credentials from.
    pub sources: &'a [KeySource],
    /// URL of the metadata of the resource (RFC 9728, section 5.1).
    pub metadata: Option<&'a str>,
}

/// Body of a refusal (RFC 9457), in reading order.
#[derive(Serialize)]
struct ProblemBody<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    instance: &'a str,
    code: &'a str,
    request_id: &'a str,
    #[serde(rename = "violated-policies", skip_serializing_if = "Option::is_none")]
    violated_policies: Option<[&'a str; 1]>,
}

impl Refusal {
    /// Status, title and kind of the problem.
    fn problem(&self) -> (StatusCode, &'static str, String) {
        let row = self.row();
        match self {
            Self::Own(own) => (
                StatusCode::from_u16(own.status()).unwrap_or(row.status),
                own.title(),
                format!("urn:postern:problem:own:{}", own.code()),
            ),
            _ => (
                row.status,
                row.title,
                format!("urn:postern:problem:{}", row.code),
            ),
        }
    }

    /// The limit that denied the request.
    fn exceeded(&self) -> Option<&Exceeded> {
        match self {
            Self::RateLimited(exceeded)
            | Self::TooManyInFlight(exceeded)
            | Self::QuotaExceeded(exceeded) => Some(exceeded),
            _ => None,
        }
    }

    /// Challenges of an effect (RFC 9110, section 11.6.1), one for each place that has one.
    fn challenges(&self, effect: Effect, protection: &Protection<'_>) -> Vec<String> {
        let Protection {
            realm,
            sources,
            metadata,
        } = protection;
        let metadata = metadata.map_or(String::new(), |url| {
            format!(", resource_metadata=\"{url}\"")
        });
        let error = match (effect, self) {
            (Effect::Challenge, _) => String::new(),
            (Effect::ChallengeError(error, description), _) => {
                format!(", error=\"{error}\", error_description=\"{description}\"")
            }
            (Effect::ChallengeScope, Self::InsufficientScope(scopes)) => format!(
                ", error=\"insufficient_scope\", scope=\"{}\"",
                scopes.join(" ")
            ),
            (Effect::ChallengeScope | Effect::Allow | Effect::RetryAfter | Effect::Closes, _) => {
                return Vec::new();
            }
        };
        let challenge = |source: &KeySource| match source {
            // Error parameters are those of RFC 6750, section 3.
            KeySource::Bearer => Some(format!("{}{error}{metadata}", source.challenge(realm))),
            _ if self.row().status == StatusCode::UNAUTHORIZED => Some(source.challenge(realm)),
            _ => None,
        };
        sources.iter().filter_map(challenge).collect()
    }

    /// Another header of an effect.
    fn header(&self, effect: Effect) -> Option<(HeaderName, String)> {
        match (effect, self) {
            (Effect::Allow, Self::MethodNotAllowed(methods)) => {
                let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
                Some((header::ALLOW, methods.join(", ")))
            }
            (Effect::RetryAfter, _) => {
                let seconds = match self {
                    Self::TooManyFailures(seconds) => Some((*seconds).max(1)),
                    _ => self.exceeded().map_or(Some(1), |limit| limit.retry_after),
                };
                Some((header::RETRY_AFTER, seconds?.to_string()))
            }
            (
                Effect::Challenge
                | Effect::ChallengeError(..)
                | Effect::ChallengeScope
                | Effect::Closes
                | Effect::Allow,
                _,
            ) => None,
        }
    }

    /// Builds the response: problem+json (RFC 9457), never cached. `instance` is the request path, empty if unknown. `body_unread`
    /// closes the connection, because unread body bytes remain.
    #[must_use]
    pub fn respond(
        &self,
        protection: &Protection<'_>,
        instance: &str,
        request_id: &RequestId,
        body_unread: bool,
    ) -> Response<BoxBody> {
        let effects = self.row().effects;
        let (status, title, kind) = self.problem();
        let problem = ProblemBody {
            r#type: kind,
            title,
            status: status.as_u16(),
            detail: &self.detail(),
            instance,
            code: self.code(),
            request_id: request_id.as_str(),
            violated_policies: self.exceeded().map(|exceeded| [&*exceeded.policy]),
        };
        // Serializing strings and a number cannot fail.
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
        let challenges = effects
            .iter()
            .flat_map(|effect| self.challenges(*effect, protection))
            .map(|challenge| (header::WWW_AUTHENTICATE, challenge));
        let others = effects.iter().filter_map(|effect| self.header(*effect));
        let own = match self {
            Self::Own(own) => Some(own),
            _ => None,
        };
        let retry_after = own.and_then(|own| own.retry_after());
        let retry_after = retry_after.map(|seconds| (header::RETRY_AFTER, seconds.to_string()));
        let challenge = own.and_then(|own| own.challenge());
        let challenge = challenge.map(|text| (header::WWW_AUTHENTICATE, text.to_owned()));
        for (name, value) in challenges.chain(others).chain(retry_after).chain(challenge) {
            // Realm, names and scopes were validated with the settings, so they fit a header.
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.append(name, value);
            }
        }
        if body_unread || effects.contains(&Effect::Closes) {
            response
                .head_mut()
                .set_connection_type(ConnectionType::Close);
        }
        response
    }

    /// Serializes the response for a client whose request was not read; the connection closes.
    #[must_use]
    pub fn to_bytes(&self, realm: &str, request_id: &RequestId) -> Vec<u8> {
        let protection = Protection {
            realm,
            sources: KeySources::BEARER,
            metadata: None,
        };
        let response = self.respond(&protection, "", request_id, true);
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
        // A text body is available at once.
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
