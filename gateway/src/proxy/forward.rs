//! One request to the origin and its answer: sent, retried where that is safe, and judged.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use actix_http::body::{self, BodySize, MessageBody};
use actix_http::header::{self, HeaderValue};
use actix_http::{
    ConnectionType, Method, Payload, RequestHead, RequestHeadType, Response, ResponseHead,
};
use awc::error::{ConnectError, SendRequestError};

use crate::auth::CallerTag;
use crate::proxy::answer::{Follows, answer};
use crate::proxy::body::{BodyFault, BodyProgress, OriginBody, RequestBody};
use crate::proxy::origin_stream::OriginFault;
use crate::proxy::pool::{OriginPool, OriginTarget, Outgoing};
use crate::proxy::upstream::Upstream;
use crate::proxy::upstream::attempts::{Chosen, FailedAttempt, Phase};
use crate::wire::clock::{now, since};

/// The origin's answer, ready for the client once its headers were looked through.
pub struct Answer {
    /// The response.
    pub response: Response<OriginBody>,
    /// From sending the request to the head of the answer.
    pub wait: Duration,
    /// The attempts before it.
    pub failed: Vec<FailedAttempt>,
}

/// Why there is no answer. [`Failure::cause`] is for the operator, never for the client.
#[derive(Debug)]
pub enum Failure {
    /// The client's body did not reach its end.
    ClientBody(BodyFault),
    /// No connection, or it broke before an answer.
    Unreachable(String),
    /// Connecting, or the answer, took too long.
    TimedOut(String),
    /// An answer that cannot be passed on.
    BadAnswer(String),
    /// The origin's guard did not accept our secret; its mark says why.
    RejectedGateway(&'static str),
    /// Every target that could take the request has as many in flight as it may.
    Overloaded,
    /// The system has nothing left for another connection.
    OutOfSockets(String),
}

impl Failure {
    /// What happened, for the log.
    #[must_use]
    pub fn cause(&self) -> String {
        match self {
            Self::ClientBody(fault) => fault.to_string(),
            Self::Unreachable(cause)
            | Self::TimedOut(cause)
            | Self::BadAnswer(cause)
            | Self::OutOfSockets(cause) => cause.clone(),
            Self::Overloaded => "every target has as many requests in flight as it may".to_owned(),
            Self::RejectedGateway(mark) => {
                format!(
                    "the origin's guard answered {mark}: do gateway and origin have the same SHARED_SECRET?"
                )
            }
        }
    }

    /// Whether it can be held against the target that was tried.
    #[must_use]
    pub fn is_the_targets(&self) -> bool {
        !matches!(
            self,
            Self::ClientBody(_) | Self::Overloaded | Self::OutOfSockets(_)
        )
    }
}

/// Why there is no answer, and what was tried for one.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub failure: Failure,
    /// Every attempt, in order.
    pub attempts: Vec<FailedAttempt>,
}

/// Which `Host` the targets of an upstream are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostHeader {
    /// The target's own.
    OfTarget,
    /// The one that is in the head.
    Kept,
}

/// Sends `head` and `body` to a target of `upstream` and waits for the head of the answer.
///
/// It goes to another target when nothing was sent, or when its method is idempotent, it has no body, and the connection
/// died before the first byte of an answer (RFC 9110, section 9.2.2); as often as the upstream's policy allows. When the
/// connection was a reused one, such a request is first repeated on a new one, which costs no retry (RFC 9112, section
/// 9.3.1).
///
/// The answer may be there before the body was sent to its end; the rest goes out while the answer's body is read.
///
/// Dropping the future drops the connection to the origin. `caller` is whose request it is, should targets die over it.
///
/// # Errors
/// Why there is no answer to pass on.
pub async fn forward(
    pool: &OriginPool,
    upstream: &Upstream,
    host: HostHeader,
    caller: CallerTag,
    head: RequestHead,
    body: RequestBody,
) -> Result<Answer, Failed> {
    let head_only = head.method == Method::HEAD;
    let progress = body.progress();
    let begun = now().into_std();
    let has_no_body = matches!(
        MessageBody::size(&body),
        BodySize::None | BodySize::Sized(0)
    );
    let mut request = if has_no_body && is_idempotent(&head.method) {
        Sendable::Again(Rc::new(head))
    } else {
        Sendable::Once(Some(Outgoing {
            head: RequestHeadType::from(head),
            body: body.boxed(),
        }))
    };
    let (mut attempts, mut failed) = (upstream.attempts(), Vec::new());
    loop {
        let Some(chosen) = attempts.choose() else {
            return Err(Failed {
                failure: Failure::Overloaded,
                attempts: failed,
            });
        };
        if host == HostHeader::OfTarget && upstream.targets().len() > 1 {
            request.set_host(chosen.url().host());
        }
        let error = match request.send(pool, chosen.url().target()).await {
            Ok((head, payload)) => {
                let in_flight = chosen.answered();
                let answered = answer(head, Follows::Body { payload, head_only });
                return match answered {
                    Ok(response) => {
                        let mut response = response.map_body(|_, body| body.counted(in_flight));
                        // The client may stop sending once it has its answer, or go on for ever: nothing can follow.
                        if !progress.ended() {
                            response
                                .head_mut()
                                .set_connection_type(ConnectionType::Close);
                        }
                        Ok(Answer {
                            response,
                            wait: since(begun),
                            failed,
                        })
                    }
                    Err(failure) => Err(Failed {
                        failure,
                        attempts: failed,
                    }),
                };
            }
            Err(error) => error,
        };
        let (failure, phase) = (judge(&error, &progress), phase(&error));
        let died = matches!(
            OriginFault::find(&error),
            Some(OriginFault::DiedBeforeResponse { .. })
        );
        hold_against(&chosen, &error, caller, &failure);
        failed.push(chosen.failed(phase, failure.cause()));
        let may_repeat = match &request {
            Sendable::Again(_) => phase == Phase::Connecting || died,
            Sendable::Once(outgoing) => outgoing.is_some() && phase == Phase::Connecting,
        };
        if !may_repeat || !attempts.may_go_on() {
            return Err(Failed {
                failure,
                attempts: failed,
            });
        }
    }
}

