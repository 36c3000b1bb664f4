//! `[own.NAME]`: sections of settings that a program which is built on this crate registers, each
//! with the rules that it makes.

mod deserialize;
mod show;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use actix_http::header::HeaderName;
use config::{Map, Value};
use postern_shared::headers::is_privileged;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::header_edits::keys;
use crate::config::key_sources::is_meaningful;
use crate::config::own::deserialize::deserialize;
use crate::config::own::show::{digest, show};
use crate::config::reader::{Effective, Reader};
use crate::proxy::fixed_headers::Edited;
use crate::proxy::headers::is_hop_by_hop;
use crate::proxy::proxy_headers::is_proxy_header;
use crate::routes::shape::Shape;
use crate::rules::{Rules, RulesInForce};

/// Source of what is wrong in the program itself.
const PROGRAM: &str = "the program";
/// Longest name of a section.
const MAX_NAME_BYTES: usize = 32;

/// What is wrong with settings of one's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnProblem {
    setting: String,
    message: String,
}

impl OwnProblem {
    /// The `setting`, by its path within the section, cannot be used; `message` says what is wrong
    /// and what is accepted. Never put the text of a secret there.
    #[must_use]
    pub fn new(setting: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            setting: setting.into(),
            message: message.into(),
        }
    }
}

/// Makes the rules of the settings in a table.
type Read = dyn Fn(&mut Reader, Map<String, Value>) -> Option<OwnSection> + Send + Sync;

/// One registered section.
#[derive(Clone)]
pub struct Registration {
    name: &'static str,
    read: Arc<Read>,
}

impl Registration {
    /// The section `[own.NAME]` with settings `S`, of which `build` makes rules.
    #[must_use]
    pub fn new<S, B>(name: &'static str, build: B) -> Self
    where
        S: DeserializeOwned + Serialize,
        B: Fn(S) -> Result<Rules, Vec<OwnProblem>> + Send + Sync + 'static,
    {
        let read = move |reader: &mut Reader, table: Map<String, Value>| {
            let section = Section::new(name, &table);
            let settings = deserialize::<S>(&section, table, reader)?;
            let effective = match show(&section, &settings) {
                Ok(effective) => effective,
                Err(why) => {
                    reader
                        .problems()
                        .add(&section.path, PROGRAM, why.to_owned());
                    return None;
                }
            };
            let digest = digest(&section, &effective);
            reader.note_all(effective);
            let rules = match build(settings) {
                Ok(rules) => rules,
                Err(problems) => {
                    for OwnProblem { setting, message } in problems {
                        section.problem(reader, &setting, message);
                    }
                    return None;
                }
            };
            refuse_origin_headers(&section, &rules, reader);
            Some(OwnSection {
                name,
                digest,
                rules,
            })
        };
        Self {
            name,
            read: Arc::new(read),
        }
    }
}

/// All registered sections.
#[derive(Default, Clone)]
pub struct Registrations(Arc<[Registration]>);

impl Registrations {
    /// Registers sections.
    ///
    /// # Errors
    /// A name is none, or is there twice: the message for the programmer.
    pub fn new(sections: Vec<Registration>) -> Result<Self, String> {
        for (index, Registration { name, .. }) in sections.iter().enumerate() {
            let is_name = name.len() <= MAX_NAME_BYTES
                && name.starts_with(|first: char| first.is_ascii_lowercase())
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
            if !is_name {
                return Err(format!(
                    "{name:?} is not a name for a section of settings: accepted are 1 to {MAX_NAME_BYTES} lower-case letters, digits and `_`, a letter first"
                ));
            }
            if sections.iter().take(index).any(|other| other.name == *name) {
                return Err(format!("two sections of settings have the name {name:?}"));
            }
        }
        Ok(Self(sections.into()))
    }

