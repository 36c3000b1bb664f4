//! Bucket: units are spent at once up to the burst, and come back one by one at the rate of the
//! limit. It admits exactly what GCRA admits, whose one time stamp could not keep its meaning when
//! the rate changes.
//!
//! A cell is the number of spent units (20 bits) and the moment as of which it is exact (44 bits of
//! [`TICKS`], so it is told from others for 1,200 windows).

use std::time::Duration;

use crate::limits::clock::Moment;
use crate::limits::meter::Number;

const SPENT_BITS: u32 = 20;
const SPENT: u64 = (1 << SPENT_BITS) - 1;
const STAMP_BITS: u32 = 44;
const STAMPS: u64 = (1 << STAMP_BITS) - 1;
/// Ticks of a window. Many numbers divide them, so that the time of a unit is mostly a whole number
/// of ticks.
const TICKS: u64 = 720_720 * 20_000;

/// Cell of a bucket as of a moment. Times are in ticks.
#[derive(Clone, Copy, Debug)]
pub(in crate::limits) struct BucketLevel {
    spent: u64,
    stamp: u64,
    /// Time since the stamp: less than one unit takes to come back, unless nothing is spent.
    ahead: u64,
    number: Number,
    /// Length of the window in nanoseconds.
    window: u64,
}

impl BucketLevel {
    /// Reads `cell`; `window` is in nanoseconds.
    pub(super) fn read(cell: u64, number: Number, window: u64, now: Moment) -> Self {
        let (spent, stamp) = (cell >> STAMP_BITS, cell & STAMPS);
        let now = stamp_of(now, window);
        let passed = passed(stamp, now);
        let back = units(passed, number.limit);
        let level = |spent, stamp, ahead| Self {
            spent,
            stamp,
            ahead,
            number,
            window,
        };
        if back >= spent {
            return level(0, now, 0);
        }
        let taking = time(back, number.limit);
        let stamp = stamp.wrapping_add(taking) & STAMPS;
        level(spent - back, stamp, passed.saturating_sub(taking))
    }

    pub(super) fn wait_for(&self, need: u64) -> Option<Duration> {
        let spare = self.number.capacity().checked_sub(need)?;
        let Some(missing) = self.spent.checked_sub(spare).filter(|units| *units > 0) else {
            return Some(Duration::ZERO);
        };
        let wait = time(missing, self.number.limit).saturating_sub(self.ahead);
        let nanos = (u128::from(wait) * u128::from(self.window)).div_ceil(u128::from(TICKS));
        Some(Duration::from_nanos(
            u64::try_from(nanos).unwrap_or(u64::MAX),
        ))
    }

    pub(super) fn used(&self) -> u64 {
        self.spent
    }

    pub(super) fn remaining(&self) -> u64 {
        self.number.capacity().saturating_sub(self.spent)
    }

    pub(super) fn take(&mut self, cost: u64) {
        self.spent = (self.spent + cost).min(SPENT);
    }

    pub(super) fn give_back(&mut self, cost: u64, window: u64, taken: Moment, now: Moment) {
        let passed = passed(stamp_of(taken, window), stamp_of(now, window));
        let expired = units(passed, self.number.limit);
        self.spent = self.spent.saturating_sub(cost.saturating_sub(expired));
    }

    pub(super) fn cell(&self) -> u64 {
        self.spent << STAMP_BITS | self.stamp
    }
}

/// Whether nothing of `cell` is in force. A bucket refills within a window; the second one is for
/// buckets whose limit was lowered.
pub(super) fn is_idle(cell: u64, now: u64) -> bool {
    cell >> STAMP_BITS == 0 || passed(cell & STAMPS, now) >= 2 * TICKS
}

/// Stamp of `now`; `window` is in nanoseconds.
pub(super) fn stamp_of(now: Moment, window: u64) -> u64 {
    let ticks = u128::from(now.0 % window) * u128::from(TICKS) / u128::from(window);
    let ticks = u64::try_from(ticks).unwrap_or_default();
    (now.0 / window).wrapping_mul(TICKS).wrapping_add(ticks) & STAMPS
}

/// Time from `stamp` to `now`; none if another thread read the clock later.
fn passed(stamp: u64, now: u64) -> u64 {
    let passed = now.wrapping_sub(stamp) & STAMPS;
    if passed > STAMPS - TICKS { 0 } else { passed }
}

/// Whole units that come back within `ticks`.
fn units(ticks: u64, limit: u64) -> u64 {
    let units = u128::from(ticks) * u128::from(limit) / u128::from(TICKS);
    u64::try_from(units).unwrap_or(u64::MAX)
}

/// Ticks in which `units` come back, rounded up.
fn time(units: u64, limit: u64) -> u64 {
    let ticks = (u128::from(units) * u128::from(TICKS)).div_ceil(u128::from(limit.max(1)));
    u64::try_from(ticks).unwrap_or(u64::MAX)
}