/// A request and how often it may be sent.
#[expect(
    clippy::large_enum_variant,
    reason = "one a request, on its way in place: a box would cost an allocation"
)]
enum Sendable {
    /// As often as need be.
    Again(Rc<RequestHead>),
    /// Once; it is there for as long as it was not.
    Once(Option<Outgoing>),
}

impl Sendable {
    fn set_host(&mut self, host: &HeaderValue) {
        match self {
            Self::Again(head) => drop(
                Rc::make_mut(head)
                    .headers
                    .insert(header::HOST, host.clone()),
            ),
            Self::Once(Some(Outgoing {
                head: RequestHeadType::Owned(head),
                ..
            })) => {
                drop(head.headers.insert(header::HOST, host.clone()));
            }
            Self::Once(_) => {}
        }
    }

    async fn send(
        &mut self,
        pool: &OriginPool,
        target: &OriginTarget,
    ) -> Result<(ResponseHead, Payload), SendRequestError> {
        match self {
            Self::Once(outgoing) => pool.try_send(target, outgoing).await,
            Self::Again(head) => {
                let head = || RequestHeadType::Rc(Rc::clone(head), None);
                let answer = pool.send(target, head(), body::None::new()).await;
                let was_stale = |error: &SendRequestError| {
                    matches!(
                        OriginFault::find(error),
                        Some(OriginFault::DiedBeforeResponse { reused: true })
                    )
                };
                if answer.as_ref().is_err_and(was_stale) {
                    // In a box: few requests are repeated, and all have room for this.
                    return Box::pin(pool.send_fresh(target, head(), body::None::new())).await;
                }
                answer
            }
        }
    }
}

/// Holds an attempt that failed against its target, as far as it says something of the target.
pub(super) fn hold_against(
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

/// How far an attempt came that ended with this error.
pub(super) fn phase(error: &SendRequestError) -> Phase {
    match OriginFault::find(error) {
        Some(fault) if fault.nothing_sent() => Phase::Connecting,
        Some(OriginFault::WriteTimeout | OriginFault::BrokenRequest { .. }) => Phase::Sending,
        Some(OriginFault::DiedBeforeResponse { .. } | OriginFault::FirstByteTimeout) => {
            Phase::Waiting
        }
        Some(_) => Phase::Answering,
        None => match error {
            SendRequestError::Connect(_) => Phase::Connecting,
            SendRequestError::Send(_) | SendRequestError::Body(_) => Phase::Sending,
            _ => Phase::Waiting,
        },
    }
}

fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
    )
}

/// What an error means.
pub(super) fn judge(error: &SendRequestError, progress: &BodyProgress) -> Failure {
    if let Some(fault) = progress.fault() {
        return Failure::ClientBody(fault);
    }
    if let Some(fault) = OriginFault::find(error) {
        let cause = fault.to_string();
        return match fault {
            fault if fault.is_timeout() => Failure::TimedOut(cause),
            OriginFault::OutOfSockets { .. } => Failure::OutOfSockets(cause),
            fault if fault.nothing_sent() => Failure::Unreachable(cause),
            OriginFault::DiedBeforeResponse { .. } | OriginFault::TlsRefused { .. } => {
                Failure::Unreachable(cause)
            }
            _ => Failure::BadAnswer(cause),
        };
    }
    match error {
        SendRequestError::Connect(ConnectError::Timeout) | SendRequestError::Timeout => {
            Failure::TimedOut(Chain(error).to_string())
        }
        SendRequestError::Response(_) => Failure::BadAnswer(Chain(error).to_string()),
        _ => Failure::Unreachable(Chain(error).to_string()),
    }
}

/// An error with what caused it.
struct Chain<'a>(&'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            write!(f, ": {error}")?;
            next = error.source();
        }
        Ok(())
    }
}