    /// Reads every registered section.
    pub(super) fn read(&self, reader: &mut Reader) -> OwnSettings {
        if self.0.is_empty() {
            return OwnSettings::default();
        }
        let sections = reader.section("own", |own| {
            let mut sections = Vec::new();
            for Registration { name, read } in self.0.iter() {
                sections.push(own.whole_section(name, |reader, table| read(reader, table)));
            }
            sections
        });
        let settings = OwnSettings(sections.into_iter().flatten().collect());
        settings.refuse_twins(reader);
        settings
    }
}

impl fmt::Debug for Registrations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|one| one.name);
        f.debug_list().entries(names).finish()
    }
}

/// A section that was read.
#[derive(Debug, Clone)]
struct OwnSection {
    name: &'static str,
    /// Of the settings and the files that they name, secrets included.
    digest: [u8; 32],
    rules: Rules,
}

/// The sections of one reading, with the rules made of them.
#[derive(Debug, Clone, Default)]
pub struct OwnSettings(Vec<OwnSection>);

impl OwnSettings {
    /// The rules of all sections.
    #[must_use]
    pub fn rules(&self) -> RulesInForce {
        let sections = self.0.iter();
        RulesInForce::of(sections.map(|section| (section.name, &section.rules)))
    }

    /// Paths of the sections that differ from those of `before`, secrets and files included.
    #[must_use]
    pub fn changed(&self, before: &Self) -> Vec<String> {
        let differs = |section: &&OwnSection| before.like(section).is_none();
        let changed = self.0.iter().filter(differs);
        changed
            .map(|section| format!("own.{}", section.name))
            .collect()
    }

    /// Keeps the rules of `running` for each section that is the same there: what they remember
    /// survives.
    pub fn keep_unchanged(&mut self, running: &Self) {
        for section in &mut self.0 {
            if let Some(same) = running.like(section) {
                section.rules = same.rules.clone();
            }
        }
    }

    fn like(&self, section: &OwnSection) -> Option<&OwnSection> {
        let is_same = |one: &&OwnSection| one.name == section.name && one.digest == section.digest;
        self.0.iter().find(is_same)
    }

    /// Refuses a header that is declared twice: one check would replace what another says, or what
    /// a client says would pass for it.
    fn refuse_twins(&self, reader: &mut Reader) {
        let mut owners: BTreeMap<String, &str> = BTreeMap::new();
        for section in &self.0 {
            let rules = &section.rules;
            let declared = rules.origin_headers().iter();
            for header in declared.chain(rules.credential_headers()) {
                let name = header.to_ascii_lowercase();
                if let Some(owner) = owners.insert(name, section.name) {
                    let message = format!(
                        "its rules declare the header {header:?}, which those of own.{owner} declare already"
                    );
                    let path = format!("own.{}", section.name);
                    reader.problems().add(&path, PROGRAM, message);
                }
            }
        }
    }

    /// Refuses headers that something else sets or removes, too: `shapes` of the routes, or the
    /// `claims` of tokens. The origin would get both.
    pub(super) fn refuse_headers_of_others<'s>(
        &self,
        reader: &mut Reader,
        shapes: impl Iterator<Item = Option<&'s Shape>>,
        claims: impl Iterator<Item = &'s HeaderName>,
    ) {
        let declared = self.0.iter().flat_map(|section| {
            let rules = &section.rules;
            let names = rules.origin_headers().iter();
            let names = names.chain(rules.credential_headers());
            names.map(|name| (name.to_ascii_lowercase(), section.name))
        });
        let owners: BTreeMap<String, &str> = declared.collect();
        let (set_key, remove_key) = keys(Edited::Requests);
        for (index, shape) in shapes.enumerate() {
            let Some(Shape {
                request_headers, ..
            }) = shape
            else {
                continue;
            };
            let set = request_headers.set.iter().map(|(name, _)| (name, set_key));
            let removed = request_headers.remove.iter().map(|name| (name, remove_key));
            for (name, key) in set.chain(removed) {
                if let Some(owner) = owners.get(name.as_str()) {
                    let path = format!("routes[{index}].{key}");
                    let message = format!(
                        "{name} is a header that the rules of own.{owner} declare for themselves"
                    );
                    reader.problems().add(&path, "the routes", message);
                }
            }
        }
        for name in claims {
            if let Some(owner) = owners.get(name.as_str()) {
                let message = format!(
                    "its rules declare the header {name}, which carries a claim of tokens (forward_claims)"
                );
                reader
                    .problems()
                    .add(&format!("own.{owner}"), PROGRAM, message);
            }
        }
    }
}

