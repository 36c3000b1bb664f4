//! [`Shape`]: what a route changes of its requests and answers on their way. Most routes change
//! nothing, and have none.

use crate::proxy::header_edits::HeaderEdits;

/// Changes to requests and answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// Edits of the headers that reach the origin.
    pub request_headers: HeaderEdits,
    /// Edits of the headers of the origin's answer.
    pub response_headers: HeaderEdits,
}

impl Shape {
    /// This shape, unless it changes nothing.
    #[must_use]
    pub fn unless_empty(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}
