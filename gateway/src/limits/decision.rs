//! One decision: the checks of a request, one inside the other, and what they say together.

use std::sync::Arc;
use std::time::Duration;

use crate::limits::clock::Moment;
use crate::limits::meter::{Level, Number};
use crate::limits::subject::By;
use crate::limits::table::{SubjectHash, Table};

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
}

/// A request that a limit denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Name of the limit that ends latest: any earlier attempt would fail.
    pub name: Arc<str>,
    /// Time until it admits the request; `None` if it never does.
    pub wait: Option<Duration>,
}

/// Units that a request took of each limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    pub(super) cost: u64,
    pub(super) at: Moment,
}

/// Where a caller stands with a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Name of the limit.
    pub name: Arc<str>,
    /// Units per window.
    pub limit: u64,
    /// Window.
    pub window: Duration,
    /// Units left.
    pub remaining: u64,
    /// Time until there is one more; zero if all are there.
    pub more_in: Duration,
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
    denied: Option<(&'c Arc<str>, Option<Duration>)>,
    shadow: Option<&'c Arc<str>>,
    least: [Option<(Check<'c>, Level)>; 2],
}

impl Check<'_> {
    /// What the cell says.
    pub(super) fn level(&self, now: Moment) -> Option<Level> {
        let cells = self.table.lock(self.subject)?;
        let cell = self.table.cell(&cells, self.subject);
        Some(self.table.meter.read(cell, self.number, now))
    }

    /// Gives back what `charge` took here.
    pub(super) fn give_back(&self, charge: Charge, now: Moment) {
        let Some(mut cells) = self.table.lock(self.subject) else {
            return;
        };
        let (table, Charge { cost, at }) = (self.table, charge);
        let cell = table.cell(&cells, self.subject);
        let cell = table.meter.give_back(cell, cost, self.number, at, now);
        table.set(&mut cells, self.subject, cell);
    }
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
            least: [None, None],
        }
    }

    /// Units that must be free.
    pub(super) fn need(&self) -> u64 {
        self.need
    }

    /// Whether nothing has denied the request so far.
    pub(super) fn is_admitted(&self) -> bool {
        self.denied.is_none()
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
        let wait = level.wait_for(self.need);
        let fits = wait == Some(Duration::ZERO);
        if !fits {
            self.deny(&check, wait);
        }
        let admitted = others(self);
        let takes = fits && admitted;
        if takes && self.take > 0 {
            level.take(self.take);
            check.table.set(&mut cells, check.subject, level.cell());
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

    /// Settles `checks`, each within the one before.
    pub(super) fn settle_all(&mut self, checks: &[Option<Check<'c>>]) -> bool {
        match checks.split_first() {
            Some((Some(check), others)) => self.settle(*check, |walk| walk.settle_all(others)),
            Some((None, others)) => self.settle_all(others),
            None => self.is_admitted(),
        }
    }

    /// Notes a denial; the one that ends latest stays.
    fn deny(&mut self, check: &Check<'c>, wait: Option<Duration>) {
        if !check.enforce {
            self.shadow.get_or_insert(check.name);
            return;
        }
        let ends = |wait: Option<Duration>| wait.unwrap_or(Duration::MAX);
        if self
            .denied
            .is_none_or(|(_, before)| ends(wait) > ends(before))
        {
            self.denied = Some((check.name, wait));
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
        let is_charged = self.denied.is_none() && self.take > 0;
        Verdict {
            denied: self.denied.map(|(name, wait)| Denied {
                name: Arc::clone(name),
                wait,
            }),
            shadow: self.shadow.cloned(),
            charge: is_charged.then_some(Charge {
                cost: self.take,
                at: self.now,
            }),
            standings: self.least.map(|least| {
                let (check, level) = least?;
                Some(Standing {
                    name: Arc::clone(check.name),
                    limit: check.limit,
                    window: check.window,
                    remaining: level.remaining(),
                    more_in: level.wait_for(level.remaining() + 1).unwrap_or_default(),
                })
            }),
        }
    }
}
