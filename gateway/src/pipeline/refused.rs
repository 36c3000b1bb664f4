//! [`Refused`]: why a stage ended a request. The refusal is for the client, the cause for the
//! operator.

use std::borrow::Cow;

use crate::auth::cause::Cause;
use crate::auth::demand::Denial;
use crate::auth::key_sources::Credentials;
use crate::front::client_stream::ClientFault;
use crate::http::refusal::Refusal;
use crate::keys::Prefix;
use crate::panics::Panicked;
use crate::pipeline::open_streams::Withdrawal;
use crate::proxy::body::BodyFault;
use crate::proxy::failure::Failure;
use crate::routes::Route;

/// Error of a stage; ends the request.
#[derive(Debug)]
pub struct Refused {
    /// Response for the client.
    pub refusal: Refusal,
    /// Cause for the operator; `None` where the refusal says enough.
    pub cause: Option<Cow<'static, str>>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            cause: None,
        }
    }
}

impl Refused {
    /// Adds a cause that only the operator sees.
    #[must_use]
    pub fn because(refusal: Refusal, cause: impl Into<Cow<'static, str>>) -> Self {
        Self {
            refusal,
            cause: Some(cause.into()),
        }
    }

    /// Refuses a caller whose credential was denied.
    #[must_use]
    pub fn denied(
        denial: Denial,
        route: &Route,
        credentials: &Credentials<'_>,
        prefix: &Prefix,
    ) -> Self {
        Self::because(
            of_denial(denial, route),
            Cause::of(denial, credentials, prefix).as_str(),
        )
    }

    /// Ends the request of a caller whose admission was withdrawn.
    #[must_use]
    pub fn withdrawn(withdrawal: Withdrawal, route: &Route) -> Self {
        let refusal = match withdrawal {
            Withdrawal::Denied(denial) => of_denial(denial, route),
            Withdrawal::NoRoute => Refusal::NoRoute,
        };
        Self::because(refusal, withdrawal.to_string())
    }

    /// Refuses a request that could not be forwarded; `seen` is the fault in the client's bytes.
    #[must_use]
    pub fn not_forwarded(failure: &Failure, seen: Option<ClientFault>) -> Self {
        let refusal = match failure {
            Failure::ClientBody(BodyFault::TooLarge(limit)) => Refusal::BodyTooLarge(*limit),
            Failure::ClientBody(BodyFault::Broken) => match seen {
                Some(ClientFault::BodyStalled | ClientFault::BodyTooSlow) => Refusal::BodyTimeout,
                _ => Refusal::BodyBroken,
            },
            Failure::Unreachable(_) => Refusal::OriginUnreachable,
            Failure::TimedOut(_) => Refusal::OriginTimeout,
            Failure::BadAnswer(_) => Refusal::OriginBadAnswer,
            Failure::RejectedGateway(_) => Refusal::OriginRejectedGateway,
            Failure::Overloaded | Failure::NoRoomForBody | Failure::OutOfSockets(_) => {
                Refusal::Overloaded
            }
        };
        let cause = match (failure, seen) {
            (Failure::ClientBody(_), Some(fault)) => fault.to_string(),
            _ => failure.cause(),
        };
        Self::because(refusal, cause)
    }

    /// Refuses a request that ran into a fault of this program.
    #[must_use]
    pub fn panicked(panicked: &Panicked) -> Self {
        Self::because(Refusal::Internal, panicked.to_string())
    }
}

fn of_denial(denial: Denial, route: &Route) -> Refusal {
    Refusal::of_denial(denial, &route.demand, &route.auth, &route.key_sources)
}
