//! What is seen of a report of a leaked key.

use serde::Serialize;
use utoipa::ToSchema;

use crate::keys::UnixMillis;
use crate::store::{LeakAction, LeakOutcome};
use crate::views::{KeyView, schemas};

/// What became of a reported key.
#[derive(Serialize, ToSchema)]
#[schema(as = LeakOutcome)]
pub struct LeakView<'k> {
    /// What was done; `unknown` where no key is like it.
    #[schema(schema_with = schemas::leak_action)]
    pub action: &'static str,
    /// The key as it is now; null where none is like it.
    #[schema(required, inline = false)]
    pub key: Option<KeyView<'k>>,
}

impl<'k> LeakView<'k> {
    /// What an unknown key comes to.
    pub const UNKNOWN: &'static str = "unknown";

    /// What is seen of `outcome` at `now`.
    #[must_use]
    pub fn of(outcome: Option<&'k LeakOutcome>, now: UnixMillis) -> Self {
        Self {
            action: outcome.map_or(Self::UNKNOWN, |outcome| LeakAction::as_str(outcome.action)),
            key: outcome.map(|outcome| KeyView::of(&outcome.key, now)),
        }
    }
}