/// Where a section and each of its settings come from.
struct Section {
    /// `own.NAME`.
    path: String,
    /// Sources by path.
    sources: BTreeMap<String, String>,
    /// Digest of what stands in the section.
    raw: [u8; 32],
}

impl Section {
    fn new(name: &str, table: &Map<String, Value>) -> Self {
        let path = format!("own.{name}");
        let mut sources = BTreeMap::new();
        for (key, value) in table {
            note_sources(&format!("{path}.{key}"), value, &mut sources);
        }
        Self {
            raw: show::digest_of_table(table),
            path,
            sources,
        }
    }

    /// Source of the setting at `path`; `None` for a default.
    fn source(&self, path: &str) -> Option<&str> {
        self.sources.get(path).map(String::as_str)
    }

    /// Adds a problem with the setting `within` the section.
    fn problem(&self, reader: &mut Reader, within: &str, message: String) {
        let path = match within {
            "" => self.path.clone(),
            within if within.starts_with('[') => format!("{}{within}", self.path),
            within => format!("{}.{within}", self.path),
        };
        // That of the nearest table around it, where the setting itself is missing.
        let around = path.rmatch_indices(['.', '[']).map(|(end, _)| &path[..end]);
        let source = std::iter::once(path.as_str())
            .chain(around)
            .find_map(|path| self.source(path))
            .unwrap_or("the settings");
        reader.problems().add(&path, source, message);
    }
}

fn note_sources(path: &str, value: &Value, sources: &mut BTreeMap<String, String>) {
    sources.insert(path.to_owned(), Reader::source_at(path, value));
    if let Ok(table) = value.clone().into_table() {
        for (key, value) in &table {
            note_sources(&format!("{path}.{key}"), value, sources);
        }
    } else if let Ok(items) = value.clone().into_array() {
        for (index, item) in items.iter().enumerate() {
            note_sources(&format!("{path}[{index}]"), item, sources);
        }
    }
}

/// Refuses headers that rules may not set.
fn refuse_origin_headers(section: &Section, rules: &Rules, reader: &mut Reader) {
    let declared = [
        (rules.origin_headers(), "for the origin"),
        (rules.credential_headers(), "for credentials"),
    ];
    let declared = declared
        .into_iter()
        .flat_map(|(names, purpose)| names.iter().map(move |name| (name, purpose)));
    for (name, purpose) in declared {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let why = match HeaderName::from_bytes(name.as_bytes()) {
            Ok(header) if name.bytes().all(is_plain) => refuse(header.as_str()),
            Ok(_) | Err(_) => Some(
                "a name consists of letters, digits and `-`, since some servers read other marks as `-`",
            ),
        };
        if let Some(why) = why {
            let message = format!("its rules declare the header {name:?} {purpose}: {why}");
            reader.problems().add(&section.path, PROGRAM, message);
        }
    }
}

/// Why rules may not set a header, by its `name` in lower case; `None` if they may.
fn refuse(name: &str) -> Option<&'static str> {
    if is_privileged(name) {
        Some("only the gateway sets this header")
    } else if is_hop_by_hop(name) {
        Some("hop-by-hop headers are between the gateway and its origin")
    } else if is_proxy_header(name) {
        Some("proxies set this header for the server behind them")
    } else if is_meaningful(name) || matches!(name, "authorization" | "cookie") {
        Some("this header has another meaning, for the gateway or for origins")
    } else {
        None
    }
}

/// Effective values of a section, in the form of the reader.
type Shown = Vec<Effective>;

#[cfg(test)]
mod tests;
