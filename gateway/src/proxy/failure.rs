//! Why there is no answer of an origin: what an error means for the client, for the operator, and for the target.

use std::fmt;

use awc::error::{ConnectError, SendRequestError};

use crate::proxy::body::{BodyFault, BodyProgress};
use crate::proxy::origin_stream::OriginFault;
use crate::proxy::upstream::attempts::{FailedAttempt, Phase};

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
