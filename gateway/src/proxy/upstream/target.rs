//! One target of an upstream, and what the threads of the process tell each other of it.

use std::fmt;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::auth::CallerTag;
use crate::proxy::OriginUrl;

/// What times are counted from, so that one fits a word.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Whether a target takes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It does.
    Up,
    /// It is left out for a while after connection failures.
    Ejected,
    /// It is left out until its health checks succeed.
    Unhealthy,
}

impl State {
    /// As operators are told.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Ejected => "ejected",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// One target of an upstream.
///
/// The counters are hints that order nothing else, hence relaxed throughout.
pub struct Target {
    url: OriginUrl,
    in_flight: AtomicUsize,
    failures: AtomicU32,
    /// Connections in a row that died over a request, by whoever sent it.
    deaths: AtomicU32,
    /// Who sent the first of them; 0 while there is none.
    first_killer: AtomicU64,
    /// Whether another caller's request was among them.
    several_killers: AtomicBool,
    /// Milliseconds since [`BEGINNING`]; 0 while nothing was held against it.
    ejected_until: AtomicU64,
    unhealthy: AtomicBool,
}

impl Target {
    pub(super) fn new(url: OriginUrl) -> Self {
        LazyLock::force(&BEGINNING);
        Self {
            url,
            in_flight: AtomicUsize::new(0),
            failures: AtomicU32::new(0),
            deaths: AtomicU32::new(0),
            first_killer: AtomicU64::new(0),
            several_killers: AtomicBool::new(false),
            ejected_until: AtomicU64::new(0),
            unhealthy: AtomicBool::new(false),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &OriginUrl {
        &self.url
    }

    /// Requests in flight, bodies included; counted where the upstream needs to know.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether it takes requests.
    #[must_use]
    pub fn state(&self) -> State {
        if self.unhealthy.load(Ordering::Relaxed) {
            return State::Unhealthy;
        }
        match self.ejected_until.load(Ordering::Relaxed) {
            0 => State::Up,
            until if until <= millis_now() => State::Up,
            _ => State::Ejected,
        }
    }

    /// Counts a request until what is returned is dropped; nothing if there are `most` already, and 0 is no limit.
    pub(super) fn enter(self: &Arc<Self>, most: usize) -> Option<InFlight> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        // Made first, so that one that is too many is taken back.
        let entered = InFlight(Arc::clone(self));
        (most == 0 || before < most).then_some(entered)
    }

    /// Counts a failure, and returns how many there were in a row.
    pub(super) fn count_failure(&self) -> u32 {
        self.failures
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1)
            .saturating_add(self.deaths_by_several())
    }

    /// Counts a connection that died over a request of `caller`, and returns how many failures there were in a row; none as long
    /// as all such requests were of one caller, for they may be what kills.
    pub(super) fn count_death(&self, caller: CallerTag) -> Option<u32> {
        self.deaths.fetch_add(1, Ordering::Relaxed);
        let (none, word) = (0, caller.word());
        let first =
            self.first_killer
                .compare_exchange(none, word, Ordering::Relaxed, Ordering::Relaxed);
        if first.is_err_and(|first| first != word) {
            self.several_killers.store(true, Ordering::Relaxed);
        }
        let deaths = self.deaths_by_several();
        (deaths > 0).then(|| self.failures.load(Ordering::Relaxed).saturating_add(deaths))
    }

    /// How many connections in a row died over requests, if they were those of several callers.
    fn deaths_by_several(&self) -> u32 {
        if self.several_killers.load(Ordering::Relaxed) {
            self.deaths.load(Ordering::Relaxed)
        } else {
            0
        }
    }

    /// Leaves it out for `period`; whether it was not already.
    pub(super) fn eject(&self, period: Duration) -> bool {
        let now = millis_now();
        let until = now + u64::try_from(period.as_millis()).unwrap_or(u64::MAX / 2);
        self.ejected_until.swap(until, Ordering::Relaxed) <= now
    }

    /// Holds no failure against it any more; whether it had been left out for them.
    pub(super) fn forget_failures(&self) -> bool {
        // Written only when there is something to write: reading leaves the other threads' caches alone.
        if self.failures.load(Ordering::Relaxed) == 0 && self.deaths.load(Ordering::Relaxed) == 0 {
            return false;
        }
        self.failures.store(0, Ordering::Relaxed);
        self.deaths.store(0, Ordering::Relaxed);
        self.first_killer.store(0, Ordering::Relaxed);
        self.several_killers.store(false, Ordering::Relaxed);
        self.ejected_until.swap(0, Ordering::Relaxed) != 0
    }

    /// What its health checks found; whether that is new.
    pub(super) fn set_healthy(&self, healthy: bool) -> bool {
        self.unhealthy.swap(!healthy, Ordering::Relaxed) == healthy
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.url, f)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("url", &self.url)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

/// One request in flight to a target, until this is dropped.
#[derive(Debug)]
pub struct InFlight(Arc<Target>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Never 0, which means never.
fn millis_now() -> u64 {
    u64::try_from(BEGINNING.elapsed().as_millis())
        .unwrap_or(u64::MAX / 2)
        .max(1)
}
