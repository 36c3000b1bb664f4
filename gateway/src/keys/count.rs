//! [`Count`]: a number from 1 to a maximum.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use thiserror::Error;

/// Maximum number of requests in flight.
pub const MAX_IN_FLIGHT: u32 = 1_000_000;

/// A number from 1 to `MOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count<const MOST: u32>(NonZeroU32);

/// A number of requests in flight.
pub type MaxInFlight = Count<MAX_IN_FLIGHT>;

/// A number of live keys of one consumer.
pub type MaxLiveKeys = Count<100_000>;

/// The number is not a [`Count`] up to this maximum.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a whole number from 1 to {0} belongs here")]
pub struct InvalidCount(u32);

impl<const MOST: u32> Count<MOST> {
    /// Returns the number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl<const MOST: u32> TryFrom<u64> for Count<MOST> {
    type Error = InvalidCount;

    fn try_from(number: u64) -> Result<Self, InvalidCount> {
        let number = u32::try_from(number).ok().and_then(NonZeroU32::new);
        number
            .filter(|number| number.get() <= MOST)
            .map(Self)
            .ok_or(InvalidCount(MOST))
    }
}

impl<const MOST: u32> FromStr for Count<MOST> {
    type Err = InvalidCount;

    fn from_str(text: &str) -> Result<Self, InvalidCount> {
        let number: Option<u64> = text.parse().ok();
        number.ok_or(InvalidCount(MOST))?.try_into()
    }
}

impl<const MOST: u32> fmt::Display for Count<MOST> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const MOST: u32> serde::Serialize for Count<MOST> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_within_its_bounds() {
        for (text, number) in [("1", Some(1)), ("100000", Some(100_000)), ("007", Some(7))] {
            assert_eq!(text.parse().ok().map(MaxLiveKeys::get), number, "{text}");
        }
        for text in ["0", "100001", "-1", "1.0", "", "99999999999999999999"] {
            assert!(text.parse::<MaxLiveKeys>().is_err(), "{text}");
        }
        assert!(MaxInFlight::try_from(1_000_001).is_err() && MaxInFlight::try_from(0).is_err());
    }
}
