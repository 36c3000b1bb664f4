//! Sliding counter: the units of this window, and those of the one before by the share of it that
//! the last window's length still covers.
//!
//! A cell is the number of its window (12 bits, so it is told from others for 4,096 windows) and
//! the counts of the window before and of its own (26 bits each).

use std::time::Duration;

use crate::limits::clock::Moment;

/// Largest count; it stands for itself and everything above.
pub(in crate::limits) const MAX_COUNT: u64 = (1 << COUNT_BITS) - 1;
const COUNT_BITS: u32 = 26;
const COUNT: u64 = MAX_COUNT;
const WINDOW_BITS: u32 = 12;
const WINDOWS: u64 = (1 << WINDOW_BITS) - 1;

/// Cell of a sliding counter as of a moment. Times are in microseconds.
#[derive(Clone, Copy, Debug)]
pub(in crate::limits) struct SlidingLevel {
    /// Number of the window since the Unix epoch.
    id: u64,
    previous: u64,
    current: u64,
    limit: u64,
    window: u64,
    /// Rest of the window.
    left: u64,
    /// Counts of the other gateways, of the window before and of this one.
    others: (u64, u64),
    /// Most of the limit that this gateway may use.
    part: u64,
}

/// Counts of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::limits) struct Counts {
    /// Number of the window since the Unix epoch.
    pub(in crate::limits) window: u64,
    /// Units of the window before.
    pub(in crate::limits) previous: u64,
    /// Units of the window.
    pub(in crate::limits) current: u64,
}

impl SlidingLevel {
    /// Reads `cell`; `window` is in nanoseconds.
    pub(super) fn read(cell: u64, limit: u64, window: u64, now: Moment) -> Self {
        let (id, elapsed) = (window_of(now, window), now.0 % window);
        let (micros, left) = (window / 1000, window / 1000 - elapsed / 1000);
        let mut level = Self {
            id,
            previous: (cell >> COUNT_BITS) & COUNT,
            current: cell & COUNT,
            limit,
            window: micros,
            left,
            others: (0, 0),
            part: limit,
        };
        match age(cell, id) {
            0 => {}
            1 => (level.previous, level.current) = (level.current, 0),
            // Another thread read the clock later and is in the next window already.
            WINDOWS => (level.id, level.left) = (id + 1, micros),
            _ => (level.previous, level.current) = (0, 0),
        }
        level
    }

    /// Counts `others` too, the units of other gateways.
    pub(super) fn share(&mut self, others: (u64, u64)) {
        self.others = others;
    }

    /// Of the limit, this gateway may use `part`.
    pub(super) fn allow(&mut self, part: u64) {
        self.part = part.min(self.limit);
    }

    /// Counts `all`, the units of all gateways, where they are more than those of this one.
    pub(super) fn share_all(&mut self, (previous, current): (u64, u64)) {
        self.others = (
            previous.saturating_sub(self.previous),
            current.saturating_sub(self.current),
        );
    }

    /// Units in use, of all gateways.
    pub(super) fn used(&self) -> u64 {
        self.used_of(self.all())
    }

    fn used_of(&self, (previous, current): (u64, u64)) -> u64 {
        (previous * self.left).div_ceil(self.window) + current
    }

    /// What this gateway used.
    fn own(&self) -> (u64, u64) {
        (self.previous, self.current)
    }

    /// What all gateways used. Larger counts than a cell has say no more.
    fn all(&self) -> (u64, u64) {
        let (previous, current) = self.others;
        let sum = |own: u64, others: u64| own.saturating_add(others).min(MAX_COUNT);
        (sum(self.previous, previous), sum(self.current, current))
    }

    pub(super) fn wait_for(&self, need: u64) -> Option<Duration> {
        let wait = self.wait_by(self.limit, self.all(), need)?;
        if self.part == self.limit {
            return Some(wait);
        }
        Some(wait.max(self.wait_by(self.part, self.own(), need)?))
    }

    /// Time until `need` units of `limit` are free besides `counts`.
    fn wait_by(&self, limit: u64, counts: (u64, u64), need: u64) -> Option<Duration> {
        let spare = limit.checked_sub(need)?;
        if self.used_of(counts) <= spare {
            return Some(Duration::ZERO);
        }
        // The longest rest of a window in which so many of its predecessor may still count.
        let rest = |room: u64, predecessor: u64| room * self.window / predecessor;
        let (previous, current) = counts;
        let wait = match spare.checked_sub(current) {
            Some(room) => self.left - rest(room, previous),
            None => self.left + self.window - rest(spare, current),
        };
        Some(Duration::from_micros(wait))
    }

    pub(super) fn remaining(&self) -> u64 {
        let of_all = self.limit.saturating_sub(self.used());
        of_all.min(self.part.saturating_sub(self.used_of(self.own())))
    }

    /// Number of the window, and own units of it.
    pub(super) fn present(&self) -> (u64, u64) {
        (self.id, self.current)
    }

    pub(super) fn take(&mut self, cost: u64) {
        self.current = (self.current + cost).min(COUNT);
    }

    pub(super) fn give_back(&mut self, cost: u64, window: u64, taken: Moment) {
        match self.id.wrapping_sub(taken.0 / window) & WINDOWS {
            0 => self.current = self.current.saturating_sub(cost),
            1 => self.previous = self.previous.saturating_sub(cost),
            _ => {}
        }
    }

    pub(super) fn cell(&self) -> u64 {
        (self.id & WINDOWS) << (2 * COUNT_BITS) | self.previous << COUNT_BITS | self.current
    }
}

/// The counts of `cell`; `window` is in nanoseconds.
pub(super) fn counts(cell: u64, window: u64, now: Moment) -> Counts {
    let level = SlidingLevel::read(cell, MAX_COUNT, window, now);
    Counts {
        window: level.id,
        previous: level.previous,
        current: level.current,
    }
}

/// Whether nothing of `cell` is in force in the window `id`.
pub(super) fn is_idle(cell: u64, id: u64) -> bool {
    let is_empty = cell << WINDOW_BITS == 0;
    is_empty || !matches!(age(cell, id), 0 | 1 | WINDOWS)
}

/// Number of the window that `now` is in; `window` is in nanoseconds.
pub(super) fn window_of(now: Moment, window: u64) -> u64 {
    now.0 / window
}

fn cell_window(cell: u64) -> u64 {
    cell >> (2 * COUNT_BITS)
}

/// Number of windows since that of `cell`; the largest means that it is one ahead.
fn age(cell: u64, id: u64) -> u64 {
    id.wrapping_sub(cell_window(cell)) & WINDOWS
}
