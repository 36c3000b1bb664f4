//! Sends one request to the targets of its upstream in turn: chooses a target, classifies the
//! outcome, and retries where that is safe.

use std::time::Duration;

use actix_http::Response;
use actix_http::header::HeaderValue;
use awc::error::SendRequestError;

use crate::auth::CallerTag;
use crate::proxy::body::{BodyProgress, OriginBody};
use crate::proxy::failure::{Failed, Failure, classify, phase};
use crate::proxy::origin_stream::OriginFault;
use crate::proxy::pool::{OriginPool, OriginTarget};
use crate::proxy::upstream::attempts::{Chosen, FailedAttempt, Phase};
use crate::proxy::upstream::{InFlight, Upstream};
use crate::wire::clock::{now, since};

/// `Host` header for the targets of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostHeader {
    /// Host of the target.
    OfTarget,
    /// Host in the request head.
    Kept,
}

/// The origin's response; its headers are still to be filtered.
pub struct ForwardedResponse {
    /// Response.
    pub response: Response<OriginBody>,
    /// Time from sending the request to the response head.
    pub wait: Duration,
    /// Failed attempts before it.
    pub failed: Vec<FailedAttempt>,
}

/// A request that may be sent more than once.
pub(super) trait Retryable {
    /// Successful outcome.
    type Output;

    /// Sets `Host` for the next target.
    fn set_host(&mut self, host: &HeaderValue);

    /// Sends the request to a target.
    async fn send(
        &mut self,
        pool: &OriginPool,
        target: &OriginTarget,
    ) -> Result<Self::Output, SendRequestError>;

    /// Whether a retry is safe after this error.
    fn is_retryable(&self, error: &SendRequestError) -> bool;
}

/// Outcome of the successful attempt.
pub(super) struct Attempted<T> {
    /// Successful outcome.
    pub(super) answer: T,
    /// In-flight count at the target; moves into the body.
    pub(super) in_flight: Option<InFlight>,
    /// Time from sending the request to the response head.
    pub(super) wait: Duration,
    /// Failed attempts before it.
    pub(super) failed: Vec<FailedAttempt>,
}

impl<T> Attempted<T> {
    /// Builds the response; `read` interprets the outcome.
    pub(super) fn into_response(
        self,
        read: impl FnOnce(T) -> Result<Response<OriginBody>, Failure>,
    ) -> Result<ForwardedResponse, Failed> {
        let Self {
            answer,
            in_flight,
            wait,
            failed,
        } = self;
        match read(answer) {
            Ok(response) => Ok(ForwardedResponse {
                response: response.map_body(|_, body| body.counted(in_flight)),
                wait,
                failed,
            }),
            Err(failure) => Err(Failed {
                failure,
                attempts: failed,
            }),
        }
    }
}

/// Sends `request` to targets of `upstream` until one answers, within the retry policy. `caller`
/// identifies requests that crash targets; `progress` is that of the request body.
///
/// # Errors
/// Every attempt failed.
pub(super) async fn send_with_retries<R: Retryable>(
    pool: &OriginPool,
    upstream: &Upstream,
    host: HostHeader,
    caller: CallerTag,
    progress: &BodyProgress,
    request: &mut R,
) -> Result<Attempted<R::Output>, Failed> {
    let begun = now().into_std();
    let (mut attempts, mut failed) = (upstream.attempts(), Vec::new());
    loop {
        let Some(chosen) = attempts.choose() else {
            return Err(Failed {
                failure: Failure::Overloaded,
                attempts: failed,
            });
        };
        // The head already names the first target.
        if host == HostHeader::OfTarget && upstream.targets().len() > 1 {
            request.set_host(chosen.url().host());
        }
        let error = match request.send(pool, chosen.url().target()).await {
            Ok(answer) => {
                return Ok(Attempted {
                    answer,
                    in_flight: chosen.answered(),
                    wait: since(begun),
                    failed,
                });
            }
            Err(error) => error,
        };
        let failure = classify(&error, progress);
        count_against_target(&chosen, &error, caller, &failure);
        failed.push(chosen.failed(phase(&error), failure.cause()));
        if !request.is_retryable(&error) || !attempts.may_retry() {
            return Err(Failed {
                failure,
                attempts: failed,
            });
        }
    }
}

/// Counts a failed attempt against its target, if the target is to blame.
fn count_against_target(
    chosen: &Chosen<'_>,
    error: &SendRequestError,
    caller: CallerTag,
    failure: &Failure,
) {
    if !failure.counts_against_target() {
        return;
    }
    if phase(error) == Phase::Connecting {
        chosen.no_connection(&failure.cause());
    } else if let Some(OriginFault::DiedBeforeResponse { reused: false }) = OriginFault::find(error)
    {
        chosen.connection_lost(caller, &failure.cause());
    }
}
