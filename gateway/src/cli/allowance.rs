//! Options for the numbers of keys, consumers and plans.

use crate::cli::error::CommandError;
use crate::keys::allowance::{Entries, InvalidEntries};
use crate::keys::{MaxInFlight, QuotaAllowance, Quotas, RateAllowance, Rates};

/// Numbers of something new.
#[derive(Debug, clap::Args)]
pub(super) struct AllowanceOptions {
    /// Rate, repeatable, at most 8: `NAME=LIMIT/WINDOW`, such as `burst=500/1m`, or
    /// `NAME=unlimited`. The name of a limit of the configuration replaces its number, and its
    /// window may be left out; another name adds a limit.
    #[arg(long = "limit", value_name = "NAME=LIMIT/WINDOW")]
    limits: Vec<RateAllowance>,
    /// Quota, repeatable, at most 8: `NAME=LIMIT`, `NAME=LIMIT/PERIOD@ANCHOR`, such as
    /// `monthly=5000000/month@15`, or `NAME=unlimited`. The period is `hour`, `day`, `week`,
    /// `month`, `year` or `lifetime`, the anchor `calendar`, `created` or a day of the month.
    #[arg(long = "quota", value_name = "NAME=LIMIT/PERIOD@ANCHOR")]
    quotas: Vec<QuotaAllowance>,
    /// Requests in flight at once, 1 to 1000000.
    #[arg(long, value_name = "NUMBER")]
    pub(super) max_in_flight: Option<MaxInFlight>,
}

/// Changed numbers.
#[derive(Debug, clap::Args)]
pub(super) struct AllowanceEdit {
    #[command(flatten)]
    new: AllowanceOptions,
    /// Remove all limits.
    #[arg(long, conflicts_with = "limits")]
    no_limits: bool,
    /// Remove all quotas.
    #[arg(long, conflicts_with = "quotas")]
    no_quotas: bool,
    /// Remove the number of requests in flight.
    #[arg(long, conflicts_with = "max_in_flight")]
    no_max_in_flight: bool,
}

impl AllowanceOptions {
    pub(super) fn limits(&self) -> Result<Rates, InvalidEntries> {
        Entries::new(self.limits.iter().cloned())
    }

    pub(super) fn quotas(&self) -> Result<Quotas, InvalidEntries> {
        Entries::new(self.quotas.iter().cloned())
    }
}

impl AllowanceEdit {
    /// Returns the new list of limits, if one is given.
    pub(super) fn limits(&self) -> Result<Option<Rates>, CommandError> {
        let is_given = self.no_limits || !self.new.limits.is_empty();
        Ok(is_given.then(|| self.new.limits()).transpose()?)
    }

    /// Returns the new list of quotas, if one is given.
    pub(super) fn quotas(&self) -> Result<Option<Quotas>, CommandError> {
        let is_given = self.no_quotas || !self.new.quotas.is_empty();
        Ok(is_given.then(|| self.new.quotas()).transpose()?)
    }

    /// Returns the new number of requests in flight, if one is given.
    pub(super) fn max_in_flight(&self) -> Option<Option<MaxInFlight>> {
        let is_given = self.no_max_in_flight || self.new.max_in_flight.is_some();
        is_given.then_some(self.new.max_in_flight)
    }
}

/// Returns a value as text, empty for none.
pub(super) fn shown<T: ToString>(value: Option<&T>) -> String {
    value.map(T::to_string).unwrap_or_default()
}
