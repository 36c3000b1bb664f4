//! JSON view of a leak report.

use serde::Serialize;
use utoipa::ToSchema;

use crate::keys::UnixMillis;
use crate::store::{LeakAction, LeakOutcome};
use crate::views::{KeyView, schemas};

/// Result of a leak report.
#[derive(Serialize, ToSchema)]
#[schema(as = LeakOutcome)]
pub struct LeakView<'k> {
    /// Action taken; `unknown` for an unknown key.
    #[schema(schema_with = schemas::leak_action)]
    pub action: &'static str,
    /// The key in its new state; null for an unknown key.
    #[schema(required, inline = false)]
    pub key: Option<KeyView<'k>>,
}

impl<'k> LeakView<'k> {
    /// Action on an unknown key.
    pub const UNKNOWN: &'static str = "unknown";

    /// Builds the view of `outcome` at `now`.
    #[must_use]
    pub fn of(outcome: Option<&'k LeakOutcome>, now: UnixMillis) -> Self {
        Self {
            action: outcome.map_or(Self::UNKNOWN, |outcome| LeakAction::as_str(outcome.action)),
            key: outcome.map(|outcome| KeyView::of(&outcome.key, now)),
        }
    }
}
