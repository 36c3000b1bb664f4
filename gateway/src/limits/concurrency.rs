//! Limits on requests in flight by subject: each counts until the last byte of its answer, or until
//! its tunnel ends. Neither locks nor allocates.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, OnceLock};

use crate::keys::{Allowance, FoundConsumer, MaxInFlight};
use crate::limits::shares::{Full, Shares, Slot};
use crate::limits::subject::{By, Facts};
use crate::limits::{Holder, Memory};

/// Most limits of the settings.
pub const MAX_LIMITS: usize = 8;
/// Most limits that one request counts for: those of the settings, of its key and of its consumer.
const MAX_HELD: usize = MAX_LIMITS + 2;
/// Name of the numbers of keys and consumers.
pub const OWN: &str = "max_in_flight";

/// A limit on requests in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConcurrencyLimit {
    /// Name in answers and logs.
    pub name: Arc<str>,
    /// Whom it counts; several parts together are one subject.
    pub by: Vec<By>,
    /// Requests in flight of one subject; not 0.
    pub limit: u32,
    /// Routes that it holds for; `None` for all.
    pub routes: Option<Vec<String>>,
    /// Whether it refuses requests; otherwise it only counts and tells.
    pub enforce: bool,
}

/// Requests in flight of every limit, over all generations of the settings.
#[derive(Debug)]
pub struct InFlight {
    /// Made at the first request that counts.
    counts: OnceLock<Shares>,
    requests: usize,
    seed: RandomState,
}

/// Limits of one generation of the settings.
#[derive(Debug)]
pub struct Concurrency {
    limits: Box<[ConcurrencyLimit]>,
    ipv6_prefix: u8,
    memory: Arc<Memory>,
    in_flight: Arc<InFlight>,
}

/// Limits that hold for a route, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding(u8);

/// A request in flight; dropping it ends its count.
#[derive(Debug)]
pub struct Held {
    in_flight: Arc<InFlight>,
    slots: [Option<Slot>; MAX_HELD],
}

/// Result of a check.
#[derive(Debug, Default)]
pub struct Entered {
    /// Name of the limit that denies the request; nothing is counted.
    pub denied: Option<Arc<str>>,
    /// Whether a limit that is not enforced would have denied it.
    pub would_deny: bool,
    /// What is counted.
    pub held: Option<Held>,
}

impl InFlight {
    /// Makes room for this many requests at once.
    #[must_use]
    pub fn for_requests(requests: usize) -> Arc<Self> {
        Arc::new(Self {
            counts: OnceLock::new(),
            requests,
            seed: RandomState::new(),
        })
    }

    fn counts(&self) -> &Shares {
        // Each request may count for several subjects.
        self.counts
            .get_or_init(|| Shares::for_requests(self.requests.saturating_mul(4)))
    }
}

impl ConcurrencyLimit {
    fn holds_for(&self, route: &str) -> bool {
        let routes = self.routes.as_ref();
        routes.is_none_or(|routes| routes.iter().any(|one| one == route))
    }
}

impl Concurrency {
    /// Puts `limits`, at most [`MAX_LIMITS`], in force over the counts in `in_flight`.
    #[must_use]
    pub fn new(
        limits: Vec<ConcurrencyLimit>,
        ipv6_prefix: u8,
        memory: &Arc<Memory>,
        in_flight: &Arc<InFlight>,
    ) -> Self {
        Self {
            limits: limits.into_iter().take(MAX_LIMITS).collect(),
            ipv6_prefix,
            memory: Arc::clone(memory),
            in_flight: Arc::clone(in_flight),
        }
    }

    /// No limits but those of keys and consumers.
    #[must_use]
    pub fn none() -> Self {
        Self::new(Vec::new(), 64, &Memory::new(), &InFlight::for_requests(1))
    }

    /// Counts that outlive a generation.
    #[must_use]
    pub fn in_flight(&self) -> &Arc<InFlight> {
        &self.in_flight
    }

