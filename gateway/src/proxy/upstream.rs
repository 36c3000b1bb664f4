//! [`Upstream`]: one or several targets that serve the same requests, which of them takes the next one, and which of
//! them are left out for a while.
//!
//! One for the whole process: threads share counters, never locks. An upstream of one target has nothing to choose, so it
//! counts nothing and leaves nothing out.

pub mod attempts;
pub mod health;
mod target;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

pub use self::target::{InFlight, State, Target};
use crate::auth::CallerTag;
use crate::proxy::OriginUrl;
use crate::proxy::upstream::attempts::{Attempts, Phase};
use crate::proxy::upstream::health::HealthCheck;

/// Most targets of an upstream: a request remembers in one word which of them it has tried.
pub const MOST_TARGETS: usize = 64;

/// How the next target is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// One after the other.
    RoundRobin,
    /// The one with the fewest requests in flight, bodies included; among equals, one after the other.
    LeastConnections,
}

/// How an upstream treats its targets.
#[derive(Debug, Clone)]
pub struct UpstreamPolicy {
    /// How the next target is chosen.
    pub balance: Balance,
    /// So many connection failures in a row leave a target out.
    pub eject_after: u32,
    /// For how long.
    pub eject_for: Duration,
    /// How many other targets a request tries that may be tried again.
    pub retries: usize,
    /// Most requests in flight to one target, bodies included; 0 means any number.
    pub max_in_flight: usize,
    /// How targets are asked for their health; not at all without.
    pub health: Option<HealthCheck>,
}

/// One or several targets that serve the same requests.
pub struct Upstream {
    name: Arc<str>,
    targets: Box<[Arc<Target>]>,
    policy: UpstreamPolicy,
    turn: AtomicUsize,
    /// By [`Phase`].
    failed_attempts: [AtomicU64; Phase::ALL.len()],
}

impl Upstream {
    /// An upstream of these targets: at least one, at most [`MOST_TARGETS`].
    #[must_use]
    pub fn new(name: &str, urls: Vec<OriginUrl>, policy: UpstreamPolicy) -> Self {
        debug_assert!((1..=MOST_TARGETS).contains(&urls.len()));
        let targets = urls
            .into_iter()
            .map(|url| Arc::new(Target::new(url)))
            .collect();
        Self {
            name: name.into(),
            targets,
            policy,
            turn: AtomicUsize::new(0),
            failed_attempts: Default::default(),
        }
    }

    /// The one target `url`, to which every request goes.
    #[must_use]
    pub fn single(name: &str, url: OriginUrl) -> Self {
        let policy = UpstreamPolicy {
            balance: Balance::RoundRobin,
            eject_after: u32::MAX,
            eject_for: Duration::ZERO,
            retries: 0,
            max_in_flight: 0,
            health: None,
        };
        Self::new(name, vec![url], policy)
    }

    /// What logs call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its targets.
    #[must_use]
    pub fn targets(&self) -> &[Arc<Target>] {
        &self.targets
    }

    /// How it treats them.
    #[must_use]
    pub fn policy(&self) -> &UpstreamPolicy {
        &self.policy
    }

    /// The targets for one request, one by one.
    #[must_use]
    pub fn attempts(&self) -> Attempts<'_> {
        Attempts::new(self)
    }

    /// Attempts that failed in `phase`.
    #[must_use]
    pub fn failed_attempts(&self, phase: Phase) -> u64 {
        self.failed_attempts
            .get(phase as usize)
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }

    fn count_failed_attempt(&self, phase: Phase) {
        if let Some(count) = self.failed_attempts.get(phase as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// That `target` took no connection; `cause` says what was seen.
    ///
    /// It is left out once that has happened often enough in a row, as long as another target is left.
    fn failed(&self, target: &Target, cause: &dyn fmt::Display) {
        if self.targets.len() > 1 {
            self.leave_out(target, target.count_failure(), cause);
        }
    }

    /// That `target` let a new connection die once it had a request of `caller`, before it answered.
    ///
    /// As [`failed`](Self::failed), but only when the requests of several callers came to such an end: a request that kills
    /// whoever works on it must not take the targets away from all others.
    fn died(&self, target: &Target, caller: CallerTag, cause: &dyn fmt::Display) {
        if self.targets.len() > 1
            && let Some(failures) = target.count_death(caller)
        {
            self.leave_out(target, failures, cause);
        }
    }

    /// Leaves `target` out if it has failed so often that it has to be, and may be.
    fn leave_out(&self, target: &Target, failures: u32, cause: &dyn fmt::Display) {
        if failures < self.policy.eject_after {
            return;
        }
        let another_is_left = self
            .targets
            .iter()
            .any(|other| !std::ptr::eq(&raw const **other, target) && other.state() == State::Up);
        if another_is_left && target.eject(self.policy.eject_for) {
            let (name, after, period) =
                (&self.name, self.policy.eject_after, self.policy.eject_for);
            log::warn!(
                "upstream {name:?}: target {target} is left out for {} after {after} failed connections in a row: {cause}",
                humantime::format_duration(period)
            );
        }
    }

    /// That `target` answered.
    fn answered(&self, target: &Target) {
        if self.targets.len() > 1 && target.forget_failures() {
            log::info!(
                "upstream {:?}: target {target} takes requests again",
                self.name
            );
        }
    }

    fn take_turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("name", &self.name)
            .field("targets", &self.targets)
            .finish_non_exhaustive()
    }
}
