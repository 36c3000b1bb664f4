//! Quotas: how much anyone may do in an hour, a day, a month, or for ever.
//!
//! Units are reserved when a request is admitted, and given back at its end if its answer does not
//! count: otherwise parallel requests would overrun. Decisions are made in memory; the store has
//! the truth of all gateways.

mod check;
mod memory;
mod rule;

pub use check::Counted;
pub use memory::{Level, QuotaCell, QuotaDelta, QuotaMemory, QuotaSubject, QuotaUse};
pub use rule::{Quota, QuotaBy, Statuses};

use std::sync::Arc;
use std::time::Duration;

use crate::keys::{ConsumerId, QuotaAllowance, UnixMillis};
use crate::limits::quota::check::{Quotes, kind_of};
use crate::limits::quota::memory::{Taken, TakenAt};
use crate::limits::{Purpose, Standing};

/// Longest time that is added to the end of a period, so that not everyone comes at midnight.
const MAX_JITTER: Duration = Duration::from_mins(5);
/// Most of the time that is left, which is added.
const JITTER_DIVISOR: u32 = 10;

/// Quotas of one generation of the settings.
#[derive(Debug)]
pub struct Quotas {
    quotas: Box<[InForce]>,
    memory: Arc<QuotaMemory>,
}

#[derive(Debug)]
struct InForce {
    quota: Quota,
    /// Name of its kind of periods in the store.
    kind: Arc<str>,
}

/// Units that a request took. They stay taken unless [`Reserved::settle`] gives them back.
#[derive(Debug)]
pub struct Reserved {
    quotas: Arc<Quotas>,
    at: UnixMillis,
    when: TakenAt,
    units: u64,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The origin answered with this status.
    Answered(u16),
    /// The client left before an answer, or its body broke off: the origin had the work.
    ClientLeft,
    /// It did not reach the origin, or no answer came.
    NotAnswered,
}

/// A request beyond a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaDenied {
    /// Name of the quota.
    pub quota: Arc<str>,
    /// Time until another try makes sense; `None` if the quota never ends, or never admits so much.
    pub wait: Option<Duration>,
}

/// A share of a quota that was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Name of the quota.
    pub quota: Arc<str>,
    /// The subject.
    pub subject: QuotaSubject,
    /// Percent.
    pub share: i64,
    /// Units of a period.
    pub limit: u64,
    /// Whether requests beyond are refused.
    pub enforced: bool,
}

/// Decision about a request.
#[derive(Debug, Default)]
pub struct QuotaVerdict {
    /// The quota that ends latest, of those that deny.
    pub denied: Option<QuotaDenied>,
    /// What was taken.
    pub reserved: Option<Reserved>,
    /// A quota that is not enforced and would have denied.
    pub shadow: Option<Arc<str>>,
    /// Shares that were reached.
    pub notices: Vec<Notice>,
    /// The quotas that the caller may be told of, the one with the least left first.
    pub standings: [Option<Standing>; 2],
}

/// A quota of a subject, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaState {
    /// What is counted.
    pub cell: QuotaCell,
    /// Units of a period.
    pub limit: u64,
    /// Units used, and the period.
    pub level: Level,
    /// Whether requests beyond are refused.
    pub enforced: bool,
}

impl Quotas {
    /// Puts `quotas` in force over the counts in `memory`.
    #[must_use]
    pub fn new(quotas: Vec<Quota>, memory: &Arc<QuotaMemory>) -> Arc<Self> {
        let quotas = quotas.into_iter().map(|quota| InForce {
            kind: kind_of(&quota.periods).into(),
            quota,
        });
        let quotas: Box<[InForce]> = quotas.collect();
        if !quotas.is_empty() {
            memory.use_it();
        }
        Arc::new(Self {
            quotas,
            memory: Arc::clone(memory),
        })
    }

