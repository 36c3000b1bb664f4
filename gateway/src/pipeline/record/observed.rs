//! [`Observed`]: what would have become of a request on a route that does not observe.

use std::borrow::Cow;

use crate::auth::Proven;
use crate::auth::demand::Denial;

/// A request that would have been refused on a route that does not observe.
#[derive(Debug)]
pub struct Observed {
    /// Why its credential was denied.
    pub denial: Denial,
    /// Code that the refusal would have had.
    pub code: &'static str,
    /// Its cause, for the operator.
    pub cause: Cow<'static, str>,
    /// Holder of the credential, where it is known. It proves nothing here.
    pub proven: Option<Proven>,
    /// Whether the credential is one of ours, which no origin may see. Others may be the origin's.
    pub is_ours: bool,
}
