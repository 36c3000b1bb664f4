//! [`Lifetime`]: how long keys live, or may be unused.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use crate::keys::when::parse_span;

/// Maximum lifetime, in seconds: a hundred years of 365 days.
pub const MAX_SECONDS: u64 = 3_153_600_000;

/// A time of whole seconds, a second to [`MAX_SECONDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lifetime(Duration);

/// The text or number is not a [`Lifetime`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a time of whole seconds, a second to 36500 days, such as `90d` or `12h`")]
pub struct InvalidLifetime;

impl Lifetime {
    /// Builds a lifetime.
    ///
    /// # Errors
    /// 0, or more than [`MAX_SECONDS`].
    pub fn from_secs(seconds: u64) -> Result<Self, InvalidLifetime> {
        let lifetime = Self(Duration::from_secs(seconds));
        let is_valid = (1..=MAX_SECONDS).contains(&seconds);
        is_valid.then_some(lifetime).ok_or(InvalidLifetime)
    }

    /// Returns the duration.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0
    }

    /// Returns the number of seconds.
    #[must_use]
    pub fn as_secs(self) -> u64 {
        self.0.as_secs()
    }
}

impl FromStr for Lifetime {
    type Err = InvalidLifetime;

    fn from_str(text: &str) -> Result<Self, InvalidLifetime> {
        let span = parse_span(text).map_err(|_| InvalidLifetime)?;
        match span.subsec_nanos() {
            0 => Self::from_secs(span.as_secs()),
            _ => Err(InvalidLifetime),
        }
    }
}

impl fmt::Display for Lifetime {
    /// Writes days as days: a year of the calendar is not 365.25 of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY: u64 = 86_400;
        let seconds = self.as_secs();
        let (days, rest) = (seconds / DAY, seconds % DAY);
        let rest_text = humantime::format_duration(Duration::from_secs(rest));
        match (days, rest) {
            (0, _) => write!(f, "{rest_text}"),
            (_, 0) => write!(f, "{days}d"),
            _ => write!(f, "{days}d {rest_text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_whole_seconds_within_a_century() {
        for (text, shown) in [
            ("90d", "90d"),
            ("1s", "1s"),
            ("36h", "1d 12h"),
            ("36500d", "36500d"),
            ("1h 30m", "1h 30m"),
        ] {
            let lifetime: Lifetime = text.parse().unwrap();
            assert_eq!(lifetime.to_string(), shown);
            assert_eq!(shown.parse(), Ok(lifetime));
        }
        for text in ["0s", "", "90", "500ms", "36501d", "-1d", "never"] {
            assert_eq!(text.parse::<Lifetime>(), Err(InvalidLifetime), "{text}");
        }
    }
}
