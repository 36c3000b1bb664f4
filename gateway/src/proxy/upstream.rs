//! [`Upstream`]: one or several equal targets, their load balancing, and the temporary ejection of
//! failing ones.
//!
//! Shared by the whole process: threads share counters, never locks. A single target needs no
//! choice, so it is neither counted nor ejected.

pub mod attempts;
pub mod health;
mod target;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use postern_shared::Secret;

pub use self::target::{InFlight, State, Target};
use crate::auth::CallerTag;
use crate::proxy::OriginUrl;
use crate::proxy::upstream::attempts::{Attempts, Phase};
use crate::proxy::upstream::health::HealthCheck;

/// Maximum of targets of an upstream: a request keeps those it has tried in one word.
pub const MAX_TARGETS: usize = 64;

/// Load-balancing method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// Each target in turn.
    RoundRobin,
    /// The target with the fewest requests in flight, bodies included; ties in turn.
    LeastConnections,
}

/// Policy of an upstream for its targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamPolicy {
    /// Load-balancing method.
    pub balance: Balance,
    /// Connection failures in a row that eject a target.
    pub eject_after: u32,
    /// Duration of an ejection.
    pub eject_for: Duration,
    /// Maximum of other targets that a retryable request tries.
    pub retries: usize,
    /// Maximum of requests in flight per target, bodies included; 0 means no limit.
    pub max_in_flight: usize,
    /// Active health checks, if any.
    pub health: Option<HealthCheck>,
    /// What requests to the targets prove themselves with.
    pub proof: Proof,
}

/// What a request carries to prove to an origin that it came through this gateway.
#[derive(Debug, Clone, Default)]
pub enum Proof {
    /// The shared secret, with the caller's identity beside it.
    #[default]
    Shared,
    /// A secret that only this upstream knows, likewise.
    Own(Secret),
    /// Nothing: the origin belongs to others. It is sent no identity either, which proves nothing
    /// without a secret.
    Withheld,
}

impl PartialEq for Proof {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Own(one), Self::Own(other)) => one.expose() == other.expose(),
            (Self::Shared, Self::Shared) | (Self::Withheld, Self::Withheld) => true,
            (Self::Shared | Self::Own(_) | Self::Withheld, _) => false,
        }
    }
}

impl Eq for Proof {}

/// One or several targets that serve the same requests.
pub struct Upstream {
    name: Arc<str>,
    targets: Box<[Arc<Target>]>,
    policy: UpstreamPolicy,
    turn: AtomicUsize,
    /// Indexed by [`Phase`]; shared with the upstreams of this name before and after.
    failed_attempts: Arc<[AtomicU64; Phase::ALL.len()]>,
}

impl Upstream {
    /// Creates an upstream of one to [`MAX_TARGETS`] targets.
    #[must_use]
    pub fn new(name: &str, urls: Vec<OriginUrl>, policy: UpstreamPolicy) -> Self {
        debug_assert!((1..=MAX_TARGETS).contains(&urls.len()));
        let targets = urls
            .into_iter()
            .map(|url| Arc::new(Target::new(url)))
            .collect();
        Self {
            name: name.into(),
            targets,
            policy,
            turn: AtomicUsize::new(0),
            failed_attempts: Arc::default(),
        }
    }

    /// Creates what succeeds `before`, an upstream of the same name, under new settings: its
    /// targets that stay keep their requests in flight, ejection and health, and its counters go
    /// on. Returns `before` itself if nothing differs.
    #[must_use]
    pub fn succeeding(
        before: &Arc<Self>,
        urls: Vec<OriginUrl>,
        policy: UpstreamPolicy,
    ) -> Arc<Self> {
        let shown = |url: &OriginUrl| url.to_string();
        let known: Vec<String> = before
            .targets
            .iter()
            .map(|known| shown(known.url()))
            .collect();
        let wanted: Vec<String> = urls.iter().map(shown).collect();
        if known == wanted && before.policy == policy {
            return Arc::clone(before);
        }
        let is_checked = policy.health.is_some();
        let mut next = Self::new(&before.name, urls, policy);
        for (target, wanted) in next.targets.iter_mut().zip(&wanted) {
            if let Some(at) = known.iter().position(|known| known == wanted) {
                *target = Arc::clone(&before.targets[at]);
                if !is_checked {
                    // Nothing would bring it back.
                    target.set_healthy(true);
                }
            }
        }
        next.failed_attempts = Arc::clone(&before.failed_attempts);
        Arc::new(next)
    }

    /// Creates an upstream with the single target `url`.
    #[must_use]
    pub fn single(name: &str, url: OriginUrl) -> Self {
        let policy = UpstreamPolicy {
            balance: Balance::RoundRobin,
            eject_after: u32::MAX,
            eject_for: Duration::ZERO,
            retries: 0,
            max_in_flight: 0,
            health: None,
            proof: Proof::Shared,
        };
        Self::new(name, vec![url], policy)
    }

    /// Name in logs.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Base path, the same for all targets; empty, or without a slash at its end.
    #[must_use]
    pub fn base_path(&self) -> &str {
        self.targets
            .first()
            .map_or("", |target| target.url().base_path())
    }

    /// Targets.
    #[must_use]
    pub fn targets(&self) -> &[Arc<Target>] {
        &self.targets
    }

    /// Policy.
    #[must_use]
    pub fn policy(&self) -> &UpstreamPolicy {
        &self.policy
    }

    /// Starts the attempts of one request.
    #[must_use]
    pub fn attempts(&self) -> Attempts<'_> {
        Attempts::new(self)
    }

    /// Number of attempts that failed in `phase`.
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

    /// Records that `target` took no connection, with `cause`.
    ///
    /// Ejects the target after enough failures in a row, as long as another target is left.
    fn failed(&self, target: &Target, cause: &dyn fmt::Display) {
        if self.targets.len() > 1 {
            self.eject_if_due(target, target.count_failure(), cause);
        }
    }

    /// Records that a new connection to `target` was lost over a request of `caller` before a
    /// response.
    ///
    /// Counts like [`failed`](Self::failed), but only when requests of several callers ended so:
    /// one request that crashes its server must not take the targets from all others.
    fn connection_lost(&self, target: &Target, caller: CallerTag, cause: &dyn fmt::Display) {
        if self.targets.len() > 1
            && let Some(failures) = target.count_lost_connection(caller)
        {
            self.eject_if_due(target, failures, cause);
        }
    }

    /// Ejects `target` if its failures require it and another is left.
    fn eject_if_due(&self, target: &Target, failures: u32, cause: &dyn fmt::Display) {
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
                "upstream {name:?}: target {target} is ejected for {} after {after} failed connections in a row: {cause}",
                humantime::format_duration(period)
            );
        }
    }

    /// Records that `target` responded.
    fn answered(&self, target: &Target) {
        if self.targets.len() > 1 && target.clear_failures() {
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
