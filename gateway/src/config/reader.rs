//! Takes settings one by one out of the merged layers and collects problems, unknown names and
//! effective values. A derived deserializer would stop at the first problem; an operator wants all
//! of them.

mod rows;

use std::fmt;
use std::time::Duration;

use config::{Map, Value, ValueKind};

use crate::config::VARIABLE_PREFIX;
use crate::config::value::{Setting, Span};

/// All problems of the settings.
#[derive(Debug, Default)]
pub struct Problems(Vec<SettingProblem>);

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingProblem {
    /// Path of the setting; empty for the whole source.
    pub path: String,
    /// Source: a file, a variable, or the settings together.
    pub source: String,
    /// What is wrong, and what is accepted. Never the text of a secret.
    pub message: String,
}

impl fmt::Display for SettingProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{} ", self.path)?;
        }
        write!(f, "(from {}): {}", self.source, self.message)
    }
}

impl Problems {
    /// Adds a problem of the setting `path` from `source`.
    pub fn add(&mut self, path: &str, source: &str, message: String) {
        self.0.push(SettingProblem {
            path: path.to_owned(),
            source: source.to_owned(),
            message,
        });
    }

    /// Problems in the order of their discovery.
    #[must_use]
    pub fn list(&self) -> &[SettingProblem] {
        &self.0
    }

    /// Number of problems.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no problem.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} with the settings:",
            if self.0.len() == 1 {
                "a problem".to_owned()
            } else {
                format!("{} problems", self.0.len())
            }
        )?;
        for problem in &self.0 {
            writeln!(f, "  {problem}")?;
        }
        Ok(())
    }
}

/// Effective value of one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// Path in the file, `section.key`.
    pub path: String,
    /// Value as TOML; secrets are redacted.
    pub value: String,
    /// Source: the file, the variable, or `default`.
    pub source: String,
}

/// Table of settings being read. Settings left at the end are unknown and refused.
pub struct Reader {
    path: String,
    table: Map<String, Value>,
    known: Vec<String>,
    /// Words that people may expect here, with ours.
    expected: &'static [(&'static str, &'static str)],
    problems: Problems,
    effective: Vec<Effective>,
    strict: bool,
}

impl Reader {
    /// Reads the top table; `problems` are those found before.
    #[must_use]
    pub fn new(table: Map<String, Value>, problems: Problems) -> Self {
        Self {
            path: String::new(),
            table,
            known: Vec::new(),
            expected: &[],
            problems,
            effective: Vec::new(),
            strict: true,
        }
    }

    /// Takes the setting `key` or its default. Collects a problem and continues with the default.
    pub fn take<T: Setting>(&mut self, key: &str, default: T) -> T {
        self.take_optional(key).unwrap_or_else(|| {
            self.note(key, default.show(), "default".to_owned());
            default
        })
    }

    /// Takes a duration.
    pub fn span(&mut self, key: &str, default_seconds: u64) -> Duration {
        self.take(key, Span(Duration::from_secs(default_seconds))).0
    }

    /// Takes the setting `key`, if present and valid.
    pub fn take_optional<T: Setting>(&mut self, key: &str) -> Option<T> {
        let (value, source) = self.remove(key)?;
        match value.into_string().ok().map(|text| parse::<T>(&text)) {
            Some(Ok(parsed)) => {
                self.note(key, parsed.show(), source);
                Some(parsed)
            }
            Some(Err(message)) => {
                self.problem(key, &source, message);
                None
            }
            None => {
                self.problem(
                    key,
                    &source,
                    format!(
                        "a table or a list stands where one value belongs: {}",
                        T::ACCEPTED
                    ),
                );
                None
            }
        }
    }

    /// Takes the list `key`; in the environment, commas separate its items. An absent list is
    /// empty.
    pub fn take_list<T: Setting>(&mut self, key: &str) -> Vec<T> {
        self.take_list_or(key, Vec::new())
    }

