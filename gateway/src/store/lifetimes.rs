//! Lifetimes of keys, of buckets and of plans.

use crate::keys::Lifetime;
use crate::store::StoreError;

/// Refuses a default lifetime above the longest.
pub(super) fn require_order(
    default: Option<Lifetime>,
    longest: Option<Lifetime>,
) -> Result<(), StoreError> {
    match (default, longest) {
        (Some(default), Some(longest)) if default > longest => Err(StoreError::DefaultAboveLongest),
        _ => Ok(()),
    }
}
