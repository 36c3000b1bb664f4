//! Usage of a key, counted by hour.

use std::ops::AddAssign;

use crate::keys::{KeyId, UnixMillis};

/// An hour in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(i64);

impl Hour {
    /// Length of an hour.
    pub const MILLIS: i64 = 3_600_000;

    /// Returns the hour of `at`.
    #[must_use]
    pub fn of(at: UnixMillis) -> Self {
        Self(at.0.div_euclid(Self::MILLIS))
    }

    /// Returns the first millisecond.
    #[must_use]
    pub fn start(self) -> UnixMillis {
        UnixMillis(self.0.saturating_mul(Self::MILLIS))
    }
}

/// Usage counters. They saturate instead of wrapping around.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageCounts {
    /// Requests with the key, including refused ones.
    pub requests: u64,
    /// Requests that the gateway refused with a 4xx, because of the key, its permissions or the
    /// request.
    pub refusals: u64,
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of response bodies.
    pub bytes_out: u64,
}

impl AddAssign for UsageCounts {
    fn add_assign(&mut self, more: Self) {
        self.requests = self.requests.saturating_add(more.requests);
        self.refusals = self.refusals.saturating_add(more.refusals);
        self.bytes_in = self.bytes_in.saturating_add(more.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(more.bytes_out);
    }
}

/// Usage of a key in an hour since the last report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUsage {
    /// Id of the key.
    pub key: KeyId,
    /// Hour of the usage.
    pub hour: Hour,
    /// Increments of the counters.
    pub counts: UsageCounts,
    /// Time of the last accepted request; `None` if all were refused.
    pub last_used_at: Option<UnixMillis>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_begins_with_its_first_millisecond() {
        for (at, start) in [
            (0, 0),
            (3_599_999, 0),
            (3_600_000, 3_600_000),
            (-1, -3_600_000),
        ] {
            assert_eq!(Hour::of(UnixMillis(at)).start(), UnixMillis(start), "{at}");
        }
    }

    #[test]
    fn counts_do_not_begin_again() {
        let mut counts = UsageCounts {
            requests: u64::MAX,
            ..UsageCounts::default()
        };
        counts += UsageCounts {
            requests: 1,
            refusals: 1,
            bytes_in: 2,
            bytes_out: 3,
        };
        assert_eq!(
            counts,
            UsageCounts {
                requests: u64::MAX,
                refusals: 1,
                bytes_in: 2,
                bytes_out: 3
            }
        );
    }
}
