//! [`UnixMillis`]: a moment in its stored and comparable form.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thiserror::Error;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Last millisecond of the year 9999.
const LAST_MILLIS: u64 = 253_402_300_799_999;

/// Milliseconds since 1970-01-01 UTC. Displayed and parsed as RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixMillis(pub i64);

/// The text is not a moment.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "a time is written as in RFC 3339, for example 2030-01-31T12:00:00Z, or as a date, which is midnight UTC, and is before the \
     year 10000 in UTC"
)]
pub struct InvalidTime;

impl UnixMillis {
    /// Reads the system clock.
    #[must_use]
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// Adds `duration`, saturating at the end of time.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// Parses a date (midnight UTC) or an RFC 3339 moment, see
    /// [`parse_rfc3339`](Self::parse_rfc3339).
    ///
    /// # Errors
    /// Any other text.
    pub fn parse(text: &str) -> Result<Self, InvalidTime> {
        // `parse_rfc3339` validates the whole.
        if text.len() == "2030-01-31".len() {
            Self::parse_rfc3339(&format!("{text}T00:00:00Z"))
        } else {
            Self::parse_rfc3339(text)
        }
    }

    /// Parses RFC 3339 with any offset, to the millisecond. Refuses a moment that an offset moves
    /// beyond the year 9999, which has no text in UTC.
    pub fn parse_rfc3339(text: &str) -> Result<Self, InvalidTime> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| InvalidTime)?;
        let moment = i64::try_from(moment.unix_timestamp_nanos() / 1_000_000)
            .map(Self)
            .map_err(|_| InvalidTime)?;
        if moment.is_representable() {
            Ok(moment)
        } else {
            Err(InvalidTime)
        }
    }

    /// Returns whether RFC 3339 can represent the moment; its years end with 9999.
    #[must_use]
    pub fn is_representable(self) -> bool {
        self.rfc3339().is_some()
    }

    fn rfc3339(self) -> Option<String> {
        let moment =
            OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000).ok()?;
        moment.format(&Rfc3339).ok()
    }
}

impl From<SystemTime> for UnixMillis {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(0).after(since)
    }
}

impl From<UnixMillis> for SystemTime {
    /// Clamps to 1970–9999, whatever the database holds: HTTP dates end there, and formatting a
    /// later one panics.
    fn from(at: UnixMillis) -> Self {
        UNIX_EPOCH + Duration::from_millis(u64::try_from(at.0).unwrap_or_default().min(LAST_MILLIS))
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rfc3339() {
            Some(text) => f.pad(&text),
            None => write!(f, "{} ms", self.0),
        }
    }
}

impl serde::Serialize for UnixMillis {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_3339_reads_back() {
        for (text, millis, shown) in [
            ("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z"),
            (
                "2030-01-31T12:00:00.25Z",
                1_896_091_200_250,
                "2030-01-31T12:00:00.25Z",
            ),
            (
                "2030-01-31T14:00:00+02:00",
                1_896_091_200_000,
                "2030-01-31T12:00:00Z",
            ),
            (
                "9999-12-31T23:59:59.999Z",
                253_402_300_799_999,
                "9999-12-31T23:59:59.999Z",
            ),
            (
                "0000-01-01T00:00:00Z",
                -62_167_219_200_000,
                "0000-01-01T00:00:00Z",
            ),
        ] {
            let moment = UnixMillis::parse_rfc3339(text).unwrap();
            assert_eq!(moment, UnixMillis(millis), "{text}");
            assert_eq!(moment.to_string(), shown, "{text}");
        }
        for text in [
            "",
            "tomorrow",
            "2030-01-31",
            "2030-01-31 12:00",
            "2030-02-30T00:00:00Z",
            "2030-01-31T12:00:00",
            "9999-12-31T23:59:59-23:59",
            "9999-12-31T23:59:59-00:01",
            "0000-01-01T00:00:00+00:01",
        ] {
            assert_eq!(UnixMillis::parse_rfc3339(text), Err(InvalidTime), "{text}");
        }
    }

    #[test]
    fn times_beyond_the_calendar_do_not_panic() {
        let end = UnixMillis(i64::MAX - 1).after(Duration::from_secs(60));
        assert_eq!(end, UnixMillis(i64::MAX));
        assert!(!end.is_representable());
        assert_eq!(end.to_string(), format!("{} ms", i64::MAX));
        for (stored, seconds) in [
            (i64::MAX, 253_402_300_799),
            (253_402_387_139_000, 253_402_300_799),
            (i64::MIN, 0),
        ] {
            let told = SystemTime::from(UnixMillis(stored))
                .duration_since(UNIX_EPOCH)
                .unwrap();
            assert_eq!(told.as_secs(), seconds, "{stored}");
        }
    }
}
