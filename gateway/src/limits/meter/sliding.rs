//! Sliding counter: the units of this window, and those of the one before by the share of it that
//! the last window's length still covers.
//!
//! A cell is the number of its window (12 bits, so it is told from others for 4,096 windows) and
//! the counts of the window before and of its own (26 bits each).

use std::time::Duration;

use crate::limits::clock::Moment;

const COUNT_BITS: u32 = 26;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
const WINDOW_BITS: u32 = 12;
const WINDOWS: u64 = (1 << WINDOW_BITS) - 1;

/// Cell of a sliding counter as of a moment. Times are in microseconds.
#[derive(Clone, Copy, Debug)]
pub(in crate::limits) struct SlidingLevel {
    id: u64,
    previous: u64,
    current: u64,
    limit: u64,
    window: u64,
    /// Rest of the window.
    left: u64,
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
        };
        match age(cell, id) {
            0 => {}
            1 => (level.previous, level.current) = (level.current, 0),
            // Another thread read the clock later and is in the next window already.
            WINDOWS => (level.id, level.left) = (cell_window(cell), micros),
            _ => (level.previous, level.current) = (0, 0),
        }
        level
    }

    pub(super) fn used(&self) -> u64 {
        (self.previous * self.left).div_ceil(self.window) + self.current
    }

    pub(super) fn wait_for(&self, need: u64) -> Option<Duration> {
        let spare = self.limit.checked_sub(need)?;
        if self.used() <= spare {
            return Some(Duration::ZERO);
        }
        // The longest rest of a window in which so many of its predecessor may still count.
        let rest = |room: u64, predecessor: u64| room * self.window / predecessor;
        let wait = match spare.checked_sub(self.current) {
            Some(room) => self.left - rest(room, self.previous),
            None => self.left + self.window - rest(spare, self.current),
        };
        Some(Duration::from_micros(wait))
    }

    pub(super) fn remaining(&self) -> u64 {
        self.limit.saturating_sub(self.used())
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
        self.id << (2 * COUNT_BITS) | self.previous << COUNT_BITS | self.current
    }
}

/// Whether nothing of `cell` is in force in the window `id`.
pub(super) fn is_idle(cell: u64, id: u64) -> bool {
    let is_empty = cell << WINDOW_BITS == 0;
    is_empty || !matches!(age(cell, id), 0 | 1 | WINDOWS)
}

/// Number of the window that `now` is in; `window` is in nanoseconds.
pub(super) fn window_of(now: Moment, window: u64) -> u64 {
    (now.0 / window) & WINDOWS
}

fn cell_window(cell: u64) -> u64 {
    cell >> (2 * COUNT_BITS)
}

/// Number of windows since that of `cell`; the largest means that it is one ahead.
fn age(cell: u64, id: u64) -> u64 {
    id.wrapping_sub(cell_window(cell)) & WINDOWS
}
