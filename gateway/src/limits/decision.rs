//! One decision: the checks of a request, one inside the other, and what they say together.

use std::sync::Arc;
use std::time::Duration;

use crate::limits::clock::Moment;
use crate::limits::meter::{Level, Number};
use crate::limits::share::{OnOutage, Sharing};
use crate::limits::subject::By;
use crate::limits::table::leases::Look;
use crate::limits::table::others::Others;
use crate::limits::table::{Cells, SubjectHash, Table};

/// What a decision does with the cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Takes the cost if every limit admits it.
    Take,
    /// Only looks.
    Look,
}

/// Answer of the limits to a request.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// The denial; `None` if the request may pass.
    pub denied: Option<Denied>,
    /// Name of a limit that is not enforced and would have denied the request.
    pub shadow: Option<Arc<str>>,
    /// What was taken, to be given back if the gateway then refuses the request for another reason.
    pub charge: Option<Charge>,
    /// The limits that the caller may be told of, the one with the least left first.
    pub standings: [Option<Standing>; 2],
    /// Whether units of an exact limit have to be asked for first: nothing was taken, and the
    /// request may be decided again in some milliseconds.
    pub is_pending: bool,
}

/// A request that a limit denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Name of the limit that ends latest: any earlier attempt would fail.
    pub name: Arc<str>,
    /// Time until it admits the request; `None` if it never does.
    pub wait: Option<Duration>,
    /// Whether it denied because nobody knows what the fleet used.
    pub is_unknown: bool,
}

/// Time after which a request is worth another attempt that was denied because nobody knows what
/// the fleet used.
const RETRY_UNKNOWN: Duration = Duration::from_secs(1);

/// Units that a request took of each limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    pub(super) cost: u64,
    pub(super) at: Moment,
    /// Tables of limits that are not enforced and took nothing, as [`Table::bit`] marks them.
    pub(super) missed: u64,
    /// Tables of exact limits that took units of no lease, likewise.
    pub(super) unleased: u64,
}

/// Where a caller stands with a limit or a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Name of the limit or quota.
    pub name: Arc<str>,
    /// Units per window or period.
    pub limit: u64,
    /// Window; `None` for the periods of a quota, whose lengths differ.
    pub window: Option<Duration>,
    /// Units left.
    pub remaining: u64,
    /// Time until there is one more, zero if all are there; for a quota, time until its period
    /// ends. `None` if it never ends.
    pub more_in: Option<Duration>,
}

impl Standing {
    /// Adds the standing that `make` returns to `least`, the two with the least left, if it is one
    /// of them with what is `left` of it. Of two with one `name`, the one with less left stays:
    /// callers know them by name.
    pub fn note(least: &mut [Option<Self>; 2], name: &str, left: u64, make: impl FnOnce() -> Self) {
        let [first, second] = least;
        for same in [&mut *first, &mut *second] {
            let same_name = same.take_if(|other| *other.name == *name);
            if same_name
                .as_ref()
                .is_some_and(|other| other.remaining <= left)
            {
                *same = same_name;
                return;
            }
        }
        if first.is_none() {
            *first = second.take();
        }
        let is_less = |other: &Option<Self>| {
            let other = other.as_ref();
            other.is_none_or(|other| left < other.remaining)
        };
        if is_less(first) {
            *second = first.replace(make());
        } else if is_less(second) {
            *second = Some(make());
        }
    }
}

/// One limit that applies to a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Check<'c> {
    pub(super) name: &'c Arc<str>,
    pub(super) by: &'c [By],
    pub(super) table: &'c Table,
    pub(super) subject: SubjectHash,
    /// Units per window of the whole fleet.
    pub(super) limit: u64,
    /// What this gateway allows of them.
    pub(super) number: Number,
    /// How the other gateways' counts are taken into account; `None` if they are not.
    pub(super) sharing: Option<Sharing>,
    pub(super) window: Duration,
    pub(super) enforce: bool,
    /// Whether the caller may be told how much of it is left.
    pub(super) tell: bool,
}

