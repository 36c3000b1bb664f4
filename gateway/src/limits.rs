//! Limits: how much anyone may do in a window of time.
//!
//! Every decision is made in memory. A request is checked against all limits that apply to it, and
//! counts for all or, if one denies it, for none. This room knows neither HTTP nor settings; the
//! time is an argument or that of its own clock.

pub mod brake;
pub mod clock;
pub mod concurrency;
mod decision;
pub mod fleet;
mod holder;
mod link;
mod memory;
mod meter;
pub mod network;
mod own;
pub mod period;
pub mod quota;
mod rate;
mod share;
pub(crate) mod shares;
mod subject;
mod table;
mod usage;

use std::sync::Arc;

pub use self::clock::Moment;
pub use self::decision::{Charge, Denied, Purpose, Standing, Verdict};
pub use self::holder::{Holder, StoredHolder, TokenSubject};
pub use self::link::LinkCounts;
pub use self::memory::{Memory, TableCounts};
pub use self::meter::{MAX_BURST, MAX_NUMBER, Number};
pub use self::rate::{RateLimit, Rule};
pub use self::share::{Mode, OnOutage, Terms, UnsharedWarning};
pub use self::subject::{By, Facts, NotASubject};
pub use self::table::Decided;
pub use self::usage::LimitUse;
use crate::limits::decision::{Check, Walk};
use crate::limits::own::{OwnLimits, number_of};
use crate::limits::table::SubjectHash;

/// Rate limits of one generation.
#[derive(Debug)]
pub struct Limits {
    memory: Arc<Memory>,
    /// In the order in which their cells are locked.
    rules: Vec<Rule>,
    terms: Terms,
}

/// Limits that hold for one route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfRoute {
    rules: Box<[u16]>,
    /// Names that the route has chosen; `None` for all.
    chosen: Option<Box<[Arc<str>]>>,
}

impl Limits {
    /// Puts `limits` in force over the cells in `memory`.
    #[must_use]
    pub fn new(limits: Vec<RateLimit>, terms: Terms, memory: &Arc<Memory>) -> Self {
        let rules = limits.into_iter().map(|limit| limit.in_force(memory));
        let mut rules: Vec<Rule> = rules.collect();
        // One order for all threads and generations, so that none waits for another in a circle.
        rules.sort_by_key(|rule| rule.table.serial());
        Self {
            memory: Arc::clone(memory),
            rules,
            terms,
        }
    }