    /// The list `key` likewise, if present.
    pub fn take_optional_list<T: Setting>(&mut self, key: &str) -> Option<Vec<T>> {
        let is_there = self
            .table
            .get(key)
            .is_some_and(|value| value.kind != ValueKind::Nil);
        if !is_there {
            self.known.push(key.to_owned());
            return None;
        }
        Some(self.take_list(key))
    }

    /// The list `key` likewise; absent is `default`.
    pub fn take_list_or<T: Setting>(&mut self, key: &str, default: Vec<T>) -> Vec<T> {
        let Some((value, source)) = self.remove(key) else {
            self.note(key, show_list(&default), "default".to_owned());
            return default;
        };
        let texts: Vec<Option<String>> = match value.kind {
            ValueKind::Array(items) => items
                .into_iter()
                .map(|item| item.into_string().ok())
                .collect(),
            _ => match value.into_string() {
                Ok(text) => text
                    .split(',')
                    .map(|item| item.trim().to_owned())
                    .filter(|item| !item.is_empty())
                    .map(Some)
                    .collect(),
                Err(_) => vec![None],
            },
        };
        let mut items = Vec::with_capacity(texts.len());
        for (index, text) in texts.into_iter().enumerate() {
            match text.map(|text| parse::<T>(&text)) {
                Some(Ok(item)) => items.push(item),
                Some(Err(message)) => self.problem(&format!("{key}[{index}]"), &source, message),
                None => self.problem(
                    key,
                    &source,
                    format!("this is not a list of values: each is {}", T::ACCEPTED),
                ),
            }
        }
        self.note(key, show_list(&items), source);
        items
    }

    /// Takes the setting `key`, which has no default; `missing` says that and why.
    pub fn required<T: Setting>(&mut self, key: &str, missing: &str) -> Option<T> {
        let before = self.problems.len();
        let taken = self.take_optional(key);
        if taken.is_none() && self.problems.len() == before {
            let source = format!("the settings of {}", self.path);
            self.problem(key, &source, missing.to_owned());
        }
        taken
    }

    /// Answers other gateways' words for settings of this table with ours.
    pub fn expect_words(&mut self, words: &'static [(&'static str, &'static str)]) {
        self.expected = words;
    }

    /// Takes the table `key` of texts by names that the file chooses, sorted by these, and its
    /// source. An absent table is empty. A text is `None` where a table or a list stands.
    pub fn take_texts(&mut self, key: &str) -> (Vec<(String, Option<String>)>, String) {
        let Some((value, source)) = self.remove(key) else {
            return (Vec::new(), "default".to_owned());
        };
        let Ok(table) = value.into_table() else {
            let message = format!("this is a table of texts: write {key} = {{ NAME = \"TEXT\" }}");
            self.problem(key, &source, message);
            return (Vec::new(), source);
        };
        // A table has no source of its own: its values do.
        let from_value = table
            .values()
            .next()
            .map(|value| self.source_of(key, value));
        let texts = table.into_iter();
        let mut texts: Vec<_> = texts
            .map(|(name, value)| (name, value.into_string().ok()))
            .collect();
        texts.sort();
        (texts, from_value.unwrap_or(source))
    }

