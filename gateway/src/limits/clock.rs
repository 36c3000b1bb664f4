//! The clock of limits: wall time as of the start, which then moves with the monotonic clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::wire::clock;

/// Point in time in nanoseconds since the Unix epoch, by a [`LimitClock`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub(super) u64);

/// Clock of one process. Windows begin at whole multiples of their length since the Unix epoch, so
/// gateways with right clocks agree about them. A wall clock that is set while the process runs has
/// no effect.
#[derive(Clone, Copy, Debug)]
pub struct LimitClock {
    started: Instant,
    started_at: Moment,
}

impl LimitClock {
    /// Reads the wall clock, for the only time.
    #[must_use]
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            started: Instant::now(),
            started_at: Moment(nanos(wall.unwrap_or_default())),
        }
    }

    /// The time of the present wake-up.
    #[must_use]
    pub fn now(&self) -> Moment {
        let passed = clock::now()
            .into_std()
            .saturating_duration_since(self.started);
        self.started_at.after(passed)
    }
}

impl Moment {
    /// The moment `span` later.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }

    /// Time until `later`; none if that is past.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        Duration::from_nanos(later.0.saturating_sub(self.0))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn unix_millis(self) -> i64 {
        i64::try_from(self.0 / 1_000_000).unwrap_or(i64::MAX)
    }
}

/// Nanoseconds of `span`, at most those of 584 years.
pub(super) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
