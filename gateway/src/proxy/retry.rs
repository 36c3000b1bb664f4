//! One request over the targets of its upstream, one after the other: a target is chosen, told, judged by what it does, and
//! another one is tried where that is safe.

use std::time::{Duration, Instant};

use actix_http::Response;
use actix_http::header::HeaderValue;
use awc::error::SendRequestError;

use crate::auth::CallerTag;
use crate::proxy::body::{BodyProgress, OriginBody};
use crate::proxy::failure::{Failed, Failure, judge, phase};
use crate::proxy::origin_stream::OriginFault;
use crate::proxy::pool::{OriginPool, OriginTarget};
use crate::proxy::upstream::attempts::{Chosen, FailedAttempt, Phase};
use crate::proxy::upstream::{InFlight, Upstream};

/// Which `Host` the targets of an upstream are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostHeader {
    /// The target's own.
    OfTarget,
    /// The one that is in the head.
    Kept,
}

/// The origin's answer, ready for the client once its headers were looked through.
pub struct Answer {
    /// The response.
    pub response: Response<OriginBody>,
    /// From sending the request to the head of the answer.
    pub wait: Duration,
    /// The attempts before it.
    pub failed: Vec<FailedAttempt>,
}

/// A request that may have to be sent more than once.
pub(super) trait Resend {
    /// What comes back.
    type Answer;

    /// Names the target that comes next in `Host`.
    fn set_host(&mut self, host: &HeaderValue);

    /// Sends it to a target.
    async fn send(
        &mut self,
        pool: &OriginPool,
        target: &OriginTarget,
    ) -> Result<Self::Answer, SendRequestError>;

    /// Whether it may be sent again after this error.
    fn may_repeat(&self, error: &SendRequestError) -> bool;
}

/// What came back, and how.
pub(super) struct Answered<T> {
    /// What came back.
    pub(super) answer: T,
    /// The request's place at its target; goes with the body.
    pub(super) in_flight: Option<InFlight>,
    /// From sending the request to the head of the answer.
    pub(super) wait: Duration,
    /// The attempts before.
    pub(super) failed: Vec<FailedAttempt>,
}

impl<T> Answered<T> {
    /// What the client is given, as `read` reads what came back.
    pub(super) fn pass_on(
        self,
        read: impl FnOnce(T) -> Result<Response<OriginBody>, Failure>,
    ) -> Result<Answer, Failed> {
        let Self {
            answer,
            in_flight,
            wait,
            failed,
        } = self;
        match read(answer) {
            Ok(response) => Ok(Answer {
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

/// Sends `request` to targets of `upstream` until one answers, as often as its policy allows. `caller` is whose request it is,
/// should targets die over it, and `progress` says how far its body came.
///
/// # Errors
/// None answered.
pub(super) async fn send_to_one_of<R: Resend>(
    pool: &OriginPool,
    upstream: &Upstream,
    host: HostHeader,
    caller: CallerTag,
    progress: &BodyProgress,
    request: &mut R,
) -> Result<Answered<R::Answer>, Failed> {
    let begun = Instant::now();
    let (mut attempts, mut failed) = (upstream.attempts(), Vec::new());
    loop {
        let Some(chosen) = attempts.choose() else {
            return Err(Failed {
                failure: Failure::Overloaded,
                attempts: failed,
            });
        };
        // The head names the first one already.
        if host == HostHeader::OfTarget && upstream.targets().len() > 1 {
            request.set_host(chosen.url().host());
        }
        let error = match request.send(pool, chosen.url().target()).await {
            Ok(answer) => {
                return Ok(Answered {
                    answer,
                    in_flight: chosen.answered(),
                    wait: begun.elapsed(),
                    failed,
                });
            }
            Err(error) => error,
        };
        let failure = judge(&error, progress);
        hold_against(&chosen, &error, caller, &failure);
        failed.push(chosen.failed(phase(&error), failure.cause()));
        if !request.may_repeat(&error) || !attempts.may_go_on() {
            return Err(Failed {
                failure,
                attempts: failed,
            });
        }
    }
}

/// Holds an attempt that failed against its target, as far as it says something of the target.
fn hold_against(
    chosen: &Chosen<'_>,
    error: &SendRequestError,
    caller: CallerTag,
    failure: &Failure,
) {
    if !failure.is_the_targets() {
        return;
    }
    if phase(error) == Phase::Connecting {
        chosen.no_connection(&failure.cause());
    } else if let Some(OriginFault::DiedBeforeResponse { reused: false }) = OriginFault::find(error)
    {
        chosen.died(caller, &failure.cause());
    }
}
