//! What was done with a key, counted by hours.

use std::ops::AddAssign;

use crate::keys::{KeyId, UnixMillis};

/// An hour of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(i64);

impl Hour {
    /// How long one is.
    pub const MILLIS: i64 = 3_600_000;

    /// The hour that `at` is in.
    #[must_use]
    pub fn of(at: UnixMillis) -> Self {
        Self(at.0.div_euclid(Self::MILLIS))
    }

    /// Its first millisecond.
    #[must_use]
    pub fn start(self) -> UnixMillis {
        UnixMillis(self.0.saturating_mul(Self::MILLIS))
    }
}

/// How much was done. Counts stand still at the largest number instead of beginning again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageCounts {
    /// Requests that came with the key, those that were refused included.
    pub requests: u64,
    /// Those that the gateway refused with a 4xx: the key was not good, or not for that, or the request was not.
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

/// What came to be done with a key in an hour since it was told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUsage {
    /// The key.
    pub key: KeyId,
    /// The hour.
    pub hour: Hour,
    /// How much more.
    pub counts: UsageCounts,
    /// When it was last used, if it was: a request that is refused is no use.
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
