//! How a cell of eight bytes counts: a sliding counter, or a bucket that refills.
//!
//! A cell is 0 before its first request. Every rounding is to the disadvantage of the caller: it
//! denies at most one request too many and admits none.

pub(super) mod bucket;
pub(super) mod sliding;

use std::time::Duration;

use crate::limits::clock::{Moment, nanos};
use crate::limits::meter::bucket::BucketLevel;
use crate::limits::meter::sliding::SlidingLevel;

/// Largest number of a limit: counts have 26 bits of a cell.
pub const MAX_NUMBER: u64 = 60_000_000;
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

    /// Whether `cell` says no more than an absent one: nothing of it is in force.
    pub(super) fn is_idle(&self, cell: u64, now: Moment) -> bool {
        match self.algorithm {
            Algorithm::Sliding => sliding::is_idle(cell, self.window, now),
            Algorithm::Bucket => bucket::is_idle(cell, self.window, now),
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
        match self.read(cell, number, now) {
            Level::Sliding(level) => level.given_back(cost, self.window, taken),
            Level::Bucket(level) => level.given_back(cost, self.window, taken, now),
        }
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

    /// The cell after `cost` more units.
    pub(super) fn taken(&self, cost: u64) -> u64 {
        match self {
            Self::Sliding(level) => level.taken(cost),
            Self::Bucket(level) => level.taken(cost),
        }
    }
}
