//! Limits: how much anyone may do in a window of time.
//!
//! Every decision is made in memory. A request is checked against all limits that apply to it, and
//! counts for all or, if one denies it, for none. This room knows neither HTTP nor settings; the
//! time is an argument or that of its own clock.

pub mod brake;
pub mod clock;
pub mod concurrency;
mod memory;
mod meter;
pub mod network;
pub mod period;
pub mod quota;
mod rate;
pub(crate) mod shares;
mod subject;
mod table;

use std::sync::Arc;
use std::time::Duration;

pub use self::clock::Moment;
pub use self::memory::Memory;
pub use self::meter::{MAX_BURST, MAX_NUMBER, Number};
pub use self::rate::{RateLimit, Rule};
pub use self::subject::{By, Facts, NotASubject};
use crate::limits::table::SubjectHash;

/// Rate limits of one generation.
#[derive(Debug)]
pub struct Limits {
    memory: Arc<Memory>,
    /// In the order in which their cells are locked.
    rules: Vec<Rule>,
    ipv6_prefix: u8,
}

/// Limits that hold for one route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfRoute(Box<[u16]>);

/// What a decision does with the cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Takes the cost if every limit admits it.
    Take,
    /// Only looks.
    Look,
}

/// Answer of the limits to a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Verdict {
    /// The denial; `None` if the request may pass.
    pub denied: Option<Denied>,
    /// A limit that is not enforced and would have denied the request.
    pub shadow: Option<u16>,
    /// What was taken, to be given back if the gateway then refuses the request for another reason.
    pub charge: Option<Charge>,
}

/// A request that a limit denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The limit that ends latest: any earlier attempt would fail.
    pub rule: u16,
    /// Time until it admits the request; `None` if it never does.
    pub wait: Option<Duration>,
}

/// Units that a request took of each limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    cost: u64,
    at: Moment,
}

/// State of a decision on its way from limit to limit.
struct Walk<'r> {
    facts: &'r Facts<'r>,
    /// Units that must be free.
    need: u64,
    /// Units to take.
    take: u64,
    now: Moment,
    verdict: Verdict,
}

impl Limits {
    /// Puts `limits` in force over the cells in `memory`. Addresses of IPv6 with the same first
    /// `ipv6_prefix` bits are one.
    #[must_use]
    pub fn new(limits: Vec<RateLimit>, ipv6_prefix: u8, memory: &Arc<Memory>) -> Self {
        let rules = limits.into_iter().map(|limit| limit.in_force(memory));
        let mut rules: Vec<Rule> = rules.collect();
        // One order for all threads and generations, so that none waits for another in a circle.
        rules.sort_by_key(|rule| rule.table.serial());
        Self {
            memory: Arc::clone(memory),
            rules,
            ipv6_prefix,
        }
    }

    /// The cells, for the next generation.
    #[must_use]
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// No limits.
    #[must_use]
    pub fn none() -> Self {
        Self::new(Vec::new(), 64, &Memory::new())
    }

    /// The limits that hold for the route `name`, whose own choice is `chosen`.
    #[must_use]
    pub fn of_route(&self, name: &str, chosen: Option<&[Arc<str>]>) -> OfRoute {
        let numbers = (0..).zip(&self.rules);
        let holding = numbers.filter(|(_, rule)| rule.limit.holds_for(name, chosen));
        OfRoute(holding.map(|(number, _)| number).collect())
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
        if of_route.0.is_empty() {
            return Verdict::default();
        }
        self.decide_at(of_route, facts, cost, purpose, self.memory.now())
    }

    fn decide_at(
        &self,
        of_route: &OfRoute,
        facts: &Facts<'_>,
        cost: u64,
        purpose: Purpose,
        now: Moment,
    ) -> Verdict {
        let take = match purpose {
            Purpose::Take => cost,
            Purpose::Look => 0,
        };
        let mut walk = Walk {
            facts,
            need: cost.max(1),
            take,
            now,
            verdict: Verdict::default(),
        };
        let admitted = self.walk(&of_route.0, &mut walk);
        let Walk { mut verdict, .. } = walk;
        verdict.charge = (admitted && take > 0).then_some(Charge {
            cost: take,
            at: now,
        });
        verdict
    }

    /// Checks the first of `rules` that applies and, while its cells are locked, the others; takes
    /// on the way back. Returns whether all admit the request.
    fn walk(&self, rules: &[u16], walk: &mut Walk<'_>) -> bool {
        let mut rest = rules;
        let (number, rule, subject) = loop {
            let Some((number, others)) = rest.split_first() else {
                return walk.verdict.denied.is_none();
            };
            rest = others;
            if let Some(rule) = self.rule(*number)
                && let Some(subject) = self.subject(rule, walk.facts)
            {
                break (*number, rule, subject);
            }
        };
        let (Some(allowed), Some(mut cells)) =
            (number_of(rule, walk.facts), rule.table.lock(subject))
        else {
            return self.walk(rest, walk);
        };
        let table = &rule.table;
        let level = table
            .meter
            .read(table.cell(&cells, subject), allowed, walk.now);
        let wait = level.wait_for(walk.need);
        let fits = wait == Some(Duration::ZERO);
        if !fits {
            walk.deny(number, wait, rule.limit.enforce);
        }
        let admitted = self.walk(rest, walk);
        if fits && admitted && walk.take > 0 {
            table.set(&mut cells, subject, level.taken(walk.take));
        }
        admitted
    }

    /// Gives back what `charge` took, when the gateway itself refused the request afterwards.
    pub fn give_back(&self, of_route: &OfRoute, facts: &Facts<'_>, charge: Charge) {
        self.give_back_at(of_route, facts, charge, self.memory.now());
    }

    fn give_back_at(&self, of_route: &OfRoute, facts: &Facts<'_>, charge: Charge, now: Moment) {
        for rule in of_route.0.iter().filter_map(|rule| self.rule(*rule)) {
            if let Some(subject) = self.subject(rule, facts)
                && let Some(number) = number_of(rule, facts)
                && let Some(mut cells) = rule.table.lock(subject)
            {
                let table = &rule.table;
                let cell = table.cell(&cells, subject);
                let cell = table
                    .meter
                    .give_back(cell, charge.cost, number, charge.at, now);
                table.set(&mut cells, subject, cell);
            }
        }
    }

    fn subject(&self, rule: &Rule, facts: &Facts<'_>) -> Option<SubjectHash> {
        let by = &rule.limit.by;
        self.memory.subjects.of(by, facts, self.ipv6_prefix)
    }
}

impl Walk<'_> {
    /// Notes the denial of a limit; the one that ends latest stays.
    fn deny(&mut self, rule: u16, wait: Option<Duration>, enforce: bool) {
        if !enforce {
            self.verdict.shadow.get_or_insert(rule);
            return;
        }
        let ends = |wait: Option<Duration>| wait.unwrap_or(Duration::MAX);
        let is_later = |before: Denied| ends(wait) > ends(before.wait);
        if self.verdict.denied.is_none_or(is_later) {
            self.verdict.denied = Some(Denied { rule, wait });
        }
    }
}

/// What `rule` allows the caller; `None` if it does not limit this caller.
fn number_of(rule: &Rule, _caller: &Facts<'_>) -> Option<Number> {
    Some(rule.limit.number)
}

#[cfg(test)]
mod tests;
