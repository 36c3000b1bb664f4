//! [`RequireSharedSecret`]: middleware that admits only requests with the shared secret, which
//! proves that they came through the gateway. It decides whether a request may enter;
//! [`Caller`](crate::Caller) identifies its caller.

use std::ffi::OsString;
use std::future::{Ready, ready};
use std::{env, fs, io};

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{StatusCode, Uri};
use actix_web::{Error, HttpMessage};
use futures_util::TryFutureExt;
use futures_util::future::{Either, MapOk};
use postern_shared::headers::{self, ORIGIN_GUARD, SHARED_SECRET};
use postern_shared::source::{self, SourceError};
use postern_shared::{AcceptedSecrets, Secret, SecretError};
use thiserror::Error;

use crate::problem::Problem;

const CURRENT: &str = "SHARED_SECRET";
const PREVIOUS: &str = "SHARED_SECRET_PREVIOUS";

/// Middleware that refuses every request without the shared secret.
///
/// Mount it **outermost**, with the last `wrap` of the `App`: it then decides before any body is
/// read, before any other middleware logs a header, and on upgrades too.
///
/// The header `x-shared-secret` must appear exactly once and match an accepted secret, byte for
/// byte and in constant time. Every refusal is `application/problem+json` and carries
/// `x-origin-guard`, which the gateway recognizes:
///
/// | request | status | `detail` | `x-origin-guard` |
/// |---|---|---|---|
/// | any, and no secret is configured | 500 | `Server configuration error` | `unconfigured` |
/// | no such header, or an empty one | 401 | `No secret provided` | `missing` |
/// | another value, or the header more than once | 401 | `Invalid secret` | `invalid` |
///
/// Later services never see the secret, in any spelling of the header name. They see identity
/// headers only under their exact names and only on proven requests, and nothing else that begins
/// with `x-consumer-` or `x-credential-`, so no client can plant one.
#[derive(Debug, Clone)]
pub struct RequireSharedSecret {
    accepted: AcceptedSecrets,
    exempt: Vec<String>,
}

/// The guard could not be set up from the environment. Contains no secret.
#[derive(Debug, Error)]
pub enum GuardSetupError {
    /// The variable or its file cannot be read, or both are set.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The text is not a usable secret.
    #[error("{name}: {cause}")]
    Secret {
        /// Variable, without `_FILE`.
        name: &'static str,
        /// Problem with the text.
        cause: SecretError,
    },
}

/// For a `main` that returns [`io::Result`], as those of actix-web do.
impl From<GuardSetupError> for io::Error {
    fn from(error: GuardSetupError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

/// Proof that the guard admitted this request. Only this crate can create or read one, so an
/// extractor that finds it in the request extensions can rely on the guard.
pub(crate) struct Proven(());

impl RequireSharedSecret {
    /// Admits requests with one of the `accepted` secrets. With none, it refuses everything.
    #[must_use]
    pub fn new(accepted: AcceptedSecrets) -> Self {
        if accepted.is_empty() {
            log::error!(
                "no shared secret is configured: every guarded request will be answered with 500; set {CURRENT}"
            );
        }
        Self {
            accepted,
            exempt: Vec::new(),
        }
    }

    /// Accepts `SHARED_SECRET` and, during a rotation, `SHARED_SECRET_PREVIOUS`, each from the
    /// variable or from the file named in the variable with `_FILE` appended.
    ///
    /// Without `SHARED_SECRET` the guard refuses everything, even with a previous secret: that one
    /// is being retired, and its replacement is missing.
    ///
    /// # Errors
    /// An unusable secret: too short, a placeholder, set twice, or in an unreadable file.
    pub fn from_env() -> Result<Self, GuardSetupError> {
        Self::from_sources(|name| env::var_os(name), |path| fs::read(path))
    }

    fn from_sources(
        variable: impl Fn(&str) -> Option<OsString>,
        read: impl Fn(&str) -> io::Result<Vec<u8>>,
    ) -> Result<Self, GuardSetupError> {
        let secret = |name: &'static str| -> Result<Option<Secret>, GuardSetupError> {
            source::resolve(name, &variable, &read)?
                .map(|text| {
                    Secret::parse(&text).map_err(|cause| GuardSetupError::Secret { name, cause })
                })
                .transpose()
        };
        let accepted = match (secret(CURRENT)?, secret(PREVIOUS)?) {
            (Some(current), previous) => {
                AcceptedSecrets::new([&current].into_iter().chain(&previous))
            }
            (None, Some(_)) => {
                log::error!(
                    "{PREVIOUS} is set and {CURRENT} is not: the previous secret is not accepted alone"
                );
                AcceptedSecrets::default()
            }
            (None, None) => AcceptedSecrets::default(),
        };
        Ok(Self::new(accepted))
    }

    /// Admits requests for exactly `path` without the secret, whatever their method; meant for a
    /// health check.
    ///
    /// Compares the undecoded path byte for byte: no other spelling, such as `/healthz/` or
    /// `/%68ealthz`, is exempt. Handlers see no identity there. A path with other characters than
    /// letters, digits, `/`, `-` and `_` exempts nothing, because a router could read it
    /// differently.
    #[must_use]
    pub fn exempt(mut self, path: &str) -> Self {
        if path.starts_with('/')
            && path
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"/-_".contains(&byte))
        {
            self.exempt.push(path.to_owned());
        } else {
            log::error!(
                "{path:?} is not exempt from the guard: only letters, digits, '/', '-' and '_' can be, after a '/'"
            );
        }
        self
    }