/// State of a decision on its way from check to check.
#[derive(Debug)]
pub(super) struct Walk<'c> {
    /// Units that must be free.
    need: u64,
    /// Units to take.
    take: u64,
    purpose: Purpose,
    now: Moment,
    denied: Option<(&'c Arc<str>, Option<Duration>, bool)>,
    shadow: Option<&'c Arc<str>>,
    /// Tables of limits that would have denied the request.
    missed: u64,
    /// Tables of exact limits that took units of no lease.
    unleased: u64,
    /// Whether it goes on without leases that are not there.
    waits_no_more: bool,
    is_pending: bool,
    wants_lease: bool,
    least: [Option<(Check<'c>, Level)>; 2],
}

impl Check<'_> {
    /// What the cell says.
    pub(super) fn level(&self, now: Moment) -> Option<Level> {
        let mut cells = self.table.lock(self.subject)?;
        let cell = self.table.cell(&cells, self.subject);
        let mut level = self.table.meter.read(cell, self.number, now);
        self.share(&mut level, &mut cells, (1, now), false);
        Some(level)
    }

    /// Gives back what `charge` took here.
    pub(super) fn give_back(&self, charge: Charge, now: Moment) {
        // An enforced limit that takes nothing denies the request, which is then not charged.
        if !self.enforce && charge.missed & self.table.bit() != 0 {
            return;
        }
        let Some(mut cells) = self.table.lock(self.subject) else {
            return;
        };
        let (table, Charge { cost, at, .. }) = (self.table, charge);
        let cell = table.cell(&cells, self.subject);
        let cell = table.meter.give_back(cell, cost, self.number, at, now);
        table.set(&mut cells, self.subject, cell);
        if self.sharing.is_some_and(|sharing| sharing.is_exact) {
            // A lease never holds units that the server did not grant.
            if charge.unleased & table.bit() == 0 {
                cells.leases().give_back(self.subject, cost, now);
            }
        } else if self.sharing.is_some() {
            // If they know of the subject at all.
            cells.changed(self.subject, 0, self.number.limit, u64::MAX);
        }
    }

    /// Counts the other gateways' units in `level` too, as far as they are known at `now`. Returns
    /// what holds if they are unknown; `is_late` if a lease did not come in time.
    fn share(
        &self,
        level: &mut Level,
        cells: &mut Cells,
        (need, now): (u64, Moment),
        is_late: bool,
    ) -> Option<OnOutage> {
        let sharing = self.sharing?;
        let is_out = if sharing.is_exact {
            level.share_all(cells.leases().spent_by_all(self.subject, now));
            !sharing.is_up || is_late
        } else {
            let (window, _) = level.present();
            let others = cells.others(self.subject);
            level.share(others.map_or((0, 0), |others| others.at(window)));
            !sharing.is_up || others.is_some_and(Others::is_out)
        };
        is_out.then(|| {
            level.allow(sharing.part_of(self.number, need));
            sharing.on_outage
        })
    }

    /// Whether the server can be asked for units.
    fn is_leased(&self) -> bool {
        self.sharing
            .is_some_and(|sharing| sharing.is_exact && sharing.is_up)
    }

    /// Has the other gateways told of the units in `level`.
    fn tell_others(&self, level: &Level, cells: &mut Cells) {
        if let Some(sharing) = self.sharing.filter(|sharing| !sharing.is_exact) {
            let (_, own) = level.present();
            let limit = self.number.limit;
            cells.changed(self.subject, own, limit, sharing.least(limit));
        }
    }
}

/// What is left of a limit for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// Enough.
    Enough,
    /// Enough, in a lease.
    Leased,
    /// As much as the server grants, which has yet to answer.
    Awaited,
    /// Too little for this time; for ever if `None`.
    TooLittle(Option<Duration>),
    /// Nobody knows.
    Unknown,
}

