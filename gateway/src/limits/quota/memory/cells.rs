//! [`Cell`]: the use of one subject in one period; and those of a shard.

use std::collections::HashMap;

use crate::keys::UnixMillis;
use crate::limits::period::Bounds;
use crate::limits::quota::memory::{QuotaCell, QuotaDelta};

/// Cells under one lock.
#[derive(Debug, Default)]
pub(super) struct Shard {
    pub(super) cells: HashMap<u64, Cell>,
    /// Cells with units to write, once each.
    pub(super) dirty: Vec<(u64, QuotaCell)>,
    /// Units of periods that are over.
    pub(super) late: Vec<QuotaDelta>,
    /// Use in periods that have not begun here, by a clock that is ahead.
    pub(super) ahead: HashMap<u64, (Bounds, i64)>,
}

/// Use of one subject in one period. The period never goes back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    pub(super) period: Bounds,
    /// Units in the store at the last look.
    pub(super) stored: i64,
    /// Units in a batch that the store has not confirmed.
    pub(super) sent: i64,
    /// Units since.
    pub(super) unsent: i64,
    pub(super) is_dirty: bool,
    /// Number of [`NOTICES`] that were given.
    pub(super) notices: u8,
}

impl Shard {
    /// The cell of `hash`, rolled over to the `period` of `at` if that is later.
    pub(super) fn current(
        &mut self,
        hash: u64,
        at: UnixMillis,
        period: impl FnOnce() -> Bounds,
    ) -> Cell {
        let known = self.cells.get(&hash).copied();
        if let Some(found) = known
            && found.period.has(at)
        {
            return found;
        }
        let period = period();
        if let Some(found) = known {
            if found.period.start >= period.start {
                return found;
            }
            if found.unsent != 0
                && let Some(at) = self.dirty.iter().position(|(dirty, _)| *dirty == hash)
            {
                let (_, cell) = self.dirty.swap_remove(at);
                self.late.push(QuotaDelta {
                    cell,
                    period: found.period,
                    units: found.unsent,
                });
            }
        }
        let known = self.ahead.get(&hash).copied();
        let stored = match known {
            Some((ahead, units)) if ahead.start == period.start => {
                self.ahead.remove(&hash);
                units
            }
            _ => 0,
        };
        let cell = Cell::new(period, stored);
        self.cells.insert(hash, cell);
        // What was not sent of the last period is late, so its entry is gone.
        self.dirty.retain(|(dirty, _)| *dirty != hash);
        cell
    }

    /// Adds units to a cell that is there.
    pub(super) fn add(&mut self, hash: u64, units: i64, cell: impl FnOnce() -> QuotaCell) {
        let Some(found) = self.cells.get_mut(&hash) else {
            return;
        };
        found.unsent = found.unsent.saturating_add(units);
        if !found.is_dirty {
            found.is_dirty = true;
            self.dirty.push((hash, cell()));
        }
    }
}

impl Cell {
    pub(super) fn new(period: Bounds, stored: i64) -> Self {
        Self {
            period,
            stored,
            sent: 0,
            unsent: 0,
            is_dirty: false,
            notices: 0,
        }
    }

    pub(super) fn used(&self) -> i64 {
        self.stored
            .saturating_add(self.sent)
            .saturating_add(self.unsent)
    }
}