    fn decide(&self, uri: &Uri, headers: &HeaderMap) -> Verdict {
        if self.exempt.iter().any(|exempt| exempt == uri.path()) {
            return Verdict::Exempt;
        }
        if self.accepted.is_empty() {
            return Verdict::Refused(Refusal::Unconfigured);
        }
        let mut values = headers.get_all(SHARED_SECRET);
        match (values.next(), values.next()) {
            (None, _) => Verdict::Refused(Refusal::Missing),
            // Even if both are right: a client that gets a header past the gateway must be noticed,
            // and two readers could each use another one.
            (Some(_), Some(_)) => Verdict::Refused(Refusal::Invalid),
            (Some(value), None) if value.is_empty() => Verdict::Refused(Refusal::Missing),
            (Some(value), None) if self.accepted.matches(value.as_bytes()) => Verdict::Proven,
            (Some(_), None) => Verdict::Refused(Refusal::Invalid),
        }
    }
}

impl<S, B> Transform<S, ServiceRequest> for RequireSharedSecret
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Transform = Guarded<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, Self::InitError>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(Guarded {
            guard: self.clone(),
            service,
        }))
    }
}

/// Service behind [`RequireSharedSecret`].
#[derive(Debug)]
pub struct Guarded<S> {
    guard: RequireSharedSecret,
    service: S,
}

type Answer<B> = Result<ServiceResponse<EitherBody<B>>, Error>;
type IntoLeft<B> = fn(ServiceResponse<B>) -> ServiceResponse<EitherBody<B>>;

impl<S, B> Service<ServiceRequest> for Guarded<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Future = Either<MapOk<S::Future, IntoLeft<B>>, Ready<Answer<B>>>;

    forward_ready!(service);

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        let verdict = self.guard.decide(request.uri(), request.headers());
        match verdict {
            Verdict::Refused(refusal) => return Either::Right(ready(Ok(refuse(request, refusal)))),
            Verdict::Proven => {
                request
                    .headers_mut()
                    .retain(|name, _| !is_secret(name) && is_unambiguous(name));
                request.extensions_mut().insert(Proven(()));
            }
            // Nothing proves the origin of these headers.
            Verdict::Exempt => request
                .headers_mut()
                .retain(|name, _| !headers::is_privileged(name.as_str())),
        }
        Either::Left(
            self.service
                .call(request)
                .map_ok(ServiceResponse::map_into_left_body),
        )
    }
}

enum Verdict {
    Proven,
    Exempt,
    Refused(Refusal),
}

#[derive(Debug, Clone, Copy)]
enum Refusal {
    Unconfigured,
    Missing,
    Invalid,
}

impl Refusal {
    fn marker(self) -> &'static str {
        match self {
            Self::Unconfigured => "unconfigured",
            Self::Missing => "missing",
            Self::Invalid => "invalid",
        }
    }

    fn problem(self) -> Problem {
        let (status, code, detail) = match self {
            Self::Unconfigured => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "shared_secret_unconfigured",
                "Server configuration error",
            ),
            Self::Missing => (
                StatusCode::UNAUTHORIZED,
                "shared_secret_missing",
                "No secret provided",
            ),
            Self::Invalid => (
                StatusCode::UNAUTHORIZED,
                "shared_secret_invalid",
                "Invalid secret",
            ),
        };
        Problem {
            status,
            code,
            detail,
        }
    }
}

/// Returns a refusal as a response, not an `Err`: an error would skip the response work of outer
/// layers.
fn refuse<B>(request: ServiceRequest, refusal: Refusal) -> ServiceResponse<EitherBody<B>> {
    let peer = request.peer_addr().map(|peer| peer.ip());
    log::warn!(
        "refused {} {:?} from {peer:?}: shared secret {}",
        request.method(),
        request.path(),
        refusal.marker()
    );
    let mut response = refusal.problem().respond(request.path());
    let answered = response.headers_mut();
    answered.insert(
        HeaderName::from_static(ORIGIN_GUARD),
        HeaderValue::from_static(refusal.marker()),
    );
    if response.status() == StatusCode::UNAUTHORIZED {
        // A 401 names the accepted scheme (RFC 9110, section 15.5.2).
        let challenge = HeaderValue::from_static("SharedSecret realm=\"origin\"");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge);
    }
    request.into_response(response).map_into_right_body()
}

fn is_secret(name: &HeaderName) -> bool {
    headers::is_spelling_of(name.as_str(), SHARED_SECRET)
}

/// Whether no reader can take the name for a privileged one that the gateway did not set.
fn is_unambiguous(name: &HeaderName) -> bool {
    !headers::is_privileged(name.as_str()) || headers::PRIVILEGED.contains(&name.as_str())
}

#[cfg(test)]
mod tests;
