//! How gateways share a limit.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::limits::meter::Number;

/// What each gateway of a fleet allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The whole number: a fleet of three allows three times as much.
    Local,
    /// An equal part of it.
    #[default]
    Split,
    /// What the others have left, as far as a server has told of it.
    Shared,
}

/// What holds of shared limits while their counts cannot be exchanged. What was heard of others
/// stays in force until its window ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnOutage {
    /// Each gateway allows an equal part.
    #[default]
    Split,
    /// Each gateway allows the whole.
    Local,
    /// Every request passes.
    Open,
    /// No request passes.
    Closed,
}

/// Whether the log has the warning that gateways do not share their limits.
#[derive(Debug, Default)]
pub struct UnsharedWarning {
    is_logged: bool,
}

impl UnsharedWarning {
    /// Whether it is due with this `mode` and number of `live` gateways: once, and once more after
    /// another mode was in force.
    pub fn is_due(&mut self, mode: Mode, live: usize) -> bool {
        let was_logged = self.is_logged;
        let is_local = mode == Mode::Local;
        self.is_logged = is_local && (was_logged || live > 1);
        self.is_logged && !was_logged
    }
}

/// What holds for all limits.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// First bits of an IPv6 address by which addresses are told apart.
    pub ipv6_prefix: u8,
    /// How gateways share a limit.
    pub mode: Mode,
    /// Interval of the exchange of counts.
    pub sync_every: Duration,
    /// What holds while they cannot be exchanged.
    pub on_outage: OnOutage,
    /// Longest wait of a request for units of an exact limit.
    pub timeout: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            ipv6_prefix: 64,
            mode: Mode::default(),
            sync_every: Duration::from_millis(100),
            on_outage: OnOutage::default(),
            timeout: Duration::from_millis(50),
        }
    }
}

/// How one check takes the other gateways into account.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sharing {
    /// Whether counts are exchanged.
    pub(super) is_up: bool,
    /// Whether units are taken out of the server before they are spent.
    pub(super) is_exact: bool,
    pub(super) on_outage: OnOutage,
    /// Number of live gateways.
    pub(super) live: u64,
}

impl Terms {
    /// What this gateway allows of `number` in `window`, and how it takes the others' counts into
    /// account; `is_exact` if no unit may be admitted too many. The `fleet` is the number of live
    /// gateways, and whether counts are exchanged.
    pub(super) fn part_of(
        self,
        number: Number,
        (window, is_exact): (Duration, bool),
        (live, is_up): (u64, bool),
        need: u64,
    ) -> (Number, Option<Sharing>) {
        if !self.shares(number, window, is_exact) {
            return (self.mode.part_of(number, live, need), None);
        }
        let sharing = Sharing {
            is_up,
            is_exact,
            on_outage: self.on_outage,
            live,
        };
        (number, Some(sharing))
    }

    /// Whether counts are exchanged for a limit: a few exchanges would say nothing of a shorter
    /// window, and the levels of buckets do not add up.
    fn shares(self, number: Number, window: Duration, is_exact: bool) -> bool {
        let is_long = is_exact || window >= self.sync_every * 10;
        self.mode == Mode::Shared && number.burst.is_none() && is_long
    }
}

impl Sharing {
    /// Units from which the others are told of a subject: all gateways together stay within a tenth
    /// of its limit before.
    pub(super) fn least(self, limit: u64) -> u64 {
        (limit / (10 * self.live)).max(1)
    }

    /// This gateway's part of `number` in an outage.
    pub(super) fn part_of(self, number: Number, need: u64) -> u64 {
        match self.on_outage {
            OnOutage::Split => Mode::Split.part_of(number, self.live, need).limit,
            OnOutage::Local | OnOutage::Open | OnOutage::Closed => number.limit,
        }
    }
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
    fn gateways_that_do_not_share_are_warned_of_once() {
        let mut warning = UnsharedWarning::default();
        for (step, (mode, live, due)) in [
            (Mode::Local, 1, false),
            (Mode::Local, 2, true),
            (Mode::Local, 3, false),
            (Mode::Local, 1, false),
            (Mode::Local, 2, false),
            (Mode::Split, 2, false),
            (Mode::Shared, 2, false),
            (Mode::Local, 2, true),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(warning.is_due(mode, live), due, "{step}");
        }
    }

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