    /// Whether there is no quota.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.quotas.is_empty()
    }

    /// The quotas of the settings.
    pub fn iter(&self) -> impl Iterator<Item = &Quota> {
        self.quotas.iter().map(|one| &one.quota)
    }

    /// Counts that outlive a generation.
    #[must_use]
    pub fn memory(&self) -> &Arc<QuotaMemory> {
        &self.memory
    }

    /// Reserves `units` of every quota that applies to `caller`, or of none if one denies. With
    /// [`Purpose::Look`] nothing is reserved.
    #[must_use]
    pub fn reserve<'q>(
        self: &Arc<Self>,
        caller: impl Into<Counted<'q>>,
        units: u64,
        at: UnixMillis,
        purpose: Purpose,
    ) -> QuotaVerdict {
        self.reserve_of(caller.into(), units, at, purpose)
    }

    fn reserve_of(
        self: &Arc<Self>,
        caller: Counted<'_>,
        units: u64,
        at: UnixMillis,
        purpose: Purpose,
    ) -> QuotaVerdict {
        let mut verdict = QuotaVerdict::default();
        if units == 0 {
            return verdict;
        }
        let amount = i64::try_from(units).unwrap_or(i64::MAX);
        let (mut number, mut latest, mut any) = (0, None, false);
        let mut when = TakenAt::clock(at);
        self.each(caller, at, &mut |check| {
            let note = |standings: &mut _, level: &Level| {
                // Consumers with the same tag would be told how busy the others are.
                let is_own = !matches!(check.subject, QuotaSubject::Tag(_));
                if check.enforce && is_own {
                    Standing::note(standings, check.name, check.left(level), || {
                        check.standing(level)
                    });
                }
            };
            any = true;
            number += 1;
            // Once one has denied, the others are only looked at.
            let looks = purpose == Purpose::Look || verdict.denied.is_some();
            let taken = if looks {
                let level = self.memory.level(check.place, || check.period());
                if !check.enforce || level.used.saturating_add(amount) <= check.limit() {
                    note(&mut verdict.standings, &level);
                    return;
                }
                Taken::Denied(level)
            } else {
                let (period, cell) = (|| check.period(), || check.cell());
                let force = !check.enforce;
                self.memory
                    .take(check.place, period, cell, amount, check.limit(), force)
            };
            match taken {
                Taken::Fits { level, notice } => {
                    when.from(level.period);
                    note(&mut verdict.standings, &level);
                    if level.used > check.limit() {
                        verdict.shadow.get_or_insert_with(|| check.name.into());
                    }
                    verdict.notices.extend(notice.map(|share| Notice {
                        quota: check.name.into(),
                        subject: check.subject.clone(),
                        share,
                        limit: check.limit,
                        enforced: check.enforce,
                    }));
                }
                Taken::Denied(level) => {
                    if !looks {
                        self.undo(number - 1, caller, amount, (at, when));
                        for taken in verdict.standings.iter_mut().flatten() {
                            taken.remaining = taken.remaining.saturating_add(units);
                        }
                    }
                    note(&mut verdict.standings, &level);
                    // No period admits more than it has.
                    let end = level.period.end.filter(|_| amount <= check.limit());
                    let ends = end.unwrap_or(UnixMillis(i64::MAX));
                    if latest.is_none_or(|latest| ends > latest) {
                        latest = Some(ends);
                        verdict.denied = Some(QuotaDenied {
                            quota: check.name.into(),
                            wait: end.map(|end| wait_until(end, at, check.place.0)),
                        });
                    }
                }
            }
        });
        if verdict.denied.is_some() {
            // What was told of was undone.
            verdict.notices.clear();
        } else if any && purpose == Purpose::Take {
            verdict.reserved = Some(Reserved {
                quotas: Arc::clone(self),
                at,
                when,
                units,
            });
        }
        verdict
    }

    /// What `caller` has used.
    #[must_use]
    pub fn of_caller<'q>(&self, caller: impl Into<Counted<'q>>, at: UnixMillis) -> Vec<QuotaState> {
        let mut states = Vec::new();
        self.each(caller.into(), at, &mut |check| {
            states.push(QuotaState {
                cell: check.cell(),
                limit: check.limit,
                level: self.memory.level(check.place, || check.period()),
                enforced: check.enforce,
            });
        });
        states
    }

    /// What a consumer has used of the quotas that count it as such, with `own` numbers or those of
    /// its plan.
    #[must_use]
    pub fn of_consumer(
        &self,
        consumer: &ConsumerId,
        own: &Quotes,
        of_plan: Option<&Quotes>,
        created: UnixMillis,
        at: UnixMillis,
    ) -> Vec<QuotaState> {
        let named = |name: &str| {
            let is_it = |entry: &&QuotaAllowance| entry.name.as_str() == name;
            let of_plan = || of_plan?.iter().find(is_it);
            own.iter().find(is_it).or_else(of_plan)
        };
        let mut states = Vec::new();
        let mut add = |of, own| {
            let subject = QuotaSubject::Consumer(*consumer);
            states.extend(
                self.check(of, own, subject, (created, at))
                    .map(|check| QuotaState {
                        cell: check.cell(),
                        limit: check.limit,
                        level: self.memory.level(check.place, || check.period()),
                        enforced: check.enforce,
                    }),
            );
        };
        for of in &self.quotas {
            if of.quota.by == QuotaBy::Consumer {
                add(Some(of), named(&of.quota.name));
            }
        }
        let is_known = |name: &str| self.quotas.iter().any(|of| *of.quota.name == *name);
        let of_plan = of_plan.into_iter().flat_map(|quotas| quotas.iter());
        let of_plan = of_plan.filter(|entry| own.named(&entry.name).is_none());
        for entry in own.iter().chain(of_plan) {
            if !is_known(entry.name.as_str()) {
                add(None, Some(entry));
            }
        }
        states
    }

    /// Gives back what the first `number` checks took.
    fn undo(
        &self,
        number: usize,
        caller: Counted<'_>,
        amount: i64,
        (at, when): (UnixMillis, TakenAt),
    ) {
        let mut left = number;
        self.each(caller, at, &mut |check| {
            if left > 0 {
                left -= 1;
                let place = (check.place.0, when);
                self.memory.give_back(place, || check.cell(), amount);
            }
        });
    }
}

impl Reserved {
    /// Gives back what does not count after `outcome`, in the periods that it was taken from.
    pub fn settle<'q>(&self, caller: impl Into<Counted<'q>>, outcome: Outcome) {
        let amount = i64::try_from(self.units).unwrap_or(i64::MAX);
        self.quotas.each(caller.into(), self.at, &mut |check| {
            if !check.counts(outcome) {
                let (memory, place) = (&self.quotas.memory, (check.place.0, self.when));
                memory.give_back(place, || check.cell(), amount);
            }
        });
    }
}

/// Time from `at` to `end`; zero if that is over.
fn time_until(end: UnixMillis, at: UnixMillis) -> Duration {
    let left = end.0.saturating_sub(at.0);
    Duration::from_millis(u64::try_from(left).unwrap_or_default())
}

/// Time from `at` to `end`, and up to a tenth more, by the subject's `hash`: the same for one
/// subject, and different for others.
fn wait_until(end: UnixMillis, at: UnixMillis, hash: u64) -> Duration {
    let left = time_until(end, at);
    let most = (left / JITTER_DIVISOR).min(MAX_JITTER);
    let most = u64::try_from(most.as_millis()).unwrap_or_default();
    left + Duration::from_millis(hash % (most + 1))
}

#[cfg(test)]
mod tests;