impl<'c> Walk<'c> {
    /// Begins a decision about a request that costs `cost`. One that costs nothing needs a free
    /// unit and takes none.
    pub(super) fn new(cost: u64, purpose: Purpose, now: Moment) -> Self {
        Self {
            need: cost.max(1),
            take: match purpose {
                Purpose::Take => cost,
                Purpose::Look => 0,
            },
            purpose,
            now,
            denied: None,
            shadow: None,
            missed: 0,
            unleased: 0,
            waits_no_more: false,
            is_pending: false,
            wants_lease: false,
            least: [None, None],
        }
    }

    /// Has it go on without leases that are not there.
    pub(super) fn wait_no_more(&mut self) {
        self.waits_no_more = true;
    }

    /// Whether the server is to be asked for leases.
    pub(super) fn wants_lease(&self) -> bool {
        self.wants_lease
    }

    /// Units that must be free.
    pub(super) fn need(&self) -> u64 {
        self.need
    }

    /// Whether nothing has denied the request so far, and nothing is unknown.
    pub(super) fn is_admitted(&self) -> bool {
        self.denied.is_none() && !self.is_pending
    }

    /// Checks `check` and, while its cell is locked, makes the `other` checks; then takes, if all
    /// admit the request. Returns whether they do.
    pub(super) fn settle(
        &mut self,
        check: Check<'c>,
        others: impl FnOnce(&mut Self) -> bool,
    ) -> bool {
        let Some(mut cells) = check.table.lock(check.subject) else {
            return others(self);
        };
        let cell = check.table.cell(&cells, check.subject);
        let mut level = check.table.meter.read(cell, check.number, self.now);
        let left = self.left(&check, &mut level, &mut cells);
        let fits = match left {
            Left::Enough | Left::Leased => true,
            Left::Awaited => {
                self.is_pending = true;
                true
            }
            Left::TooLittle(wait) => {
                self.deny(&check, wait, false);
                false
            }
            Left::Unknown => {
                self.deny(&check, Some(RETRY_UNKNOWN), true);
                false
            }
        };
        let admitted = others(self);
        let takes = fits && admitted;
        if takes && self.take > 0 {
            level.take(self.take);
            check.table.set(&mut cells, check.subject, level.cell());
            if left == Left::Leased {
                let (limit, leases) = (check.number.limit, cells.leases());
                self.wants_lease |= leases.spend(check.subject, self.take, limit, self.now);
            } else {
                self.unleased |= check.table.bit();
                check.tell_others(&level, &mut cells);
            }
        }
        if self.purpose == Purpose::Take && (takes || !fits) {
            cells.count(check.enforce, fits);
        }
        drop(cells);
        if check.tell && check.enforce {
            self.note(check, level);
        }
        admitted
    }

    /// What is left for the request. Counts the other gateways' units in `level` too.
    fn left(&mut self, check: &Check<'c>, level: &mut Level, cells: &mut Cells) -> Left {
        if check.sharing.is_some_and(|sharing| sharing.is_exact)
            && let Some(left) = self.leased(check, level, cells)
        {
            return left;
        }
        let outage = check.share(level, cells, (self.need, self.now), self.waits_no_more);
        match outage {
            Some(OnOutage::Open) => Left::Enough,
            Some(OnOutage::Closed) => Left::Unknown,
            Some(OnOutage::Split | OnOutage::Local) | None => match level.wait_for(self.need) {
                Some(Duration::ZERO) => Left::Enough,
                wait => Left::TooLittle(wait),
            },
        }
    }

    /// What is left of an exact limit; `None` in an outage, once nothing is held.
    fn leased(&mut self, check: &Check<'c>, level: &mut Level, cells: &mut Cells) -> Option<Left> {
        let (subject, limit) = (check.subject, check.number.limit);
        level.share_all(cells.leases().spent_by_all(subject, self.now));
        if self.need > limit {
            return Some(Left::TooLittle(None));
        }
        match cells.leases().look(subject, self.need, self.now) {
            Look::Fits => Some(Left::Leased),
            Look::UsedUp(wait) => Some(Left::TooLittle(Some(wait))),
            Look::Empty if self.waits_no_more || !check.is_leased() => None,
            Look::Empty => {
                self.wants_lease |= cells.leases().want(subject, self.need, limit);
                // Neither a look nor a limit that is not enforced is worth a wait.
                let waits = self.purpose == Purpose::Take && check.enforce;
                Some(if waits { Left::Awaited } else { Left::Enough })
            }
        }
    }

