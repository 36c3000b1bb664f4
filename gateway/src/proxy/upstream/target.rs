//! One target of an upstream, and its state shared between threads.

use std::fmt;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::auth::CallerTag;
use crate::proxy::OriginUrl;

/// Epoch of the times below, so that one fits a word.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Availability of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// In use.
    Up,
    /// Ejected for a while after connection failures.
    Ejected,
    /// Out of use until its health checks succeed.
    Unhealthy,
}

impl State {
    /// Name for operators.
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
    /// Connections in a row that were lost over a request, of any caller.
    lost_connections: AtomicU32,
    /// Tag of the caller of the first of these; 0 if there is none.
    first_caller: AtomicU64,
    /// Whether requests of another caller were among them.
    several_callers: AtomicBool,
    /// Milliseconds since [`BEGINNING`]; 0 if never ejected.
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
            lost_connections: AtomicU32::new(0),
            first_caller: AtomicU64::new(0),
            several_callers: AtomicBool::new(false),
            ejected_until: AtomicU64::new(0),
            unhealthy: AtomicBool::new(false),
        }
    }

    /// Address.
    #[must_use]
    pub fn url(&self) -> &OriginUrl {
        &self.url
    }

    /// Requests in flight, bodies included; counted only where the upstream needs it.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Current availability.
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

    /// Counts a request until the return value is dropped; `None` if there are `most` already,
    /// where 0 is no limit.
    pub(super) fn enter(self: &Arc<Self>, most: usize) -> Option<InFlight> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        // Created before the check, so that its drop undoes an excess count.
        let entered = InFlight(Arc::clone(self));
        (most == 0 || before < most).then_some(entered)
    }

    /// Counts a failure and returns the number in a row.
    pub(super) fn count_failure(&self) -> u32 {
        self.failures
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1)
            .saturating_add(self.lost_with_several_callers())
    }

    /// Counts a connection lost over a request of `caller` and returns the number of failures in a
    /// row. Returns `None` while one caller sent all such requests, since the requests may be the
    /// cause.
    pub(super) fn count_lost_connection(&self, caller: CallerTag) -> Option<u32> {
        self.lost_connections.fetch_add(1, Ordering::Relaxed);
        let (none, word) = (0, caller.word());
        let first =
            self.first_caller
                .compare_exchange(none, word, Ordering::Relaxed, Ordering::Relaxed);
        if first.is_err_and(|first| first != word) {
            self.several_callers.store(true, Ordering::Relaxed);
        }
        let lost_connections = self.lost_with_several_callers();
        (lost_connections > 0).then(|| {
            self.failures
                .load(Ordering::Relaxed)
                .saturating_add(lost_connections)
        })
    }

    /// Lost connections in a row, if several callers' requests were involved.
    fn lost_with_several_callers(&self) -> u32 {
        if self.several_callers.load(Ordering::Relaxed) {
            self.lost_connections.load(Ordering::Relaxed)
        } else {
            0
        }
    }

    /// Ejects the target for `period`. Returns whether it was in use before.
    pub(super) fn eject(&self, period: Duration) -> bool {
        let now = millis_now();
        let until = now + u64::try_from(period.as_millis()).unwrap_or(u64::MAX / 2);
        self.ejected_until.swap(until, Ordering::Relaxed) <= now
    }

    /// Clears all failures. Returns whether the target was ejected.
    pub(super) fn clear_failures(&self) -> bool {
        // Written only if needed: a mere read leaves the other threads' caches alone.
        if self.failures.load(Ordering::Relaxed) == 0
            && self.lost_connections.load(Ordering::Relaxed) == 0
        {
            return false;
        }
        self.failures.store(0, Ordering::Relaxed);
        self.lost_connections.store(0, Ordering::Relaxed);
        self.first_caller.store(0, Ordering::Relaxed);
        self.several_callers.store(false, Ordering::Relaxed);
        self.ejected_until.swap(0, Ordering::Relaxed) != 0
    }

    /// Stores the result of the health checks. Returns whether it changed.
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

/// One request in flight to a target; dropping it releases the count.
#[derive(Debug)]
pub struct InFlight(Arc<Target>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Never 0, which means never ejected.
fn millis_now() -> u64 {
    u64::try_from(BEGINNING.elapsed().as_millis())
        .unwrap_or(u64::MAX / 2)
        .max(1)
}