    /// Reads the table `key`; an absent table is empty.
    pub fn section<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let table = match self.remove(key) {
            None => Map::new(),
            Some((value, source)) => value.into_table().unwrap_or_else(|_| {
                self.problem(
                    key,
                    &source,
                    format!("this is a table of settings: write [{key}]"),
                );
                Map::new()
            }),
        };
        self.descend(self.path_of(key), table, read)
    }

    /// Hands over the whole table `key`, whose settings are not known here; an absent table is
    /// empty.
    pub fn whole_section<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Self, Map<String, Value>) -> T,
    ) -> T {
        self.section(key, |section| {
            let table = std::mem::take(&mut section.table);
            read(section, table)
        })
    }

    /// Takes the table `key` of any names, each with a text or a list of texts, sorted by name.
    pub fn take_names(&mut self, key: &str) -> Vec<(String, Vec<String>)> {
        let Some((value, source)) = self.remove(key) else {
            self.note(key, "{}".to_owned(), "default".to_owned());
            return Vec::new();
        };
        let Ok(table) = value.into_table() else {
            let message = "this is a table: write { name = \"text\" }".to_owned();
            self.problem(key, &source, message);
            return Vec::new();
        };
        let mut names: Vec<(String, Vec<String>)> = Vec::with_capacity(table.len());
        for (name, value) in table {
            match rows::texts_of(value).filter(|_| !name.is_empty()) {
                Some(texts) => names.push((name, texts)),
                None => {
                    let message = "each name in it has a text or a list of texts".to_owned();
                    self.problem(key, &source, message);
                }
            }
        }
        names.sort();
        let shown: Vec<String> = names
            .iter()
            .map(|(name, texts)| format!("{name:?} = {texts:?}"))
            .collect();
        self.note(key, format!("{{ {} }}", shown.join(", ")), source);
        names
    }

    /// Reads each table of the list `key`, `[[key]]` in the file.
    pub fn sections<T>(&mut self, key: &str, mut read: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let Some((value, source)) = self.remove(key) else {
            return Vec::new();
        };
        let Ok(items) = value.into_array() else {
            self.problem(
                key,
                &source,
                format!("this is a list of tables: write [[{key}]]"),
            );
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let path = format!("{}[{index}]", self.path_of(key));
            match item.into_table() {
                Ok(table) => sections.push(self.descend(path, table, &mut read)),
                Err(_) => self.problem(
                    key,
                    &source,
                    format!("this is a list of tables: write [[{key}]]"),
                ),
            }
        }
        sections
    }

    /// Adds a problem with `key` of the current table.
    pub fn problem(&mut self, key: &str, source: &str, message: String) {
        let path = self.path_of(key);
        self.problems.add(&path, source, message);
    }

    /// Problems so far, to add to.
    pub fn problems(&mut self) -> &mut Problems {
        &mut self.problems
    }

    /// Settings taken so far, in that order.
    #[must_use]
    pub fn effective(&self) -> &[Effective] {
        &self.effective
    }

    /// Records a value that bypassed [`Self::take`].
    pub fn note(&mut self, key: &str, value: String, source: String) {
        let path = self.path_of(key);
        self.effective.push(Effective {
            path,
            value,
            source,
        });
    }

    /// Records values of a [whole section](Self::whole_section).
    pub fn note_all(&mut self, values: Vec<Effective>) {
        self.effective.extend(values);
    }

    /// Ignores the remaining settings, which other commands read.
    pub fn ignore_the_rest(&mut self) {
        self.strict = false;
    }

    /// Whether the setting `key` is there.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.table
            .get(key)
            .is_some_and(|value| value.kind != ValueKind::Nil)
    }

    /// Texts of the settings `keys` in each table of the list `list`, without taking them; `None`
    /// where there is no text.
    #[must_use]
    pub fn peek<const N: usize>(&self, list: &str, keys: [&str; N]) -> Vec<[Option<String>; N]> {
        let list = self.table.get(list).cloned().map(Value::into_array);
        let tables = list.and_then(Result::ok).unwrap_or_default();
        let tables = tables
            .into_iter()
            .filter_map(|table| table.into_table().ok());
        tables
            .map(|table| keys.map(|key| table.get(key)?.clone().into_string().ok()))
            .collect()
    }

    /// Ends the reading; remaining settings are unknown.
    #[must_use]
    pub fn finish(mut self) -> Problems {
        self.refuse_leftovers();
        self.problems
    }

    fn descend<T>(
        &mut self,
        path: String,
        table: Map<String, Value>,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let mut section = Self {
            path,
            table,
            known: Vec::new(),
            expected: &[],
            problems: std::mem::take(&mut self.problems),
            effective: std::mem::take(&mut self.effective),
            strict: true,
        };
        let taken = read(&mut section);
        section.refuse_leftovers();
        self.problems = section.problems;
        self.effective = section.effective;
        taken
    }

    fn refuse_leftovers(&mut self) {
        if !self.strict {
            return;
        }
        let mut left: Vec<(String, Value)> = std::mem::take(&mut self.table).into_iter().collect();
        left.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (key, value) in left {
            if let Some((word, ours)) = self.expected.iter().find(|(word, _)| *word == key) {
                let source = self.source_of(word, &value);
                self.problem(word, &source, format!("this is written {ours} here"));
                continue;
            }
            let shown = shown_name(&key, &self.known);
            let source = self.source_of(&shown, &value);
            let message = format!(
                "there is no such setting; here are: {}",
                self.known.join(", ")
            );
            self.problem(&shown, &source, message);
        }
    }

    fn remove(&mut self, key: &str) -> Option<(Value, String)> {
        self.known.push(key.to_owned());
        let value = self
            .table
            .remove(key)
            .filter(|value| value.kind != ValueKind::Nil)?;
        let source = self.source_of(key, &value);
        Some((value, source))
    }

    /// File or variable that a value came from.
    fn source_of(&self, key: &str, value: &Value) -> String {
        Self::source_at(&self.path_of(key), value)
    }

    /// File or variable that the value at `path` came from.
    pub(super) fn source_at(path: &str, value: &Value) -> String {
        match value.origin() {
            Some("the environment") => format!(
                "{VARIABLE_PREFIX}{}",
                path.replace('.', "__").to_uppercase()
            ),
            Some(origin) => origin.to_owned(),
            // A table merged from several layers has no single source.
            None => "several sources".to_owned(),
        }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }
}

