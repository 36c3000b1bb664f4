//! [`Allowance`]: how much a key, a consumer or a plan may do. Numbers only: what is counted and
//! for whom, the limits of the configuration say.

mod quota;
mod rate;
mod reading;

pub use crate::keys::count::MAX_IN_FLIGHT;
pub use quota::{QuotaAllowance, QuotaAnchor, QuotaPeriod};
pub use rate::{MAX_WINDOW, RateAllowance, window_text};
pub use reading::{InvalidAllowance, whole};

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use crate::keys::MaxInFlight;

/// Maximum number of rates, and of quotas, of one subject.
pub const MAX_ENTRIES: usize = 8;
/// Maximum length of a limit's name, in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// Maximum number of requests of a rate.
pub const MAX_RATE: u64 = 60_000_000;
/// Maximum number of requests of a quota.
pub const MAX_QUOTA: u64 = 1_000_000_000_000_000;

/// Numbers of a key, a consumer or a plan in place of those of the configuration. Empty for a
/// subject without its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Rates.
    pub rates: Rates,
    /// Quotas.
    pub quotas: Quotas,
    /// Requests in flight; `None` if the subject has no number of its own.
    pub max_in_flight: Option<MaxInFlight>,
}

/// Rates of one subject.
pub type Rates = Entries<RateAllowance>;
/// Quotas of one subject.
pub type Quotas = Entries<QuotaAllowance>;

/// At most [`MAX_ENTRIES`] entries with unique names, in the given order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entries<T>(Box<[T]>);

/// Name of a limit: 1 to [`MAX_NAME_BYTES`] lower-case letters, digits and `-`, with no `-` at the
/// ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitName(Box<str>);

/// The text is not a [`LimitName`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "the name of a limit is 1 to {MAX_NAME_BYTES} lower-case letters, digits and `-`, with no `-` at the ends"
)]
pub struct InvalidLimitName;

/// The entries are not a list of [`Entries`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidEntries {
    /// More than [`MAX_ENTRIES`].
    #[error("there are at most {MAX_ENTRIES} {0}")]
    TooMany(&'static str),
    /// Two entries of one name.
    #[error("two {0} have the same name")]
    Twice(&'static str),
}

/// A number that a key cannot have beside its consumer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotGranted {
    /// Attribute: `limits`, `quotas` or `max_in_flight`.
    pub attribute: &'static str,
    /// Position in the list; `None` for `max_in_flight`.
    pub index: Option<usize>,
    /// Name of the limit; `None` for `max_in_flight`.
    pub name: Option<LimitName>,
}

impl fmt::Display for NotGranted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "the number `{name}` in `{}`", self.attribute),
            None => write!(f, "the number `{}`", self.attribute),
        }
    }
}

/// An entry of [`Entries`].
pub trait Entry: Sized {
    /// Plural name, for messages.
    const MANY: &'static str;

    /// Returns the name.
    fn name(&self) -> &LimitName;

    /// Returns whether a key with this number would have more than its consumer with `granted`.
    fn is_above(&self, granted: Option<&Self>) -> bool;

    /// Reads an entry from JSON.
    ///
    /// # Errors
    /// Every mistake, with its place in the entry.
    fn from_json(value: &Value) -> Result<Self, Vec<InvalidAllowance>>;
}

impl Allowance {
    /// Returns whether there is no number at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rates.is_empty() && self.quotas.is_empty() && self.max_in_flight.is_none()
    }

    /// Returns the first number that a key cannot have, because its consumer has less. The
    /// consumer's own number precedes that of its plan. A key is never unlimited.
    #[must_use]
    pub fn first_not_granted(&self, consumer: &Self, plan: Option<&Self>) -> Option<NotGranted> {
        let rates = not_granted("limits", &self.rates, |name| {
            let of_plan = || plan?.rates.named(name);
            consumer.rates.named(name).or_else(of_plan)
        });
        let quotas = || {
            not_granted("quotas", &self.quotas, |name| {
                let of_plan = || plan?.quotas.named(name);
                consumer.quotas.named(name).or_else(of_plan)
            })
        };
        let in_flight = || {
            let of_plan = || plan?.max_in_flight;
            let granted = consumer.max_in_flight.or_else(of_plan)?;
            (self.max_in_flight? > granted).then_some(NotGranted {
                attribute: "max_in_flight",
                index: None,
                name: None,
            })
        };
        rates.or_else(quotas).or_else(in_flight)
    }
}

