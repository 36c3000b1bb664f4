//! Settings of one's own as `gateway check` prints them, and the digest that tells whether they
//! changed.

use std::path::Path;

use config::{Map, Value, ValueKind};
use serde::Serialize;
use serde_json::{Map as JsonMap, Value as Json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::config::own::{Section, Shown};
use crate::config::reader::Effective;

type JsonTable = JsonMap<String, Json>;

/// Parts of names whose texts are never shown, whatever their type: a program may have forgotten
/// that it is a secret.
const SECRET_PARTS: [&str; 5] = ["secret", "password", "passphrase", "token", "credential"];

/// Maximum size of a file whose content counts.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Effective values of `settings`, defaults included.
///
/// # Errors
/// The type cannot be shown: the reason, which contains no value.
pub(super) fn show(section: &Section, settings: &impl Serialize) -> Result<Shown, &'static str> {
    match serde_json::to_value(settings) {
        Ok(Json::Object(table)) => {
            let mut shown = Vec::new();
            note_table(section, &section.path, &table, &mut shown);
            Ok(shown)
        }
        // No settings.
        Ok(Json::Null) => Ok(Vec::new()),
        Ok(_) => Err(
            "its type is no table of settings: derive Serialize and Deserialize for a struct with named fields",
        ),
        Err(_) => {
            Err("its type cannot be shown: derive Serialize, and give tables texts for names")
        }
    }
}

/// Notes the values of a table, then its tables, as TOML has them.
fn note_table(section: &Section, path: &str, table: &JsonTable, shown: &mut Shown) {
    let is_table = |value: &Json| {
        let mut items = value.as_array().into_iter().flatten();
        value.is_object() || items.any(Json::is_object)
    };
    let (tables, values): (Vec<_>, Vec<_>) = table.iter().partition(|(_, value)| is_table(value));
    for (key, value) in values.into_iter().chain(tables) {
        note(section, &format!("{path}.{key}"), value, shown);
    }
}

fn note(section: &Section, path: &str, value: &Json, shown: &mut Shown) {
    match value {
        Json::Null => {}
        Json::Object(table) => note_table(section, path, table, shown),
        Json::Array(items) if items.iter().any(Json::is_object) => {
            for (index, item) in items.iter().enumerate() {
                note(section, &format!("{path}[{index}]"), item, shown);
            }
        }
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| text(path, item)).collect();
            let value = format!("[{}]", items.join(", "));
            shown.push(effective(section, path, value));
        }
        Json::Bool(_) | Json::Number(_) | Json::String(_) => {
            shown.push(effective(section, path, text(path, value)));
        }
    }
}

fn effective(section: &Section, path: &str, value: String) -> Effective {
    Effective {
        path: path.to_owned(),
        value,
        source: section.source(path).unwrap_or("default").to_owned(),
    }
}

/// A value as TOML. JSON escapes texts as TOML does.
fn text(path: &str, value: &Json) -> String {
    let name = path.rsplit('.').next().unwrap_or(path);
    let is_secret = !name.ends_with("_file") && SECRET_PARTS.iter().any(|part| name.contains(part));
    match value {
        Json::String(_) if is_secret => "\"[redacted]\"".to_owned(),
        value => value.to_string(),
    }
}

/// Digest of a section and of the files that it names. Never shown: secrets are among it.
pub(super) fn digest(section: &Section, shown: &Shown) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(section.raw);
    for Effective { path, value, .. } in shown {
        if path.ends_with("_file") {
            add(&mut digest, &content(Path::new(value.trim_matches('"'))));
        }
    }
    digest.finalize().into()
}

/// What a file holds; nothing for one that is none or cannot be read.
fn content(file: &Path) -> Zeroizing<Vec<u8>> {
    let is_read = std::fs::metadata(file)
        .is_ok_and(|metadata| metadata.is_file() && metadata.len() <= MAX_FILE_BYTES);
    let content = is_read.then(|| std::fs::read(file).unwrap_or_default());
    Zeroizing::new(content.unwrap_or_default())
}

/// Digest of the values in a table.
pub(super) fn digest_of_table(table: &Map<String, Value>) -> [u8; 32] {
    let mut digest = Sha256::new();
    add_table(&mut digest, table);
    digest.finalize().into()
}

fn add_table(digest: &mut Sha256, table: &Map<String, Value>) {
    let mut entries: Vec<(&String, &Value)> = table.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    add(digest, &entries.len().to_be_bytes());
    for (key, value) in entries {
        add(digest, key.as_bytes());
        add_value(digest, value);
    }
}

fn add_value(digest: &mut Sha256, value: &Value) {
    match &value.kind {
        ValueKind::Table(table) => add_table(digest, table),
        ValueKind::Array(items) => {
            add(digest, &items.len().to_be_bytes());
            for item in items {
                add_value(digest, item);
            }
        }
        kind => {
            let text = Zeroizing::new(format!("{kind:?}"));
            add(digest, text.as_bytes());
        }
    }
}

/// Adds a part with its length, so that parts do not run into each other.
fn add(digest: &mut Sha256, part: &[u8]) {
    digest.update(part.len().to_be_bytes());
    digest.update(part);
}
