//! [`RateLimit`]: a rate limit as the operator wrote it, and [`Rule`]: the same with its cells.

use std::sync::Arc;
use std::time::Duration;

use crate::limits::memory::{Memory, TableKey};
use crate::limits::meter::{Algorithm, Number};
use crate::limits::subject::By;
use crate::limits::table::Table;

/// A rate limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Name in answers, metrics and logs: lower-case letters, digits and `-`.
    pub name: Arc<str>,
    /// Subjects: a request counts for the combination of all of these.
    pub by: Vec<By>,
    /// What each subject may use.
    pub number: Number,
    /// Window, in whole seconds from one to a day.
    pub window: Duration,
    /// Names of the routes that it holds for; `None` for every route.
    pub routes: Option<Vec<String>>,
    /// Whether it denies. If not, it counts, and reports what it would have denied.
    pub enforce: bool,
    /// Whether gateways that share it never admit too much together, for which a request may wait.
    pub exact: bool,
}

/// A rate limit in force.
#[derive(Debug)]
pub struct Rule {
    /// The limit.
    pub limit: RateLimit,
    pub(super) table: Arc<Table>,
}

impl RateLimit {
    /// Whether it holds for the route `name`, whose own choice among the limits is `chosen`.
    #[must_use]
    pub fn holds_for(&self, name: &str, chosen: Option<&[Arc<str>]>) -> bool {
        let by_limit = self.routes.as_ref();
        let by_limit = by_limit.is_none_or(|routes| routes.iter().any(|route| route == name));
        let is_chosen = !self.by.iter().any(|by| by.is_chosen_by_routes())
            || chosen.is_none_or(|chosen| chosen.contains(&self.name));
        by_limit && is_chosen
    }

    pub(super) fn in_force(self, memory: &Memory) -> Rule {
        let table = memory.table(TableKey {
            name: Arc::clone(&self.name),
            by: self.by.as_slice().into(),
            window: self.window,
            algorithm: match self.number.burst {
                Some(_) => Algorithm::Bucket,
                None => Algorithm::Sliding,
            },
        });
        Rule { limit: self, table }
    }
}