/// Longest setting text that a message repeats: that much of a secret reveals nothing.
const MAX_SHOWN_CHARS: usize = 7;
/// Maximum of wrong letters in a misspelt setting name.
const MAX_TYPOS: usize = 2;

/// Parses a value. A message replaces a longer text by "this": a secret may stand in the wrong
/// place.
fn parse<T: Setting>(text: &str) -> Result<T, String> {
    T::parse(text).map_err(|message| {
        if !repeats(&message, text) {
            return message;
        }
        let message = message.replace(&format!("{text:?}"), "this");
        if repeats(&message, text) {
            format!("this is not accepted here: {}", T::ACCEPTED)
        } else {
            message
        }
    })
}

/// Whether a message repeats more of the `text` of a setting than it may.
pub(super) fn repeats(message: &str, text: &str) -> bool {
    let mut pieces = text.as_bytes().windows(MAX_SHOWN_CHARS + 1);
    pieces.any(|piece| memchr::memmem::find(message.as_bytes(), piece).is_some())
}

/// Unknown name for a message: whole if short or close to one of `known`, else its beginning. It
/// may be a misplaced secret.
pub(super) fn shown_name(name: &str, known: &[String]) -> String {
    let is_short = name.chars().count() <= MAX_SHOWN_CHARS;
    if is_short || known.iter().any(|known| distance(name, known) <= MAX_TYPOS) {
        return name.escape_debug().to_string();
    }
    let begin: String = name.chars().take(MAX_SHOWN_CHARS).collect();
    format!("{}…", begin.escape_debug())
}

/// Levenshtein distance: letters to add, remove or replace.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, char) in one.chars().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        for (above, wanted) in row.iter_mut().skip(1).zip(&other) {
            let replaced = diagonal + usize::from(char != *wanted);
            diagonal = *above;
            left = replaced.min(left + 1).min(diagonal + 1);
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = index + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// A list as it stands in a file.
fn show_list<T: Setting>(items: &[T]) -> String {
    let shown: Vec<String> = items.iter().map(Setting::show).collect();
    format!("[{}]", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_whole_only_where_it_cannot_be_a_secret() {
        let known = ["max_connections".to_owned(), "address".to_owned()];
        for (name, shown) in [
            ("adress", "adress"),
            ("max_conections", "max_conections"),
            ("max_connectoins", "max_connectoins"),
            ("port", "port"),
            ("correct_horse_battery", "correct…"),
            ("s3cr3t-s3cr3t", "s3cr3t-…"),
            ("", ""),
            ("a\nb", "a\\nb"),
        ] {
            assert_eq!(shown_name(name, &known), shown, "{name}");
        }
    }
}