    /// The limits that hold for the route of this name.
    #[must_use]
    pub fn of_route(&self, name: &str) -> Holding {
        let holding = (0..).zip(&self.limits);
        let holding = holding.filter(|(_, limit)| limit.holds_for(name));
        Holding(holding.fold(0, |bits, (number, _)| bits | 1_u8 << number))
    }

    /// Counts a request for every limit that applies to it, or for none if one denies.
    #[must_use]
    pub fn enter(&self, holding: Holding, facts: &Facts<'_>) -> Entered {
        let own = facts.holder.map_or_else(Default::default, own_numbers);
        let mut entered = Entered::default();
        if holding.0 == 0 && own.iter().all(Option::is_none) {
            return entered;
        }
        let mut held = Held {
            in_flight: Arc::clone(&self.in_flight),
            slots: [None; MAX_HELD],
        };
        let mut slots = held.slots.iter_mut();
        let mut count = |bits, limit: u32, enforce| -> Result<bool, Full> {
            let (counts, most) = (self.in_flight.counts(), limit as usize);
            let (slot, is_over) = match counts.enter(bits, most) {
                Ok(slot) => (slot, false),
                Err(Full) if enforce => return Err(Full),
                // Counted all the same, so that the number is right when it is enforced.
                Err(Full) => (counts.enter(bits, usize::MAX).unwrap_or(None), true),
            };
            if let Some(place) = slots.next() {
                *place = slot;
            }
            Ok(is_over)
        };
        for (number, limit) in (0..).zip(&self.limits) {
            if holding.0 & 1_u8 << number == 0 {
                continue;
            }
            let Some(bits) = self.bits(limit, facts) else {
                continue;
            };
            match count(bits, limit.limit, limit.enforce) {
                Ok(is_over) => entered.would_deny |= is_over,
                Err(Full) => {
                    entered.denied = Some(Arc::clone(&limit.name));
                    return entered;
                }
            }
        }
        let parts = [&[By::Key], &[By::Consumer]];
        for (most, by) in own.into_iter().zip(parts) {
            let Some(most) = most else { continue };
            let subject = self.memory.subjects.of(by, facts, self.ipv6_prefix);
            let Some(subject) = subject else { continue };
            let bits = subject.0 ^ self.in_flight.seed.hash_one((OWN, by));
            if let Err(Full) = count(bits, most.get(), true) {
                entered.denied = Some(OWN.into());
                return entered;
            }
        }
        entered.held = Some(held);
        entered
    }

    /// Uniform bits of the subject of `limit`; `None` if it does not apply.
    fn bits(&self, limit: &ConcurrencyLimit, facts: &Facts<'_>) -> Option<u64> {
        let subject = &self.memory.subjects;
        let subject = subject.of(&limit.by, facts, self.ipv6_prefix)?;
        // By its name, so that counts go on when the settings are reloaded.
        Some(subject.0 ^ self.in_flight.seed.hash_one(&limit.name))
    }
}

/// Numbers of a key and of its consumer, whose own comes before that of the plan.
fn own_numbers(holder: Holder<'_>) -> [Option<MaxInFlight>; 2] {
    let of = |allowance: Option<&Allowance>| allowance.and_then(|own| own.max_in_flight);
    let of_consumer = |consumer: &FoundConsumer| {
        let of_plan = || {
            consumer
                .plan()
                .and_then(|plan| plan.allowance.max_in_flight)
        };
        of(consumer.allowance()).or_else(of_plan)
    };
    match holder {
        Holder::Known(key) => [of(key.allowance()), of_consumer(key.owner())],
        Holder::Token(token) => [None, token.consumer.and_then(of_consumer)],
        Holder::Stored(_) => [None; 2],
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for slot in self.slots.into_iter().flatten() {
            self.in_flight.counts().leave(slot);
        }
    }
}

#[cfg(test)]
mod tests;
