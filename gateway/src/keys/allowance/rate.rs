//! [`RateAllowance`]: a number of requests in a window of time.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::keys::allowance::reading::{InvalidAllowance, Members, limit_text};
use crate::keys::allowance::{Entry, LimitName, MAX_RATE};

/// Maximum window of a rate; the minimum is a second.
pub const MAX_WINDOW: Duration = Duration::from_hours(24);

const WINDOW_BELONGS_HERE: &str =
    "a window is whole seconds, minutes or hours from `1s` to `1d`, such as `10s`, `1m` or `12h`";

/// A rate of one subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RateAllowance {
    /// Name: that of a limit of the configuration, whose number it replaces for the subject, or
    /// another one for a limit of the subject's own.
    pub name: LimitName,
    /// Requests in the window, 1 to [`MAX_RATE`]; `None` for unlimited.
    pub limit: Option<u64>,
    /// Window; `None` for that of the limit with this name. Without such a limit, the entry has no
    /// effect.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub window: Option<Duration>,
}

fn as_text<S: Serializer>(window: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match window {
        Some(window) => serializer.serialize_str(&window_text(*window)),
        None => serializer.serialize_none(),
    }
}

/// Returns a window of whole seconds as text: `90s`, `1m`, `12h`, `1d`.
#[must_use]
pub fn window_text(window: Duration) -> String {
    let seconds = window.as_secs();
    [(86_400, 'd'), (3_600, 'h'), (60, 'm')]
        .into_iter()
        .find(|(unit, _)| seconds >= *unit && seconds.is_multiple_of(*unit))
        .map_or_else(
            || format!("{seconds}s"),
            |(unit, letter)| format!("{}{letter}", seconds / unit),
        )
}

/// Parses a window.
fn window(text: &str) -> Option<Duration> {
    let unit = match text.bytes().last()? {
        b's' => 1,
        b'm' => 60,
        b'h' => 3_600,
        b'd' => 86_400,
        _ => return None,
    };
    let number = text.get(..text.len() - 1)?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit()) && !number.starts_with('0');
    let number: u64 = is_number.then(|| number.parse().ok()).flatten()?;
    let window = Duration::from_secs(number.checked_mul(unit)?);
    (window <= MAX_WINDOW).then_some(window)
}

impl Entry for RateAllowance {
    const MANY: &'static str = "limits";

    fn name(&self) -> &LimitName {
        &self.name
    }

    fn is_above(&self, granted: Option<&Self>) -> bool {
        let Some(own) = self.limit else {
            return true;
        };
        let Some((granted, limit)) = granted.and_then(|granted| Some((granted, granted.limit?)))
        else {
            return false;
        };
        match (self.window, granted.window) {
            // Compares requests per second.
            (Some(window), Some(granted)) => {
                u128::from(own) * granted.as_millis() > u128::from(limit) * window.as_millis()
            }
            (None, _) => own > limit,
            // The window of the other is in the configuration; every level is checked there.
            (Some(_), None) => false,
        }
    }

    fn from_json(value: &Value) -> Result<Self, Vec<InvalidAllowance>> {
        let mut members = Members::of(value, &["name", "limit", "window"]);
        let (name, limit) = (members.name(), members.limit(MAX_RATE));
        let given = members.get("window");
        let window = given.and_then(|value| window(value.as_str()?));
        if given.is_some() && window.is_none() {
            members.wrong("window", WINDOW_BELONGS_HERE);
        } else if given.is_some() && limit == Some(None) {
            members.wrong("window", "an unlimited one has no window");
        }
        match (name, limit) {
            (Some(name), Some(limit)) if members.mistakes.is_empty() => Ok(Self {
                name,
                limit,
                window,
            }),
            _ => Err(members.mistakes),
        }
    }
}

impl FromStr for RateAllowance {
    type Err = String;

    /// Parses `burst=500/1m`, `burst=500` or `burst=unlimited`.
    fn from_str(text: &str) -> Result<Self, String> {
        let form = "a limit is `NAME=LIMIT/WINDOW`, such as `burst=500/1m`, or `NAME=unlimited`";
        let (name, rest) = text.split_once('=').ok_or(form)?;
        let name = name.parse().map_err(|error| format!("{form}; {error}"))?;
        let (limit, given) = match rest.split_once('/') {
            Some((limit, given)) => (limit, Some(given)),
            None => (rest, None),
        };
        let limit = limit_text(limit, MAX_RATE)?;
        let window = given
            .map(|text| window(text).ok_or(WINDOW_BELONGS_HERE))
            .transpose()?;
        if limit.is_none() && window.is_some() {
            return Err("an unlimited one has no window".to_owned());
        }
        Ok(Self {
            name,
            limit,
            window,
        })
    }
}

impl fmt::Display for RateAllowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            limit,
            window,
        } = self;
        match limit {
            Some(limit) => write!(f, "{name}={limit}")?,
            None => write!(f, "{name}=unlimited")?,
        }
        match window {
            Some(window) => write!(f, "/{}", window_text(*window)),
            None => Ok(()),
        }
    }
}
