//! [`When`]: a point in time as commands and queries accept it.

use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use crate::keys::UnixMillis;

/// A duration relative to now, or an absolute moment. The parameter decides between past and
/// future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// A duration from now.
    Span(Duration),
    /// An absolute moment.
    At(UnixMillis),
}

/// The text is not a [`When`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "write a duration such as `7d` or `12h`, a date such as `2030-01-31` (midnight UTC), or a moment such as \
     `2030-01-31T12:00:00Z`, before the year 10000"
)]
pub struct InvalidWhen;

/// The text is not a duration.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("write a duration such as `7d`, `12h` or `500ms`")]
pub struct InvalidSpan;

/// Parses a duration.
///
/// # Errors
/// Any other text.
pub fn parse_span(text: &str) -> Result<Duration, InvalidSpan> {
    humantime::parse_duration(text).map_err(|_| InvalidSpan)
}

impl When {
    /// Parses a duration, a date (midnight UTC) or an RFC 3339 moment.
    ///
    /// # Errors
    /// Any other text.
    pub fn parse(text: &str) -> Result<Self, InvalidWhen> {
        match UnixMillis::parse(text) {
            Ok(moment) => Ok(Self::At(moment)),
            // A duration needs a unit, even for zero.
            Err(_) if text.trim() == "0" => Err(InvalidWhen),
            Err(_) => parse_span(text).map(Self::Span).map_err(|_| InvalidWhen),
        }
    }

    /// Returns the moment, counting a duration back from `now`.
    #[must_use]
    pub fn ago(self, now: UnixMillis) -> UnixMillis {
        match self {
            Self::Span(span) => {
                let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
                UnixMillis(now.0.saturating_sub(millis))
            }
            Self::At(moment) => moment,
        }
    }

    /// Returns the moment, counting a duration forward from `now`.
    #[must_use]
    pub fn ahead(self, now: UnixMillis) -> UnixMillis {
        match self {
            Self::Span(span) => now.after(span),
            Self::At(moment) => moment,
        }
    }
}

impl FromStr for When {
    type Err = InvalidWhen;

    fn from_str(text: &str) -> Result<Self, InvalidWhen> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_length_of_time_a_date_or_a_moment() {
        let day = 86_400_000;
        let now = UnixMillis(1_000 * day);
        for (text, ago, ahead) in [
            ("7d", 993 * day, 1_007 * day),
            ("1h 30m", 1_000 * day - 5_400_000, 1_000 * day + 5_400_000),
            ("0s", 1_000 * day, 1_000 * day),
            ("1970-01-31", 30 * day, 30 * day),
            ("1970-01-31T00:00:00Z", 30 * day, 30 * day),
            ("1970-01-31T02:00:00.001+02:00", 30 * day + 1, 30 * day + 1),
        ] {
            let when = When::parse(text).unwrap();
            let read = (when.ago(now), when.ahead(now));
            assert_eq!(read, (UnixMillis(ago), UnixMillis(ahead)), "{text}");
        }
        let longest = When::parse("500000000000y").unwrap();
        assert_eq!(longest.ahead(now), UnixMillis(i64::MAX));
        assert!(longest.ago(now) < UnixMillis(0));
        for text in [
            "",
            " ",
            "30",
            "0",
            "-1d",
            "d30",
            "soon",
            "now",
            "2030-01",
            "2030-1-31",
            "2030-02-30",
            "31.01.2030",
            "2030-01-31 12:00",
            "2030-01-31T12:00:00",
            "+2030-01-31",
            "9999-12-31T23:59:59-23:59",
            "10000-01-01",
        ] {
            assert_eq!(When::parse(text), Err(InvalidWhen), "{text}");
        }
    }
}
