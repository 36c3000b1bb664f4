//! How much of its limits a holder has used, for operators.

use std::sync::Arc;
use std::time::Duration;

use crate::keys::CallerAddress;
use crate::limits::decision::Check;
use crate::limits::holder::Holder;
use crate::limits::own::OwnLimits;
use crate::limits::subject::{By, Facts};
use crate::limits::{Charge, Limits, Moment, OfRoute, Purpose, RateLimit, Verdict};

/// A limit of a key or a consumer, as this gateway counts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitUse {
    /// Name of the limit.
    pub name: Arc<str>,
    /// Subjects that are counted together.
    pub by: Vec<By>,
    /// Route, for a limit that counts each route apart.
    pub route: Option<Arc<str>>,
    /// Units per window, of all gateways.
    pub limit: u64,
    /// Window.
    pub window: Duration,
    /// Units used, as far as this gateway knows.
    pub used: u64,
    /// Units left here.
    pub remaining: u64,
    /// Time at which all are there again, if nothing is used meanwhile.
    pub free_at: Moment,
    /// Whether it denies.
    pub enforced: bool,
}

impl Limits {
    /// Returns the limits of `holder` by key, consumer and tag. `routes` are all routes by name.
    #[must_use]
    pub fn uses<'r>(
        &self,
        holder: Holder<'_>,
        routes: &[(&'r Arc<str>, &'r OfRoute)],
    ) -> Vec<LimitUse> {
        let now = self.memory.now();
        let mut uses = Vec::new();
        self.each_check(holder, routes, None, |check, route| {
            let Some(level) = check.level(now) else {
                return;
            };
            let all = level.remaining() + level.used();
            uses.push(LimitUse {
                name: Arc::clone(check.name),
                by: check.by.to_vec(),
                route: route.cloned(),
                limit: check.limit,
                window: check.window,
                used: level.used(),
                remaining: level.remaining(),
                free_at: now.after(
                    level
                        .wait_for(all.min(check.number.capacity()))
                        .unwrap_or_default(),
                ),
                enforced: check.enforce,
            });
        });
        uses.sort_by(|one, other| (&one.name, &one.route).cmp(&(&other.name, &other.route)));
        uses
    }

    /// Decides about `cost` units of `holder` beyond any request: by the limits by key, consumer
    /// and tag that hold for every route.
    pub async fn decide_for(&self, holder: Holder<'_>, cost: u64) -> Verdict {
        let (everywhere, facts) = self.everywhere(holder);
        let verdict = self.decide(&everywhere, &facts, cost, Purpose::Take);
        if verdict.is_pending {
            return self.decide_with_leases(&everywhere, &facts, cost).await;
        }
        verdict
    }

    /// Gives back what [`Self::decide_for`] took, when something else denied the units afterwards.
    pub fn give_back_for(&self, holder: Holder<'_>, charge: Charge) {
        let (everywhere, facts) = self.everywhere(holder);
        self.give_back(&everywhere, &facts, charge);
    }

    /// The limits of `holder` that hold for every route.
    fn everywhere<'r>(&self, holder: Holder<'r>) -> (OfRoute, Facts<'r>) {
        let holds = |limit: &RateLimit| {
            let is_of_holder = limit.by.iter().all(By::needs_key);
            is_of_holder && limit.routes.is_none()
        };
        let rules = (0_u16..).zip(&self.rules);
        let everywhere = OfRoute {
            rules: rules
                .filter(|(_, rule)| holds(&rule.limit))
                .map(|(rule, _)| rule)
                .collect(),
            chosen: None,
        };
        let facts = Facts {
            holder: Some(holder),
            address: CallerAddress::Unknown,
            route: "",
        };
        (everywhere, facts)
    }

    /// Forgets what `holder` has used of the limit `name`, or of all that [`Self::uses`] returns.
    pub fn reset<'r>(
        &self,
        holder: Holder<'_>,
        routes: &[(&'r Arc<str>, &'r OfRoute)],
        name: Option<&str>,
    ) {
        self.each_check(holder, routes, name, |check, _| {
            let is_exact = check.sharing.is_some_and(|sharing| sharing.is_exact);
            check.table.forget(check.subject, is_exact);
        });
        self.memory.lease_wanted.notify_one();
    }

    /// Hears again, some time after a reset of the same, what other gateways count: what they told
    /// before they reset too is out of date.
    pub fn hear_after_reset<'r>(
        &self,
        holder: Holder<'_>,
        routes: &[(&'r Arc<str>, &'r OfRoute)],
        name: Option<&str>,
    ) {
        self.each_check(holder, routes, name, |check, _| {
            check.table.hear(check.subject);
        });
    }

    /// Calls `each` for the checks of the limit `only`, or of all.
    fn each_check<'r>(
        &self,
        holder: Holder<'_>,
        routes: &[(&'r Arc<str>, &'r OfRoute)],
        only: Option<&str>,
        mut each: impl FnMut(&Check<'_>, Option<&'r Arc<str>>),
    ) {
        let mut each = |check: &Check<'_>, route| {
            if only.is_none_or(|name| *name == **check.name) {
                each(check, route);
            }
        };
        let facts = |route: &'r str| Facts {
            holder: Some(holder),
            address: CallerAddress::Unknown,
            route,
        };
        for (number, rule) in (0_u16..).zip(&self.rules) {
            let by = &rule.limit.by;
            if by.contains(&By::Address) || !by.iter().any(By::needs_key) {
                continue;
            }
            let mut holding = routes
                .iter()
                .filter(|(_, of_route)| of_route.rules.contains(&number));
            if by.contains(&By::Route) {
                let mut names: Vec<&Arc<str>> = holding.map(|(name, _)| *name).collect();
                names.sort();
                names.dedup();
                for name in names {
                    if let Some(check) = self.check(rule, &facts(name), 1) {
                        each(&check, Some(name));
                    }
                }
            } else if holding.next().is_some()
                && let Some(check) = self.check(rule, &facts(""), 1)
            {
                each(&check, None);
            }
        }
        let everywhere = OfRoute {
            rules: (0_u16..).zip(&self.rules).map(|(rule, _)| rule).collect(),
            chosen: None,
        };
        let own: Option<OwnLimits> = self.own_limits(&everywhere, &facts(""), 1);
        for check in own.iter().flat_map(OwnLimits::checks).flatten() {
            each(&check, None);
        }
    }
}
