//! [`PlanCell`]: a plan in the table. Every consumer of a plan shares its cell, so that a change of
//! the plan touches no consumer.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::keys::table::seen::SeenMark;
use crate::keys::{Plan, PlanName};

/// A plan by name; empty while the store has no such plan, or an unreadable one.
#[derive(Debug)]
pub(super) struct PlanCell {
    name: PlanName,
    current: ArcSwapOption<Plan>,
    seen: SeenMark,
}

/// The plans of a table. Only writers use it, one at a time.
#[derive(Debug, Default)]
pub(super) struct Plans(HashMap<PlanName, Arc<PlanCell>>);

impl PlanCell {
    pub(super) fn name(&self) -> &PlanName {
        &self.name
    }

    /// Returns the plan, if there is one.
    pub(super) fn plan(&self) -> Option<Arc<Plan>> {
        self.current.load_full()
    }
}

/// Cells of one name are one cell.
impl PartialEq for PlanCell {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for PlanCell {}

impl Plans {
    /// Returns the cell of this name.
    pub(super) fn cell(&mut self, name: PlanName) -> Arc<PlanCell> {
        let cell = self.0.entry(name).or_insert_with_key(|name| {
            Arc::new(PlanCell {
                name: name.clone(),
                current: ArcSwapOption::empty(),
                seen: SeenMark::default(),
            })
        });
        Arc::clone(cell)
    }

    /// Puts a plan in force, for all its consumers at once.
    pub(super) fn put(&mut self, plan: Plan) {
        let cell = self.cell(plan.name.clone());
        cell.seen.set(true);
        if cell.plan().as_deref() != Some(&plan) {
            cell.current.store(Some(Arc::new(plan)));
        }
    }

    /// Removes a plan. Keys of consumers that still refer to it are unknown until it is there
    /// again.
    pub(super) fn remove(&mut self, name: &PlanName) {
        if let Some(cell) = self.0.get(name) {
            cell.current.store(None);
        }
        self.forget_unused();
    }

    /// Clears every seen mark.
    pub(super) fn begin_load(&self) {
        self.0.values().for_each(|cell| cell.seen.set(false));
    }

    /// Removes the plans that the load did not mention.
    pub(super) fn finish_load(&mut self) {
        for cell in self.0.values().filter(|cell| !cell.seen.is_set()) {
            cell.current.store(None);
        }
        self.forget_unused();
    }

    /// Returns every plan.
    pub(super) fn all(&self) -> Vec<Arc<Plan>> {
        self.0.values().filter_map(|cell| cell.plan()).collect()
    }

    /// Drops empty cells that no consumer refers to.
    fn forget_unused(&mut self) {
        self.0
            .retain(|_, cell| Arc::strong_count(cell) > 1 || cell.plan().is_some());
    }
}
