//! Reader of plans: the array that `gateway plans list --json` prints, or one object a line. Errors
//! name the plan by its number and the member, and never quote the text, which may hold a key.

use std::collections::HashSet;
use std::fmt::Display;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::keys::allowance::{Entries, Entry, whole};
use crate::keys::{Count, Lifetime, PlanName, Prefix, Scope, Scopes, token};
use crate::store::{NewPlan, PlanAttributes};

/// Members that a plan is shown with and that an import leaves out.
const IGNORED: [&str; 2] = ["created_at", "updated_at"];

/// Reads plans.
///
/// # Errors
/// Every mistake, each with the number of its plan.
pub(crate) fn read(text: &str, prefix: &Prefix) -> Result<Vec<NewPlan>, Vec<String>> {
    if token::contains_key(text.as_bytes(), prefix) {
        return Err(vec!["there is a whole key in the file".to_owned()]);
    }
    let objects = objects(text).map_err(|mistake| vec![mistake])?;
    let (mut plans, mut mistakes, mut names) = (Vec::new(), Vec::new(), HashSet::new());
    for (index, value) in objects.into_iter().enumerate() {
        let mut members = Members {
            number: index + 1,
            members: Map::new(),
            mistakes: &mut mistakes,
        };
        match value {
            Value::Object(object) => members.members = object,
            _ => {
                members.bad("", "a plan is an object");
                continue;
            }
        }
        if let Some(plan) = members.read() {
            if names.insert(plan.name.clone()) {
                plans.push(plan);
            } else {
                members.bad("name", "a plan above has the same name");
            }
        }
    }
    if mistakes.is_empty() {
        Ok(plans)
    } else {
        Err(mistakes)
    }
}

fn objects(text: &str) -> Result<Vec<Value>, String> {
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.starts_with('[') {
        return serde_json::from_str(text).map_err(|error| not_json(error.line()));
    }
    let lines = text.lines().zip(1..);
    let lines = lines.filter(|(line, _)| !line.trim().is_empty());
    lines
        .map(|(line, number)| serde_json::from_str(line).map_err(|_| not_json(number)))
        .collect()
}

fn not_json(line: usize) -> String {
    format!("line {line}: not JSON; an array of plans is accepted, or one plan a line")
}

/// Members of one plan, consumed one by one.
struct Members<'m> {
    number: usize,
    members: Map<String, Value>,
    mistakes: &'m mut Vec<String>,
}

