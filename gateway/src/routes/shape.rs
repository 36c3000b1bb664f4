//! [`Shape`]: what a route changes of its requests and answers on their way. Most routes change
//! nothing, and have none.

use std::time::Duration;

use crate::proxy::header_edits::HeaderEdits;
use crate::proxy::origin_stream::OriginLimits;

/// Changes to requests and answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// Edits of the headers that reach the origin.
    pub request_headers: HeaderEdits,
    /// Edits of the headers of the origin's answer.
    pub response_headers: HeaderEdits,
    /// Timeout of the response head after the request was sent, if the route has its own.
    pub first_byte_timeout: Option<Duration>,
    /// Longest pause within a response body, likewise.
    pub idle_timeout: Option<Duration>,
    /// Maximum bytes of a request body, likewise.
    pub max_body_bytes: Option<u64>,
    /// Maximum bytes of a request body of unknown length, which is buffered, if the route buffers.
    pub buffered_bytes: Option<u64>,
}

impl Shape {
    /// This shape, unless it changes nothing.
    #[must_use]
    pub fn unless_empty(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }

    /// Limits of exchanges with the origin where they differ from `usual`.
    #[must_use]
    pub fn limits(&self, usual: OriginLimits) -> Option<Box<OriginLimits>> {
        if self.first_byte_timeout.is_none() && self.idle_timeout.is_none() {
            return None;
        }
        Some(Box::new(OriginLimits {
            first_byte_timeout: self.first_byte_timeout.unwrap_or(usual.first_byte_timeout),
            idle_timeout: self.idle_timeout.unwrap_or(usual.idle_timeout),
            ..usual
        }))
    }
}
