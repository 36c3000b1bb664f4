//! [`QuotaAllowance`]: a number of requests in a period of the calendar.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::keys::allowance::reading::{InvalidAllowance, Members, limit_text, whole};
use crate::keys::allowance::{Entry, LimitName, MAX_QUOTA};

const ANCHOR_BELONGS_HERE: &str =
    "an anchor is `calendar`, `created`, or a day of the month from 1 to 31";
const DAY_NEEDS_A_MONTH: &str = "a day of the month is the anchor of the period `month` only";

/// A quota of one subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QuotaAllowance {
    /// Name: that of a quota of the configuration, whose number it replaces for the subject, or
    /// another one for a quota of the subject's own.
    pub name: LimitName,
    /// Requests in the period, 1 to [`MAX_QUOTA`]; `None` for unlimited.
    pub limit: Option<u64>,
    /// Period; `None` for that of the quota with this name. Without such a quota, the entry has no
    /// effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<QuotaPeriod>,
    /// Beginning of a period; `None` for that of the quota with this name, or the calendar's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anchor: Option<QuotaAnchor>,
}

/// Period of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QuotaPeriod {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week, from Monday on.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
    /// No end.
    Lifetime,
}

/// Beginning of the periods of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QuotaAnchor {
    /// That of the calendar.
    Calendar,
    /// The time at which the subject was created.
    Created,
    /// A day of the month, 1 to 31.
    Day(u8),
}

impl QuotaPeriod {
    /// All periods, shortest first.
    pub const ALL: [Self; 6] = [
        Self::Hour,
        Self::Day,
        Self::Week,
        Self::Month,
        Self::Year,
        Self::Lifetime,
    ];
    /// Words of all periods, in their order.
    pub const WORDS: [&str; 6] = ["hour", "day", "week", "month", "year", "lifetime"];

    /// Returns the word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
            Self::Lifetime => "lifetime",
        }
    }
}

impl FromStr for QuotaPeriod {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        all.find(|period| period.as_str() == word)
            .ok_or_else(|| format!("a period is one of {}", Self::WORDS.join(", ")))
    }
}

impl Serialize for QuotaPeriod {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl QuotaAnchor {
    fn day(number: u64) -> Option<Self> {
        let day = u8::try_from(number).ok();
        day.filter(|day| (1..=31).contains(day)).map(Self::Day)
    }

    fn is_of(self, period: Option<QuotaPeriod>) -> bool {
        !matches!(self, Self::Day(_)) || period.is_none_or(|period| period == QuotaPeriod::Month)
    }
}

impl FromStr for QuotaAnchor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let anchor = match text {
            "calendar" => Some(Self::Calendar),
            "created" => Some(Self::Created),
            _ if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().ok().and_then(Self::day)
            }
            _ => None,
        };
        anchor.ok_or_else(|| ANCHOR_BELONGS_HERE.to_owned())
    }
}

impl fmt::Display for QuotaAnchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Calendar => f.write_str("calendar"),
            Self::Created => f.write_str("created"),
            Self::Day(day) => day.fmt(f),
        }
    }
}

impl Serialize for QuotaAnchor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Calendar => serializer.serialize_str("calendar"),
            Self::Created => serializer.serialize_str("created"),
            Self::Day(day) => serializer.serialize_u8(*day),
        }
    }
}

impl Entry for QuotaAllowance {
    const MANY: &'static str = "quotas";

    fn name(&self) -> &LimitName {
        &self.name
    }

    fn is_above(&self, granted: Option<&Self>) -> bool {
        let Some(own) = self.limit else {
            return true;
        };
        let is_comparable = |granted: &&Self| {
            self.period.is_none() || granted.period.is_none() || self.period == granted.period
        };
        granted
            .filter(is_comparable)
            .and_then(|granted| granted.limit)
            .is_some_and(|limit| own > limit)
    }

    fn from_json(value: &Value) -> Result<Self, Vec<InvalidAllowance>> {
        let mut members = Members::of(value, &["name", "limit", "period", "anchor"]);
        let (name, limit) = (members.name(), members.limit(MAX_QUOTA));
        let given = members.get("period");
        let period = given.and_then(|value| value.as_str()?.parse::<QuotaPeriod>().ok());
        if given.is_some() && period.is_none() {
            let words = QuotaPeriod::WORDS.join(", ");
            members.wrong("period", format_args!("a period is one of {words}"));
        }
        let given = members.get("anchor");
        let anchor = given.and_then(|value| match value {
            Value::String(word) if matches!(word.as_str(), "calendar" | "created") => {
                word.parse().ok()
            }
            Value::String(_) => None,
            number => whole(number).and_then(QuotaAnchor::day),
        });
        if given.is_some() && anchor.is_none() {
            members.wrong("anchor", ANCHOR_BELONGS_HERE);
        } else if anchor.is_some_and(|anchor| !anchor.is_of(period)) {
            members.wrong("anchor", DAY_NEEDS_A_MONTH);
        }
        if limit == Some(None) {
            for name in ["period", "anchor"] {
                if members.get(name).is_some() {
                    members.wrong(name, format_args!("an unlimited one has no {name}"));
                }
            }
        }
        match (name, limit) {
            (Some(name), Some(limit)) if members.mistakes.is_empty() => Ok(Self {
                name,
                limit,
                period,
                anchor,
            }),
            _ => Err(members.mistakes),
        }
    }
}

impl FromStr for QuotaAllowance {
    type Err = String;

    /// Parses `monthly=5000000`, `monthly=5000000/month`, `monthly=5000000/month@15`,
    /// `monthly=5000000@15` or `monthly=unlimited`.
    fn from_str(text: &str) -> Result<Self, String> {
        let form = "a quota is `NAME=LIMIT/PERIOD@ANCHOR`, such as `monthly=5000000/month@15`, \
             `monthly=5000000` or `monthly=unlimited`";
        let (name, rest) = text.split_once('=').ok_or(form)?;
        let name = name.parse().map_err(|error| format!("{form}; {error}"))?;
        let (rest, anchor) = match rest.split_once('@') {
            Some((rest, anchor)) => (rest, Some(anchor.parse::<QuotaAnchor>()?)),
            None => (rest, None),
        };
        let (limit, period) = match rest.split_once('/') {
            Some((limit, period)) => (limit, Some(period.parse::<QuotaPeriod>()?)),
            None => (rest, None),
        };
        let limit = limit_text(limit, MAX_QUOTA)?;
        if anchor.is_some_and(|anchor| !anchor.is_of(period)) {
            return Err(DAY_NEEDS_A_MONTH.to_owned());
        }
        if limit.is_none() && (period.is_some() || anchor.is_some()) {
            return Err("an unlimited one has no period and no anchor".to_owned());
        }
        Ok(Self {
            name,
            limit,
            period,
            anchor,
        })
    }
}

impl fmt::Display for QuotaAllowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            limit,
            period,
            anchor,
        } = self;
        match limit {
            Some(limit) => write!(f, "{name}={limit}")?,
            None => write!(f, "{name}=unlimited")?,
        }
        if let Some(period) = period {
            write!(f, "/{}", period.as_str())?;
        }
        match anchor {
            Some(anchor) => write!(f, "@{anchor}"),
            None => Ok(()),
        }
    }
}