impl Members<'_> {
    fn read(&mut self) -> Option<NewPlan> {
        let before = self.mistakes.len();
        let name = self.text::<PlanName>("name");
        if name.is_none() && self.mistakes.len() == before {
            self.bad("name", "missing");
        }
        let attributes = PlanAttributes {
            description: self.text("description"),
            scopes: self.scopes(),
            limits: self.entries("limits"),
            quotas: self.entries("quotas"),
            max_in_flight: self.count("max_in_flight"),
            default_key_lifetime: self.lifetime("default_key_lifetime_seconds"),
            max_key_lifetime: self.lifetime("max_key_lifetime_seconds"),
        };
        let unknown: Vec<String> = std::mem::take(&mut self.members)
            .into_iter()
            .map(|(name, _)| name)
            .filter(|name| !IGNORED.contains(&name.as_str()))
            .collect();
        if !unknown.is_empty() {
            let accepted = "name, description, scopes, limits, quotas, max_in_flight, \
                 default_key_lifetime_seconds and max_key_lifetime_seconds";
            self.bad(
                "",
                format_args!("an unknown member; accepted are {accepted}"),
            );
        }
        let plan = NewPlan {
            name: name?,
            attributes,
        };
        (self.mistakes.len() == before).then_some(plan)
    }

    /// Takes a member; null counts as missing.
    fn take(&mut self, member: &str) -> Option<Value> {
        self.members.remove(member).filter(|value| !value.is_null())
    }

    fn bad(&mut self, member: &str, reason: impl Display) {
        let number = self.number;
        self.mistakes.push(match member {
            "" => format!("plan {number}: {reason}"),
            _ => format!("plan {number}: `{member}`: {reason}"),
        });
    }

    fn text<T: FromStr<Err: Display>>(&mut self, member: &str) -> Option<T> {
        match self.take(member)? {
            Value::String(text) => text
                .parse()
                .map_err(|error: T::Err| self.bad(member, error))
                .ok(),
            _ => {
                self.bad(member, "must be a text");
                None
            }
        }
    }

    fn scopes(&mut self) -> Scopes {
        let member = "scopes";
        let words = match self.take(member) {
            None => return Scopes::default(),
            Some(Value::Array(words)) => words,
            Some(_) => {
                self.bad(member, "must be an array of texts");
                return Scopes::default();
            }
        };
        let scopes: Result<Vec<Scope>, _> = words
            .iter()
            .map(|word| word.as_str().unwrap_or_default().parse())
            .collect();
        let scopes = scopes.and_then(Scopes::new);
        scopes
            .map_err(|error| self.bad(member, error))
            .unwrap_or_default()
    }

    fn entries<T: Entry>(&mut self, member: &str) -> Entries<T> {
        let Some(value) = self.take(member) else {
            return Entries::default();
        };
        Entries::from_json(&value).unwrap_or_else(|mistakes| {
            for mistake in mistakes {
                let member = format!("{member}{}", mistake.pointer);
                self.bad(&member, mistake.reason);
            }
            Entries::default()
        })
    }

    fn count<const MOST: u32>(&mut self, member: &str) -> Option<Count<MOST>> {
        let number = whole(&self.take(member)?).unwrap_or_default();
        Count::try_from(number)
            .map_err(|error| self.bad(member, error))
            .ok()
    }

    fn lifetime(&mut self, member: &str) -> Option<Lifetime> {
        let seconds = whole(&self.take(member)?).unwrap_or_default();
        Lifetime::from_secs(seconds)
            .map_err(|error| self.bad(member, error))
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLD: &str = r#"{"name":"gold","description":"d","scopes":["a","b"],"limits":[{"name":"burst","limit":5,"window":"1m"}],"quotas":[],"max_in_flight":2,"default_key_lifetime_seconds":60,"max_key_lifetime_seconds":null,"created_at":"2026-01-01T00:00:00Z"}"#;

    fn read_plans(text: &str) -> Result<Vec<NewPlan>, Vec<String>> {
        read(text, &Prefix::default())
    }

    #[test]
    fn an_array_and_lines_are_read_alike() {
        for text in [
            format!("[{GOLD}, {{\"name\":\"free\"}}]"),
            format!("\u{feff}{GOLD}\n\n{{\"name\":\"free\"}}\n"),
        ] {
            let plans = read_plans(&text).unwrap();
            let names: Vec<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
            assert_eq!(names, ["gold", "free"]);
            let gold = &plans[0].attributes;
            assert_eq!(gold.limits.to_string(), "burst=5/1m");
            assert_eq!((gold.scopes.as_str(), gold.max_key_lifetime), ("a b", None));
            assert_eq!(plans[1].attributes, PlanAttributes::default());
        }
        assert!(read_plans("").unwrap().is_empty() && read_plans("[]").unwrap().is_empty());
    }

    #[test]
    fn every_mistake_is_told_with_its_plan_and_no_text_repeated() {
        let key = "pstn_0123456789ABCDEFGHIJKLMNOPQRSTUV2pMS28";
        for (text, told) in [
            ("{", vec!["line 1: not JSON"]),
            ("[1]", vec!["plan 1: a plan is an object"]),
            ("[{}]", vec!["plan 1: `name`: missing"]),
            (
                r#"[{"name":"a"},{"name":"a"}]"#,
                vec!["plan 2: `name`: a plan above"],
            ),
            (
                r#"[{"name":"a b","limits":[{"name":"x","limit":0}],"max_in_flight":0,"scopes":"a"},{"name":"b","price":9}]"#,
                vec![
                    "plan 1: `name`: the name of a plan",
                    "plan 1: `scopes`: must be an array",
                    "plan 1: `limits/0/limit`: a whole number",
                    "plan 1: `max_in_flight`: a whole number",
                    "plan 2: an unknown member",
                ],
            ),
            (key, vec!["there is a whole key"]),
        ] {
            let mistakes = read_plans(text).unwrap_err();
            assert_eq!(mistakes.len(), told.len(), "{mistakes:?}");
            for (mistake, told) in mistakes.iter().zip(told) {
                assert!(mistake.starts_with(told), "{mistake}");
                assert!(
                    !mistake.contains("price") && !mistake.contains(key),
                    "{mistake}"
                );
            }
        }
    }
}
