//! How gateways share a limit.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::limits::meter::Number;

/// What each gateway of a fleet allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The whole number: a fleet of three allows three times as much.
    Local,
    /// An equal part of it.
    #[default]
    Split,
}

/// Number of live gateways, as far as this one knows.
#[derive(Debug)]
pub(super) struct Fleet(AtomicU32);

impl Fleet {
    /// A gateway that knows of no other.
    pub(super) fn alone() -> Self {
        Self(AtomicU32::new(1))
    }

    /// Returns the number, one at least.
    pub(super) fn live(&self) -> u64 {
        self.0.load(Ordering::Relaxed).max(1).into()
    }

    pub(super) fn set_live(&self, gateways: u32) {
        self.0.store(gateways, Ordering::Relaxed);
    }
}

impl Mode {
    /// This gateway's part of `number` among `live` gateways. It has room for `need` units wherever
    /// the whole has: a request of that cost must not be refused for ever.
    pub(super) fn part_of(self, number: Number, live: u64, need: u64) -> Number {
        if self == Self::Local || live <= 1 {
            return number;
        }
        let least = need.min(number.capacity()).max(1);
        let part = |whole: u64| (whole / live).max(least);
        Number {
            limit: part(number.limit),
            burst: number.burst.map(part),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_number_fit_into_it_and_admit_what_the_whole_does() {
        for (limit, burst, live, need, wanted) in [
            (100, None, 1, 1, (100, None)),
            (100, None, 3, 1, (33, None)),
            (100, Some(20), 3, 1, (33, Some(6))),
            (2, None, 3, 1, (1, None)),
            (2, Some(2), 3, 1, (1, Some(1))),
            (10, None, 3, 5, (5, None)),
            (10, Some(5), 3, 5, (5, Some(5))),
            // More than the whole admits: no part does either.
            (10, Some(5), 3, 6, (5, Some(5))),
            (10, None, 0, 1, (10, None)),
        ] {
            let part = Mode::Split.part_of(Number { limit, burst }, live, need);
            assert_eq!(
                (part.limit, part.burst),
                wanted,
                "{limit} {burst:?} {live} {need}"
            );
            let whole = Number { limit, burst };
            assert_eq!(Mode::Local.part_of(whole, live, need), whole);
        }
    }
}
