//! Failures to get an origin's response: the meaning of an error for the client, the operator and
//! the target.

use std::fmt;

use awc::error::{ConnectError, SendRequestError};

use crate::proxy::body::{BodyFault, BodyProgress};
use crate::proxy::origin_stream::OriginFault;
use crate::proxy::upstream::attempts::{FailedAttempt, Phase};

/// Reason for having no response. [`Failure::cause`] is for the operator, never for the client.
#[derive(Debug)]
pub enum Failure {
    /// The client's body is incomplete.
    ClientBody(BodyFault),
    /// No connection, or a connection lost before the response.
    Unreachable(String),
    /// Timeout while connecting or waiting for the response.
    TimedOut(String),
    /// A response that cannot be passed on.
    BadAnswer(String),
    /// The origin's guard refused our secret, for the reason in its mark.
    RejectedGateway(&'static str),
    /// Every usable target is at its in-flight limit.
    Overloaded,
    /// Bodies that are buffered take all the memory for them.
    NoRoomForBody,
    /// The system has no socket or file descriptor left for a connection.
    OutOfSockets(String),
}

impl Failure {
    /// Cause for the log.
    #[must_use]
    pub fn cause(&self) -> String {
        match self {
            Self::ClientBody(fault) => fault.to_string(),
            Self::Unreachable(cause)
            | Self::TimedOut(cause)
            | Self::BadAnswer(cause)
            | Self::OutOfSockets(cause) => cause.clone(),
            Self::Overloaded => "every target is at its limit of requests in flight".to_owned(),
            Self::NoRoomForBody => {
                "buffered bodies take all of listen.max_buffered_bytes".to_owned()
            }
            Self::RejectedGateway(mark) => {
                format!(
                    "the origin's guard answered {mark}: do gateway and origin have the same secret, SHARED_SECRET or that of the upstream?"
                )
            }
        }
    }

    /// Whether the failure counts against the target.
    #[must_use]
    pub fn counts_against_target(&self) -> bool {
        !matches!(
            self,
            Self::ClientBody(_) | Self::Overloaded | Self::NoRoomForBody | Self::OutOfSockets(_)
        )
    }
}

/// Failure of a request, with the attempts before it.
#[derive(Debug)]
pub struct Failed {
    /// Reason.
    pub failure: Failure,
    /// Attempts, in order.
    pub attempts: Vec<FailedAttempt>,
}

impl Failed {
    /// Whether no origin worked for the request, as far as the gateway can tell.
    #[must_use]
    pub fn is_no_work_of_the_origin(&self) -> bool {
        match self.failure {
            Failure::Unreachable(_)
            | Failure::RejectedGateway(_)
            | Failure::Overloaded
            | Failure::NoRoomForBody
            | Failure::OutOfSockets(_) => true,
            Failure::TimedOut(_) => {
                let mut attempts = self.attempts.iter();
                !self.attempts.is_empty() && attempts.all(FailedAttempt::did_not_connect)
            }
            Failure::ClientBody(_) | Failure::BadAnswer(_) => false,
        }
    }
}

/// Phase in which an attempt failed with this error.
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

/// Classifies an error.
pub(super) fn classify(error: &SendRequestError, progress: &BodyProgress) -> Failure {
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

/// Displays an error with its causes.
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
