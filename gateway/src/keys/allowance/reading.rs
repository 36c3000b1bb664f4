//! Reading of entries from JSON: every mistake at once, each with its place.

use std::fmt::Display;

use serde_json::{Map, Value};

use crate::keys::allowance::LimitName;

/// Words of other gateways, with ours.
const PEERS: [(&str, &str); 16] = [
    ("requests_per_unit", "limit"),
    ("requests", "limit"),
    ("requests_allowed", "limit"),
    ("requestsAllowed", "limit"),
    ("max", "limit"),
    ("unit", "window"),
    ("second", "window"),
    ("minute", "window"),
    ("hour", "window"),
    ("interval", "window"),
    ("duration", "window"),
    ("timeWindowMinutes", "window"),
    ("time_window", "window"),
    ("reset_day", "anchor"),
    ("refillDay", "anchor"),
    ("policy", "name"),
];

/// A mistake in an allowance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidAllowance {
    /// JSON pointer within the value.
    pub pointer: String,
    /// What belongs there.
    pub reason: String,
}

impl InvalidAllowance {
    pub(super) fn at(pointer: &str, reason: impl Display) -> Self {
        Self {
            pointer: pointer.to_owned(),
            reason: reason.to_string(),
        }
    }

    /// Moves the mistake into the item `index` of a list.
    pub(super) fn within(self, index: usize) -> Self {
        Self {
            pointer: format!("/{index}{}", self.pointer),
            ..self
        }
    }
}

/// Joins mistakes to one text.
pub(super) fn joined(mistakes: &[InvalidAllowance]) -> String {
    let texts: Vec<String> = mistakes
        .iter()
        .map(
            |InvalidAllowance { pointer, reason }| match pointer.as_str() {
                "" => reason.clone(),
                _ => format!("{pointer}: {reason}"),
            },
        )
        .collect();
    texts.join("; ")
}

/// Members of an entry, consumed one by one.
pub(super) struct Members<'v> {
    members: Option<&'v Map<String, Value>>,
    known: &'static [&'static str],
    pub(super) mistakes: Vec<InvalidAllowance>,
}

impl<'v> Members<'v> {
    /// Begins with `value`, of which only the members `known` are accepted.
    pub(super) fn of(value: &'v Value, known: &'static [&'static str]) -> Self {
        let members = value.as_object();
        let mut mistakes = Vec::new();
        if members.is_none() {
            mistakes.push(InvalidAllowance::at("", "an object belongs here"));
        }
        for name in members.into_iter().flat_map(Map::keys) {
            if known.contains(&name.as_str()) {
                continue;
            }
            let ours = PEERS.iter().find(|(theirs, _)| theirs == name);
            let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
            mistakes.push(match ours.filter(|(_, ours)| known.contains(ours)) {
                Some((_, ours)) => {
                    InvalidAllowance::at(&pointer, format_args!("this is `{ours}` here"))
                }
                None => InvalidAllowance::at(&pointer, "there is no such member here"),
            });
        }
        Self {
            members,
            known,
            mistakes,
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&'v Value> {
        debug_assert!(self.known.contains(&name));
        self.members?.get(name)
    }

    /// Adds a mistake at the member `name`.
    pub(super) fn wrong(&mut self, name: &str, reason: impl Display) {
        let pointer = format!("/{name}");
        self.mistakes.push(InvalidAllowance::at(&pointer, reason));
    }

    /// Reads the required name.
    pub(super) fn name(&mut self) -> Option<LimitName> {
        match self.get("name") {
            Some(Value::String(text)) => {
                text.parse().map_err(|error| self.wrong("name", error)).ok()
            }
            Some(_) => {
                self.wrong("name", "a string belongs here");
                None
            }
            None if self.members.is_some() => {
                self.wrong("name", "missing");
                None
            }
            None => None,
        }
    }

    /// Reads the required limit, 1 to `most` or null.
    pub(super) fn limit(&mut self, most: u64) -> Option<Option<u64>> {
        match self.get("limit") {
            Some(Value::Null) => Some(None),
            Some(value) => {
                let number = whole(value).filter(|number| (1..=most).contains(number));
                if number.is_none() {
                    self.wrong("limit", limit_belongs_here(most));
                }
                number.map(Some)
            }
            None => {
                if self.members.is_some() {
                    self.wrong("limit", "missing");
                }
                None
            }
        }
    }
}

pub(super) fn limit_belongs_here(most: u64) -> String {
    format!("a whole number from 1 to {most} belongs here, or null for unlimited")
}

/// Returns the whole number in `value`. JSON Schema counts 1.0 as an integer.
#[must_use]
pub fn whole(value: &Value) -> Option<u64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let whole = |number: f64| {
        (number.fract() == 0.0 && (0.0..=EXACT).contains(&number)).then_some(number as u64)
    };
    value.as_u64().or_else(|| value.as_f64().and_then(whole))
}

/// Reads the limit of an entry as commands accept it: a number, or `unlimited`.
pub(super) fn limit_text(text: &str, most: u64) -> Result<Option<u64>, String> {
    if text == "unlimited" {
        return Ok(None);
    }
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = is_number.then(|| text.parse().ok()).flatten();
    number
        .filter(|number| (1..=most).contains(number))
        .map(Some)
        .ok_or_else(|| format!("the limit is a whole number from 1 to {most}, or `unlimited`"))
}
