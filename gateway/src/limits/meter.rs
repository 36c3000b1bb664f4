//! How a cell of eight bytes counts: a sliding counter, or a bucket that refills.
//!
//! A cell is 0 before its first request. Every rounding is to the disadvantage of the caller: it
//! denies at most one request too many and admits none.

pub(super) mod bucket;
pub(super) mod sliding;

use std::time::Duration;

use crate::keys::allowance::MAX_RATE;
use crate::limits::clock::{Moment, nanos};
use crate::limits::meter::bucket::BucketLevel;
use crate::limits::meter::sliding::SlidingLevel;

/// Largest number of a limit: counts have 26 bits of a cell.
pub const MAX_NUMBER: u64 = MAX_RATE;
/// Largest burst: it has 20 bits of a cell.
pub const MAX_BURST: u64 = 1_000_000;

/// Algorithm of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Algorithm {
    /// Counts per window; the previous window counts by the share that the sliding one still
    /// covers.
    Sliding,
    /// Bucket that holds a burst and refills at the rate of the limit.
    Bucket,
}

/// What a limit allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    /// Units per window, from 1 to [`MAX_NUMBER`].
    pub limit: u64,
    /// Units at once, of a bucket; at most the limit, and at most [`MAX_BURST`].
    pub burst: Option<u64>,
}

impl Number {
    /// Most units that can be used at once.
    #[must_use]
    pub fn capacity(self) -> u64 {
        self.burst.map_or(self.limit, |burst| burst.min(self.limit))
    }
}

/// Reads the cells of one limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter {
    algorithm: Algorithm,
    /// Length of the window in nanoseconds.
    window: u64,
}

/// What a cell says at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) enum Level {
    Sliding(SlidingLevel),
    Bucket(BucketLevel),
}

impl Meter {
    pub(super) fn new(algorithm: Algorithm, window: Duration) -> Self {
        Self {
            algorithm,
            window: nanos(window).max(1),
        }
    }

    /// Reads `cell` at `now` by the limit `number`.
    pub(super) fn read(&self, cell: u64, number: Number, now: Moment) -> Level {
        match self.algorithm {
            Algorithm::Sliding => {
                Level::Sliding(SlidingLevel::read(cell, number.limit, self.window, now))
            }
            Algorithm::Bucket => Level::Bucket(BucketLevel::read(cell, number, self.window, now)),
        }
    }

    /// Finds the cells that say no more at `now` than absent ones: nothing of them is in force.
    pub(super) fn idle(&self, now: Moment) -> impl Fn(u64) -> bool + use<> {
        // Once, since a sweep asks about a million cells under locks.
        let (algorithm, id) = (self.algorithm, sliding::window_of(now, self.window));
        let stamp = bucket::stamp_of(now, self.window);
        move |cell| match algorithm {
            Algorithm::Sliding => sliding::is_idle(cell, id),
            Algorithm::Bucket => bucket::is_idle(cell, stamp),
        }
    }

    /// Gives `cost` units back that were taken at `taken`; those that have expired since are not.
    pub(super) fn give_back(
        &self,
        cell: u64,
        cost: u64,
        number: Number,
        taken: Moment,
        now: Moment,
    ) -> u64 {
        let mut level = self.read(cell, number, now);
        match &mut level {
            Level::Sliding(level) => level.give_back(cost, self.window, taken),
            Level::Bucket(level) => level.give_back(cost, self.window, taken, now),
        }
        level.cell()
    }
}

impl Level {
    /// Time until `need` units are free, if nothing is taken meanwhile; `None` if they never are.
    pub(super) fn wait_for(&self, need: u64) -> Option<Duration> {
        match self {
            Self::Sliding(level) => level.wait_for(need),
            Self::Bucket(level) => level.wait_for(need),
        }
    }

    /// Units in use.
    pub(super) fn used(&self) -> u64 {
        match self {
            Self::Sliding(level) => level.used(),
            Self::Bucket(level) => level.used(),
        }
    }

    /// Units left.
    pub(super) fn remaining(&self) -> u64 {
        match self {
            Self::Sliding(level) => level.remaining(),
            Self::Bucket(level) => level.remaining(),
        }
    }

    /// Takes `cost` units.
    pub(super) fn take(&mut self, cost: u64) {
        match self {
            Self::Sliding(level) => level.take(cost),
            Self::Bucket(level) => level.take(cost),
        }
    }

    /// The cell that says this.
    pub(super) fn cell(&self) -> u64 {
        match self {
            Self::Sliding(level) => level.cell(),
            Self::Bucket(level) => level.cell(),
        }
    }
}