    /// The cells, for the next generation.
    #[must_use]
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// How gateways share a limit.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.terms.mode
    }

    /// No limits.
    #[must_use]
    pub fn none() -> Self {
        Self::new(Vec::new(), Terms::default(), &Memory::new())
    }

    /// The limits that hold for the route `name`, whose own choice is `chosen`.
    #[must_use]
    pub fn of_route(&self, name: &str, chosen: Option<&[Arc<str>]>) -> OfRoute {
        let numbers = (0..).zip(&self.rules);
        let holding = numbers.filter(|(_, rule)| rule.limit.holds_for(name, chosen));
        OfRoute {
            rules: holding.map(|(number, _)| number).collect(),
            chosen: chosen.map(Box::from),
        }
    }

    /// The limit with the number `rule` of a verdict.
    #[must_use]
    pub fn rule(&self, rule: u16) -> Option<&Rule> {
        self.rules.get(usize::from(rule))
    }

    /// Every limit.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// Decides about a request that costs `cost` units, at the present time. One that costs nothing
    /// passes while one unit is free.
    #[must_use]
    pub fn decide(
        &self,
        of_route: &OfRoute,
        facts: &Facts<'_>,
        cost: u64,
        purpose: Purpose,
    ) -> Verdict {
        let is_plain = facts.holder.is_none_or(|holder| holder.is_plain());
        if of_route.rules.is_empty() && is_plain {
            return Verdict::default();
        }
        self.decide_at(of_route, facts, cost, purpose, self.memory.now())
    }

    /// Decides about a request whose decision was pending, once its units are there; after a while,
    /// without them.
    pub async fn decide_with_leases(
        &self,
        of_route: &OfRoute,
        facts: &Facts<'_>,
        cost: u64,
    ) -> Verdict {
        let mut answers = self.memory.leased.subscribe();
        let late = tokio::time::sleep(self.terms.timeout);
        tokio::pin!(late);
        loop {
            let verdict = self.decide(of_route, facts, cost, Purpose::Take);
            if !verdict.is_pending {
                return verdict;
            }
            tokio::select! {
                // The sender lives as long as the memory.
                _ = answers.changed() => {}
                () = &mut late => {
                    let now = self.memory.now();
                    return self.decide_by(of_route, facts, cost, Purpose::Take, now, true);
                }
            }
        }
    }

    fn decide_at(
        &self,
        of_route: &OfRoute,
        facts: &Facts<'_>,
        cost: u64,
        purpose: Purpose,
        now: Moment,
    ) -> Verdict {
        self.decide_by(of_route, facts, cost, purpose, now, false)
    }

    /// Decides at `now`, without waiting for leases if `is_late`.
    fn decide_by(
        &self,
        of_route: &OfRoute,
        facts: &Facts<'_>,
        cost: u64,
        purpose: Purpose,
        now: Moment,
        is_late: bool,
    ) -> Verdict {
        let mut walk = Walk::new(cost, purpose, now);
        if is_late {
            walk.wait_no_more();
        }
        let own = self.own_limits(of_route, facts, walk.need());
        let own: &[Option<Check<'_>>] = match &own {
            None => &[],
            Some(own) => &own.checks(),
        };
        self.walk(&of_route.rules, facts, own, &mut walk);
        if walk.wants_lease() {
            self.memory.lease_wanted.notify_one();
        }
        walk.verdict()
    }

    /// Checks the first of `rules` that applies, and the others within it. Returns whether all
    /// admit the request.
    fn walk<'c>(
        &'c self,
        rules: &[u16],
        facts: &Facts<'_>,
        own: &[Option<Check<'c>>],
        walk: &mut Walk<'c>,
    ) -> bool {
        let mut rest = rules;
        while let Some((rule, others)) = rest.split_first() {
            rest = others;
            if let Some(rule) = self.rule(*rule)
                && let Some(check) = self.check(rule, facts, walk.need())
            {
                return walk.settle(check, |walk| self.walk(rest, facts, own, walk));
            }
        }
        walk.settle_all(own)
    }

    /// The limits that the holder has besides those of the configuration; `None` without numbers of
    /// its own.
    fn own_limits(&self, of_route: &OfRoute, facts: &Facts<'_>, need: u64) -> Option<OwnLimits> {
        let holder = facts.holder.filter(|holder| !holder.is_plain())?;
        let find = |name: &str| {
            let mut numbers = (0..).zip(&self.rules);
            let (number, rule) = numbers.find(|(_, rule)| *rule.limit.name == *name)?;
            Some((rule, of_route.rules.contains(&number)))
        };
        let chosen = of_route.chosen.as_deref();
        let may_add =
            |name: &str| chosen.is_none_or(|chosen| chosen.iter().any(|one| **one == *name));
        let terms = (self.terms, need);
        Some(OwnLimits::of(holder, find, may_add, &self.memory, terms))
    }

    /// The check of `rule` for a request; `None` if it does not apply.
    fn check<'c>(&'c self, rule: &'c Rule, facts: &Facts<'_>, need: u64) -> Option<Check<'c>> {
        let whole = number_of(rule, facts.holder)?;
        let window = rule.limit.window;
        let memory = &self.memory;
        let fleet = (memory.fleet.live(), memory.link.is_up());
        let (number, sharing) = self
            .terms
            .part_of(whole, (window, rule.limit.exact), fleet, need);
        let by = rule.limit.by.as_slice();
        Some(Check {
            name: &rule.limit.name,
            by,
            table: &rule.table,
            subject: self.subject(rule, facts)?,
            limit: whole.limit,
            number,
            sharing,
            window,
            enforce: rule.limit.enforce,
            // A limit that strangers share would tell how busy they are.
            tell: by.iter().any(|one| match one {
                By::Key | By::Consumer => true,
                By::Address => facts.holder.is_none(),
                By::Plan | By::Tag(_) | By::Anonymous | By::Route | By::Gateway => false,
            }),
        })
    }

    /// Gives back what `charge` took, when the gateway itself refused the request afterwards.
    pub fn give_back(&self, of_route: &OfRoute, facts: &Facts<'_>, charge: Charge) {
        self.give_back_at(of_route, facts, charge, self.memory.now());
    }

    fn give_back_at(&self, of_route: &OfRoute, facts: &Facts<'_>, charge: Charge, now: Moment) {
        for rule in of_route.rules.iter().filter_map(|rule| self.rule(*rule)) {
            if let Some(check) = self.check(rule, facts, charge.cost) {
                check.give_back(charge, now);
            }
        }
        if let Some(own) = self.own_limits(of_route, facts, charge.cost) {
            for check in own.checks().iter().flatten() {
                check.give_back(charge, now);
            }
        }
    }

    fn subject(&self, rule: &Rule, facts: &Facts<'_>) -> Option<SubjectHash> {
        let by = &rule.limit.by;
        self.memory.subjects.of(by, facts, self.terms.ipv6_prefix)
    }
}

#[cfg(test)]
mod tests;
