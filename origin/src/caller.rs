//! [`Caller`]: the caller's identity as the gateway proved and forwarded it. Reads identity headers
//! only behind [`RequireSharedSecret`](crate::RequireSharedSecret), and refuses what the gateway
//! never sends.

use std::future::{Ready, ready};
use std::str;

use actix_web::dev::Payload;
use actix_web::error::InternalError;
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postern_shared::headers::{
    ANONYMOUS_CONSUMER, CONSUMER_CUSTOM_ID, CONSUMER_GROUPS, CONSUMER_ID, CONSUMER_METADATA,
    CONSUMER_USERNAME, CREDENTIAL_IDENTIFIER, REQUEST_ID,
};
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use crate::guard::Proven;
use crate::problem::Problem;

/// Caller of a request that came through the gateway.
///
/// Extractor for handlers. Succeeds only where the guard admitted the request. Without the guard,
/// and on exempt paths, extraction fails with 500, so a forgotten guard opens nothing.
///
/// ```
/// use postern_origin::Caller;
///
/// async fn greet(caller: Caller) -> String {
///     match caller.consumer() {
///         Some(consumer) if consumer.has_scope("greet") => format!("hello, {}", consumer.id),
///         Some(_) => "hello".to_owned(),
///         None => "hello, stranger".to_owned(),
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Caller {
    consumer: Option<Consumer>,
    request_id: Option<String>,
}

/// Owner of a credential, and its permissions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Consumer {
    /// Gateway's id of the consumer. It never changes.
    pub id: String,
    /// Consumer name.
    pub username: Option<String>,
    /// Consumer id in the team's own system.
    pub custom_id: Option<String>,
    /// Scopes of the credential, in the gateway's order.
    pub scopes: Vec<String>,
    /// Metadata that the team stored with the consumer; only on routes that forward it.
    pub metadata: Option<Value>,
    /// Id of the credential, for logs; never the credential itself.
    pub credential_id: Option<String>,
}

/// Why there is no [`Caller`]. Both variants are faults of the deployment, not of the client: only
/// the gateway sets these headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CallerError {
    /// The guard did not prove this request: it is not mounted, or the path is exempt.
    #[error(
        "no caller is proven on this path: RequireSharedSecret is not mounted around it, or exempts it"
    )]
    Unproven,
    /// An identity header that the gateway never sends.
    #[error("the header {name} {fault}")]
    Malformed {
        /// Header name.
        name: &'static str,
        /// Problem with the header.
        fault: &'static str,
    },
}

impl Caller {
    /// The consumer; `None` if the gateway admitted the request without a credential.
    #[must_use]
    pub fn consumer(&self) -> Option<&Consumer> {
        self.consumer.as_ref()
    }

    /// Whether the gateway admitted the request without a credential.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.consumer.is_none()
    }

    /// Request id, as in both access logs and in the response.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    fn parse(headers: &HeaderMap) -> Result<Self, CallerError> {
        let anonymous = match said(headers, ANONYMOUS_CONSUMER)? {
            None => false,
            Some("true") => true,
            Some(_) => {
                return Err(CallerError::Malformed {
                    name: ANONYMOUS_CONSUMER,
                    fault: "is neither absent nor `true`",
                });
            }
        };
        let consumer = match single(headers, CONSUMER_ID)? {
            // An empty value is regular beside the anonymous mark, which forward-auth proxies send;
            // alone it is a fault.
            Some("") if !anonymous => {
                return Err(CallerError::Malformed {
                    name: CONSUMER_ID,
                    fault: "is empty",
                });
            }
            Some(id) if !id.is_empty() => Some(Consumer {
                id: id.to_owned(),
                username: said(headers, CONSUMER_USERNAME)?.map(str::to_owned),
                custom_id: said(headers, CONSUMER_CUSTOM_ID)?.map(str::to_owned),
                scopes: scopes(single(headers, CONSUMER_GROUPS)?.unwrap_or_default()),
                metadata: said(headers, CONSUMER_METADATA)?
                    .map(metadata)
                    .transpose()?,
                credential_id: said(headers, CREDENTIAL_IDENTIFIER)?.map(str::to_owned),
            }),
            _ => {
                // A scope or a name without an owner must not pass for a caller that merely lacks a
                // name.
                let belongs_to_a_consumer = [
                    CONSUMER_USERNAME,
                    CONSUMER_CUSTOM_ID,
                    CONSUMER_GROUPS,
                    CONSUMER_METADATA,
                    CREDENTIAL_IDENTIFIER,
                ];
                match belongs_to_a_consumer
                    .into_iter()
                    .find(|name| headers.get_all(*name).any(|value| !value.is_empty()))
                {
                    Some(name) => {
                        return Err(CallerError::Malformed {
                            name,
                            fault: "came without x-consumer-id",
                        });
                    }
                    None => None,
                }
            }
        };
        if anonymous && consumer.is_some() {
            return Err(CallerError::Malformed {
                name: ANONYMOUS_CONSUMER,
                fault: "came together with x-consumer-id",
            });
        }
        Ok(Self {
            consumer,
            request_id: request_id(headers),
        })
    }
}

impl Consumer {
    /// Whether the credential has exactly this scope.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.iter().any(|held| held == scope)
    }
}

impl FromRequest for Caller {
    type Error = InternalError<CallerError>;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let proven = request.extensions().get::<Proven>().is_some();
        let caller = if proven {
            Self::parse(request.headers())
        } else {
            Err(CallerError::Unproven)
        };
        ready(caller.map_err(|error| {
            log::error!(
                "cannot tell who calls {} {:?}: {error}",
                request.method(),
                request.path()
            );
            InternalError::from_response(error, error.problem().respond(request.path()))
        }))
    }
}

impl CallerError {
    fn problem(self) -> Problem {
        let code = match self {
            Self::Unproven => "caller_unproven",
            Self::Malformed { .. } => "caller_malformed",
        };
        Problem {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            code,
            detail: "Server configuration error",
        }
    }
}

/// Returns the value of a header, `None` if empty: forward-auth proxies copy the gateway's empty
/// headers.
fn said<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, CallerError> {
    Ok(single(headers, name)?.filter(|value| !value.is_empty()))
}

/// Returns the value of a header that may appear once.
fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, CallerError> {
    let mut values = headers.get_all(name);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(CallerError::Malformed {
            name,
            fault: "came more than once",
        }),
        (Some(value), None) => match str::from_utf8(value.as_bytes()) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(CallerError::Malformed {
                name,
                fault: "is not UTF-8",
            }),
        },
    }
}

/// Splits `a, b,c` (RFC 9110, section 5.6.1: empty elements do not count).
fn scopes(list: &str) -> Vec<String> {
    list.split(',')
        .map(str::trim)
        .filter(|scope| !scope.is_empty())
        .map(str::to_owned)
        .collect()
}

fn metadata(encoded: &str) -> Result<Value, CallerError> {
    let fault = |fault| CallerError::Malformed {
        name: CONSUMER_METADATA,
        fault,
    };
    let json = URL_SAFE_NO_PAD
        .decode(encoded)
        .map_err(|_| fault("is not base64url without padding"))?;
    serde_json::from_slice(&json).map_err(|_| fault("holds no JSON"))
}

/// Not part of the identity, so an id that cannot be logged is omitted instead of refused.
fn request_id(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(REQUEST_ID);
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok().map(str::to_owned),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
