//! [`Refused`]: why a request ends at a stage. The client is told the refusal, and the operator the cause besides.

use std::borrow::Cow;

use actix_http::header::HeaderMap;

use crate::auth::cause::Cause;
use crate::auth::demand::{Demand, Denial};
use crate::front::client_stream::ClientFault;
use crate::http::refusal::Refusal;
use crate::keys::Prefix;
use crate::panics::Panicked;
use crate::proxy::body::BodyFault;
use crate::proxy::failure::Failure;

/// What a stage returns that ends a request.
#[derive(Debug)]
pub struct Refused {
    /// What the client is told.
    pub refusal: Refusal,
    /// What the operator is told; what the client is told where there is nothing to add.
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
    /// With a cause for the operator alone.
    #[must_use]
    pub fn because(refusal: Refusal, cause: impl Into<Cow<'static, str>>) -> Self {
        Self {
            refusal,
            cause: Some(cause.into()),
        }
    }

    /// A caller that is not let in, whose credential stands in `headers`.
    #[must_use]
    pub fn denied(denial: Denial, demand: &Demand, headers: &HeaderMap, prefix: &Prefix) -> Self {
        Self::because(
            Refusal::of_denial(denial, demand),
            Cause::of(denial, headers, prefix).as_str(),
        )
    }

    /// A caller that was let in, and may not go on.
    #[must_use]
    pub fn withdrawn(denial: Denial, demand: &Demand) -> Self {
        Self::because(Refusal::of_denial(denial, demand), denial.to_string())
    }

    /// A request that could not be forwarded; `seen` is what is wrong with the client's bytes.
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
            Failure::Overloaded | Failure::OutOfSockets(_) => Refusal::Overloaded,
        };
        let cause = match (failure, seen) {
            (Failure::ClientBody(_), Some(fault)) => fault.to_string(),
            _ => failure.cause(),
        };
        Self::because(refusal, cause)
    }

    /// A request that met a fault of this program.
    #[must_use]
    pub fn panicked(panicked: &Panicked) -> Self {
        Self::because(Refusal::Internal, panicked.to_string())
    }
}