fn not_granted<'g, T: Entry + 'g>(
    attribute: &'static str,
    own: &Entries<T>,
    granted: impl Fn(&LimitName) -> Option<&'g T>,
) -> Option<NotGranted> {
    own.iter().enumerate().find_map(|(index, entry)| {
        let is_above = entry.is_above(granted(entry.name()));
        is_above.then(|| NotGranted {
            attribute,
            index: Some(index),
            name: Some(entry.name().clone()),
        })
    })
}

impl<T: Entry> Entries<T> {
    /// Collects `entries`.
    ///
    /// # Errors
    /// Too many, or a name twice.
    pub fn new(entries: impl IntoIterator<Item = T>) -> Result<Self, InvalidEntries> {
        let entries: Box<[T]> = entries.into_iter().collect();
        if entries.len() > MAX_ENTRIES {
            return Err(InvalidEntries::TooMany(T::MANY));
        }
        let is_twice = |(index, entry): (usize, &T)| {
            let before = entries.iter().take(index);
            before.into_iter().any(|other| other.name() == entry.name())
        };
        if entries.iter().enumerate().any(is_twice) {
            return Err(InvalidEntries::Twice(T::MANY));
        }
        Ok(Self(entries))
    }

    /// Returns the entry of this name.
    #[must_use]
    pub fn named(&self, name: &LimitName) -> Option<&T> {
        self.iter().find(|entry| entry.name() == name)
    }

    /// Reads a list from JSON.
    ///
    /// # Errors
    /// Every mistake, with its place in the list.
    pub fn from_json(value: &Value) -> Result<Self, Vec<InvalidAllowance>> {
        let Value::Array(items) = value else {
            return Err(vec![InvalidAllowance::at("", "an array belongs here")]);
        };
        let mut entries = Vec::with_capacity(items.len().min(MAX_ENTRIES));
        let mut mistakes = Vec::new();
        if items.len() > MAX_ENTRIES {
            let too_many = InvalidEntries::TooMany(T::MANY);
            return Err(vec![InvalidAllowance::at("", too_many)]);
        }
        for (index, item) in items.iter().enumerate() {
            match T::from_json(item) {
                Ok(entry) => entries.push(entry),
                Err(wrong) => {
                    mistakes.extend(wrong.into_iter().map(|wrong| wrong.within(index)));
                }
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        Self::new(entries).map_err(|error| vec![InvalidAllowance::at("", error)])
    }
}

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<T> Deref for Entries<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Serialize> Serialize for Entries<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<T: Entry + FromStr<Err = String>> FromStr for Entries<T> {
    type Err = String;

    /// Parses a JSON array, or entries as commands accept them with spaces, `,` or `;` between.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim_start().starts_with('[') {
            let value: Value =
                serde_json::from_str(text).map_err(|_| "starts like JSON but is invalid")?;
            return Self::from_json(&value).map_err(|mistakes| reading::joined(&mistakes));
        }
        let words = text.split([' ', ',', ';']).filter(|word| !word.is_empty());
        let entries: Result<Vec<T>, String> = words.map(str::parse).collect();
        Self::new(entries?).map_err(|error| error.to_string())
    }
}

impl<T: fmt::Display> fmt::Display for Entries<T> {
    /// Writes the entries as commands accept them, with spaces between.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, entry) in self.0.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{entry}")?;
        }
        Ok(())
    }
}

impl LimitName {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LimitName {
    type Err = InvalidLimitName;

    fn from_str(text: &str) -> Result<Self, InvalidLimitName> {
        let is_name = (1..=MAX_NAME_BYTES).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        is_name.then(|| Self(text.into())).ok_or(InvalidLimitName)
    }
}

impl fmt::Display for LimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for LimitName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
