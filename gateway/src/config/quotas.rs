//! `[[quotas]]`: how much anyone may do in a period of the calendar.

use std::str::FromStr as _;
use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::config::limit_values::LimitName;
use crate::config::reader::Reader;
use crate::config::value::Setting;
use crate::keys::allowance::MAX_QUOTA;
use crate::keys::{QuotaAnchor, QuotaPeriod, Tag};
use crate::limits::period::{Periods, zone};
use crate::limits::quota::{Quota, QuotaBy, Statuses};

/// Most of `[[quotas]]`.
const MAX_QUOTAS: usize = 16;
/// Where problems between quotas come from.
const SOURCE: &str = "the quotas";
/// Other gateways' words for settings of a quota, with ours.
const WORDS_OF_OTHERS: &[(&str, &str)] = &[
    ("requests", "limit"),
    ("requests_allowed", "limit"),
    ("requestsallowed", "limit"),
    ("count", "limit"),
    ("offset", "anchor"),
    ("window", "period"),
    ("interval", "period"),
    ("unit", "period"),
    ("day", "limit, with period = \"day\""),
    ("month", "limit, with period = \"month\""),
    ("year", "limit, with period = \"year\""),
    ("timezone", "time_zone"),
    ("tz", "time_zone"),
    ("limit_by", "by"),
    ("key", "by"),
    ("status_codes", "count_statuses"),
    ("dry_run", "enforce = false"),
    ("shadow_mode", "enforce = false"),
];

struct Units(u64);

struct Anchor(QuotaAnchor);

struct Zone(TimeZone);

struct Class(String);

impl Setting for Units {
    const ACCEPTED: &'static str = "a whole number from 1 to 1000000000000000";

    fn parse(text: &str) -> Result<Self, String> {
        text.replace('_', "")
            .parse()
            .ok()
            .filter(|units| (1..=MAX_QUOTA).contains(units))
            .map(Self)
            .ok_or_else(|| refuse::<Self>(text))
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

impl Setting for QuotaBy {
    const ACCEPTED: &'static str = "\"key\", \"consumer\", or \"tag:NAME\", which counts consumers with the same value of a tag together";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "key" => Ok(Self::Key),
            "consumer" => Ok(Self::Consumer),
            _ => text
                .strip_prefix("tag:")
                .filter(|name| Tag::new(name, "any").is_ok())
                .map(|name| Self::Tag(name.into()))
                .ok_or_else(|| refuse::<Self>(text)),
        }
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Setting for QuotaPeriod {
    const ACCEPTED: &'static str =
        "\"hour\", \"day\", \"week\", \"month\", \"year\" or \"lifetime\"";

    fn parse(text: &str) -> Result<Self, String> {
        Self::from_str(text).map_err(|_| refuse::<Self>(text))
    }

    fn show(&self) -> String {
        format!("\"{}\"", self.as_str())
    }
}

impl Setting for Anchor {
    const ACCEPTED: &'static str = "\"calendar\", \"created\" for the day on which the consumer was, or a day of the month from 1 to 31";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| refuse::<Self>(text))
    }

    fn show(&self) -> String {
        match self.0 {
            QuotaAnchor::Day(day) => day.to_string(),
            word => format!("\"{word}\""),
        }
    }
}

impl Setting for Zone {
    const ACCEPTED: &'static str = "the name of a time zone, such as \"UTC\" or \"Europe/Berlin\"";

    fn parse(text: &str) -> Result<Self, String> {
        zone(text).map(Self).ok_or_else(|| refuse::<Self>(text))
    }

    fn show(&self) -> String {
        format!("\"{}\"", self.0.iana_name().unwrap_or("UTC"))
    }
}

impl Setting for Class {
    const ACCEPTED: &'static str = "a class of statuses: \"2xx\", \"3xx\", \"4xx\" or \"5xx\"";

    fn parse(text: &str) -> Result<Self, String> {
        let is_class = ["1xx", "2xx", "3xx", "4xx", "5xx"].contains(&text);
        is_class
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| refuse::<Self>(text))
    }

    fn show(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

fn refuse<T: Setting>(text: &str) -> String {
    format!("{text:?} is not accepted here: {}", T::ACCEPTED)
}

/// Reads the quotas.
pub(super) fn read_quotas(reader: &mut Reader) -> Vec<Quota> {
    let read = reader.sections("quotas", read_quota);
    let mut add = |path: String, message: String| reader.problems().add(&path, SOURCE, message);
    if read.len() > MAX_QUOTAS {
        let message = format!("there are {}, and {MAX_QUOTAS} are the most", read.len());
        add("quotas".to_owned(), message);
    }
    for (index, quota) in read.iter().enumerate() {
        let Some(quota) = quota else { continue };
        let mut earlier = read[..index].iter().flatten();
        if earlier.any(|earlier| earlier.name == quota.name) {
            let message = format!("the name {:?} is that of another quota already", quota.name);
            add(format!("quotas[{index}].name"), message);
        }
    }
    read.into_iter().flatten().collect()
}

fn read_quota(section: &mut Reader) -> Option<Quota> {
    section.expect_words(WORDS_OF_OTHERS);
    let before = section.problems().len();
    let name = section.required::<LimitName>(
        "name",
        "it is missing: it names the quota in answers, metrics and logs",
    );
    let missing = format!("it is missing: {}", QuotaBy::ACCEPTED);
    let by = section.required::<QuotaBy>("by", &missing);
    let limit = section.required::<Units>(
        "limit",
        "it is missing: the number of requests that a period allows",
    );
    let missing = format!("it is missing: {}", QuotaPeriod::ACCEPTED);
    let period = section.required::<QuotaPeriod>("period", &missing);
    let anchor = section.take("anchor", Anchor(QuotaAnchor::Calendar)).0;
    let zone = section.take("time_zone", Zone(TimeZone::UTC)).0;
    let classes: Vec<Class> = section.take_list("count_statuses");
    let enforce = section.take("enforce", true);
    if let (QuotaAnchor::Day(_), Some(period)) = (anchor, period)
        && period != QuotaPeriod::Month
    {
        let message = format!(
            "a day of the month is the anchor of the period \"month\" only, not of \"{}\"",
            period.as_str()
        );
        section.problem("anchor", SOURCE, message);
    }
    if let (QuotaAnchor::Created, Some(QuotaBy::Tag(_))) = (anchor, &by) {
        let message = "consumers with a tag were created on different days: count by \"key\" or \"consumer\", or choose another anchor".to_owned();
        section.problem("anchor", SOURCE, message);
    }
    let words: Vec<&str> = classes.iter().map(|class| class.0.as_str()).collect();
    let statuses = (!words.is_empty())
        .then(|| Statuses::parse(&words))
        .flatten();
    let (LimitName(name), by, Units(limit), length) = (name?, by?, limit?, period?);
    (section.problems().len() == before).then_some(Quota {
        name: Arc::clone(&name),
        by,
        limit,
        periods: Periods {
            length,
            anchor,
            zone,
        },
        statuses,
        enforce,
    })
}