    /// Settles `checks`, each within the one before.
    pub(super) fn settle_all(&mut self, checks: &[Option<Check<'c>>]) -> bool {
        match checks.split_first() {
            Some((Some(check), others)) => self.settle(*check, |walk| walk.settle_all(others)),
            Some((None, others)) => self.settle_all(others),
            None => self.is_admitted(),
        }
    }

    /// Notes a denial; the one that ends latest stays.
    fn deny(&mut self, check: &Check<'c>, wait: Option<Duration>, is_unknown: bool) {
        if !check.enforce {
            self.shadow.get_or_insert(check.name);
            self.missed |= check.table.bit();
            return;
        }
        let ends = |wait: Option<Duration>| wait.unwrap_or(Duration::MAX);
        if self
            .denied
            .is_none_or(|(_, before, _)| ends(wait) > ends(before))
        {
            self.denied = Some((check.name, wait, is_unknown));
        }
    }

    /// Keeps the two limits with the least left.
    fn note(&mut self, check: Check<'c>, level: Level) {
        let left = level.remaining();
        let [first, second] = &mut self.least;
        let is_less = |other: &Option<(Check<'_>, Level)>| {
            other
                .as_ref()
                .is_none_or(|(_, other)| left < other.remaining())
        };
        if is_less(first) {
            *second = first.replace((check, level));
        } else if is_less(second) {
            *second = Some((check, level));
        }
    }

    /// Ends the decision.
    pub(super) fn verdict(self) -> Verdict {
        let is_charged = self.is_admitted() && self.take > 0;
        Verdict {
            is_pending: self.is_pending && self.denied.is_none(),
            denied: self.denied.map(|(name, wait, is_unknown)| Denied {
                name: Arc::clone(name),
                wait,
                is_unknown,
            }),
            shadow: self.shadow.cloned(),
            charge: is_charged.then_some(Charge {
                cost: self.take,
                at: self.now,
                missed: self.missed,
                unleased: self.unleased,
            }),
            standings: self.least.map(|least| {
                let (check, level) = least?;
                Some(Standing {
                    name: Arc::clone(check.name),
                    limit: check.limit,
                    window: Some(check.window),
                    remaining: level.remaining(),
                    more_in: Some(level.wait_for(level.remaining() + 1).unwrap_or_default()),
                })
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_with_the_least_left_stay_and_one_of_each_name() {
        for (noted, wanted) in [
            (&[("a", 3)][..], &[("a", 3)][..]),
            (&[("a", 3), ("b", 2), ("c", 1)], &[("c", 1), ("b", 2)]),
            (&[("a", 1), ("b", 2), ("c", 3)], &[("a", 1), ("b", 2)]),
            (&[("a", 1), ("b", 1), ("c", 1)], &[("a", 1), ("b", 1)]),
            (&[("a", 2), ("a", 1)], &[("a", 1)]),
            (&[("a", 1), ("a", 2)], &[("a", 1)]),
            (&[("a", 2), ("b", 3), ("a", 1)], &[("a", 1), ("b", 3)]),
            (&[("a", 2), ("b", 3), ("b", 1)], &[("b", 1), ("a", 2)]),
            (&[("a", 2), ("b", 3), ("b", 4)], &[("a", 2), ("b", 3)]),
        ] {
            let mut least = [None, None];
            for (name, left) in noted {
                Standing::note(&mut least, name, *left, || Standing {
                    name: (*name).into(),
                    limit: 10,
                    window: None,
                    remaining: *left,
                    more_in: None,
                });
            }
            let found = least.iter().flatten();
            let found: Vec<_> = found.map(|one| (&*one.name, one.remaining)).collect();
            assert_eq!(found, wanted, "{noted:?}");
        }
    }
}
