//! Periods of quotas: hours, days, weeks, months, years, in a time zone. Each bound is computed
//! from the anchor, so that a month anchored on the 31st comes back to it.
//!
//! Days begin at the local midnight, or where the clocks skip it, at the first moment after: a day
//! has 23 to 25 hours where clocks change. Hours are those of UTC. A local date that clocks repeat
//! belongs to the period that it first belonged to, so that no period comes back.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use crate::keys::{QuotaAnchor as Anchor, QuotaPeriod as Length, UnixMillis};

/// Milliseconds of an hour.
const HOUR: i64 = 3_600_000;

/// Rule that divides time into periods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Periods {
    /// Length of each.
    pub length: Length,
    /// Beginning of each.
    pub anchor: Anchor,
    /// Time zone of days and longer ones.
    pub zone: TimeZone,
}

/// One period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// First millisecond.
    pub start: UnixMillis,
    /// First millisecond of the next period; `None` if there is none.
    pub end: Option<UnixMillis>,
}

impl Bounds {
    /// Whether `at` is in the period.
    #[must_use]
    pub fn has(&self, at: UnixMillis) -> bool {
        self.start <= at && self.end.is_none_or(|end| at < end)
    }
}

impl Periods {
    /// The period that `at` falls into, of a subject that was `created` then.
    #[must_use]
    pub fn at(&self, at: UnixMillis, created: UnixMillis) -> Bounds {
        match self.length {
            Length::Hour => {
                let start = at.0.div_euclid(HOUR).saturating_mul(HOUR);
                Bounds {
                    start: UnixMillis(start),
                    end: Some(UnixMillis(start.saturating_add(HOUR))),
                }
            }
            Length::Lifetime => Bounds {
                start: UnixMillis(0),
                end: None,
            },
            Length::Day | Length::Week | Length::Month | Length::Year => {
                self.of_dates(at, self.begin(created))
            }
        }
    }

    fn of_dates(&self, at: UnixMillis, begin: Date) -> Bounds {
        let (at, date) = self.local(at);
        let mut number = self.number_of(date, begin);
        // By the instants, not by the date: where clocks are set back over midnight, a date comes
        // twice.
        while self.start_of(number + 1, begin) <= at {
            number += 1;
        }
        while self.start_of(number, begin) > at {
            number -= 1;
        }
        let start = self.start_of(number, begin);
        let end = self.start_of(number + 1, begin);
        Bounds {
            start: UnixMillis(start.as_millisecond()),
            end: Some(UnixMillis(end.as_millisecond())),
        }
    }

    /// Where periods begin.
    fn begin(&self, created: UnixMillis) -> Date {
        // A Monday, the first of a month, and the first of a year in one.
        let calendar = Date::constant(2001, 1, 1);
        match self.anchor {
            Anchor::Calendar => calendar,
            Anchor::Created => self.local(created).1,
            Anchor::Day(day) => {
                let day = i8::try_from(day).unwrap_or(1);
                calendar.with().day(day).build().unwrap_or(calendar)
            }
        }
    }

    /// Number of a period that `date` is in or near.
    fn number_of(&self, date: Date, begin: Date) -> i64 {
        let days = || days_between(begin, date);
        match self.length {
            Length::Week => days().div_euclid(7),
            Length::Month => {
                let months = |date: Date| i64::from(date.year()) * 12 + i64::from(date.month());
                let number = months(date) - months(begin);
                let first = self.date_of(number, begin);
                number - i64::from(date < first)
            }
            Length::Year => {
                let number = i64::from(date.year()) - i64::from(begin.year());
                let first = self.date_of(number, begin);
                number - i64::from(date < first)
            }
            Length::Hour | Length::Day | Length::Lifetime => days(),
        }
    }

    /// First date of a period. Shorter months have its last day.
    fn date_of(&self, number: i64, begin: Date) -> Date {
        let span = match self.length {
            Length::Week => (number * 7).days(),
            Length::Month => number.months(),
            Length::Year => number.years(),
            Length::Hour | Length::Day | Length::Lifetime => number.days(),
        };
        // From the anchor each time. Constrains the day to the month, and dates to those that
        // there are.
        begin.saturating_add(span)
    }

    fn start_of(&self, number: i64, begin: Date) -> Timestamp {
        let date = self.date_of(number, begin);
        // A midnight that clocks skip is the moment after, one that they repeat is the first.
        let midnight = date.to_zoned(self.zone.clone());
        midnight.map_or(Timestamp::MAX, |midnight| midnight.timestamp())
    }

    /// The moment, held to what calendars can express, and its local date.
    fn local(&self, at: UnixMillis) -> (Timestamp, Date) {
        let at = at.0.clamp(MIN_MILLIS, MAX_MILLIS);
        let at = Timestamp::from_millisecond(at).unwrap_or(Timestamp::UNIX_EPOCH);
        (at, at.to_zoned(self.zone.clone()).date())
    }
}

/// Years 1 and 9000: far enough from where calendars end.
const MIN_MILLIS: i64 = -62_000_000_000_000;
const MAX_MILLIS: i64 = 221_000_000_000_000;

fn days_between(from: Date, to: Date) -> i64 {
    to.duration_since(from).as_hours().div_euclid(24)
}

/// Finds a time zone by its name in the IANA database, such as `Europe/Berlin`.
#[must_use]
pub fn zone(name: &str) -> Option<TimeZone> {
    TimeZone::get(name).ok()
}

#[cfg(test)]
mod tests;
