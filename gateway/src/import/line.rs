//! One consumer with one key as a line of JSON or CSV: what `export` prints and `import` reads.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::import::column::Column;
use crate::keys::{AllowedIps, ConsumerId, Description, KeyId, Metadata, Scopes, Tags, UnixMillis};
use crate::store::{ConsumerAttributes, KeyAttributes, TransferConsumer, TransferKey, TransferRow};

/// A row as a JSON object. The names are those of the import's columns.
#[derive(Serialize)]
pub(crate) struct Line<'r> {
    bucket: &'r str,
    consumer: &'r str,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer_id: Option<ConsumerId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_id: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'r Description>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
    #[serde(skip_serializing_if = "is_none")]
    tags: &'r Tags,
    #[serde(skip_serializing_if = "Scopes::is_empty")]
    scopes: &'r Scopes,
    #[serde(skip_serializing_if = "AllowedIps::is_empty")]
    allowed_ips: &'r AllowedIps,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer_created_at: Option<UnixMillis>,
    #[serde(flatten)]
    key: Option<KeyLine<'r>>,
}

#[derive(Serialize)]
struct KeyLine<'r> {
    sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<KeyId>,
    #[serde(skip_serializing_if = "str::is_empty")]
    hint: &'r str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<UnixMillis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deprecated_at: Option<UnixMillis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    successor: Option<KeyId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_scopes: Option<&'r Scopes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_description: Option<&'r Description>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<UnixMillis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<UnixMillis>,
}

impl<'r> Line<'r> {
    /// The line of a row.
    pub(crate) fn of(row: &'r TransferRow) -> Self {
        let TransferConsumer {
            id,
            bucket,
            name,
            attributes,
            created_at,
        } = &row.consumer;
        let ConsumerAttributes {
            custom_id,
            description,
            metadata,
            scopes,
            allowed_ips,
            tags,
        } = attributes;
        Self {
            bucket: bucket.as_str(),
            consumer: name.as_str(),
            consumer_id: *id,
            custom_id: custom_id.as_ref().map(|id| id.as_str()),
            description: description.as_ref(),
            metadata: metadata.as_ref().map(Metadata::to_json),
            tags,
            scopes,
            allowed_ips,
            consumer_created_at: *created_at,
            key: row.key.as_ref().map(KeyLine::of),
        }
    }
}

impl<'r> KeyLine<'r> {
    fn of(key: &'r TransferKey) -> Self {
        let TransferKey {
            id,
            digest,
            hint,
            state,
            rolled,
            attributes,
            created_at,
            last_used_at,
        } = key;
        let KeyAttributes {
            description,
            expires_at,
            scopes,
        } = attributes;
        Self {
            sha256: digest.to_hex(),
            key_id: *id,
            hint,
            state: state.as_str(),
            expires_at: *expires_at,
            deprecated_at: rolled.map(|rolled| rolled.at),
            successor: rolled.and_then(|rolled| rolled.successor),
            key_scopes: scopes.as_ref(),
            key_description: description.as_ref(),
            created_at: *created_at,
            last_used_at: *last_used_at,
        }
    }
}

/// The columns of an export as CSV: those of a line, for a key is exported by its digest and its state.
pub(crate) fn columns() -> impl Iterator<Item = Column> {
    let is_exported = |column: &Column| !matches!(column, Column::Key | Column::Disabled);
    Column::ALL.iter().copied().filter(is_exported)
}

/// The cells of a line, in the order of [`columns`].
pub(crate) fn cells(line: &Line<'_>) -> Vec<String> {
    let said = serde_json::to_value(line).unwrap_or_default();
    columns()
        .map(|column| match said.get(column.as_str()) {
            None => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(words)) => list_cell(column, words),
            Some(Value::Object(tags)) if column == Column::Tags => tags_cell(tags),
            Some(other) => other.to_string(),
        })
        .collect()
}

/// `a=b;c=d`, or JSON where that would be read as something else.
fn tags_cell(tags: &Map<String, Value>) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let is_plain = |text: &str| !text.contains(';') && text.trim() == text;
    if tags.values().all(|value| is_plain(&text(value))) {
        let tags: Vec<String> = tags
            .iter()
            .map(|(name, value)| format!("{name}={}", text(value)))
            .collect();
        tags.join(";")
    } else {
        Value::Object(tags.clone()).to_string()
    }
}

/// With spaces between, or JSON where that would be read as something else.
fn list_cell(column: Column, words: &[Value]) -> String {
    let texts: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
    let text = texts.join(" ");
    // An empty cell is all scopes of the consumer; no scope at all is a list without words.
    if text.is_empty() && column == Column::KeyScopes {
        ";".to_owned()
    } else if text.contains(';') || text.starts_with('[') {
        Value::Array(words.to_vec()).to_string()
    } else {
        text
    }
}

fn is_none(tags: &&Tags) -> bool {
    tags.iter().next().is_none()
}

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::import::fields::Defaults;
    use crate::import::{csv, jsonl};
    use crate::keys::{KeyDigest, KeyState, Scope, Tag};
    use crate::store::Rolled;

    fn moment() -> impl Strategy<Value = UnixMillis> {
        (0_i64..4_000_000_000_000).prop_map(UnixMillis)
    }

    fn scopes() -> impl Strategy<Value = Scopes> {
        prop::collection::btree_set("[!#-+\\--Z^-~\\[]{1,8}", 0..4).prop_map(|words| {
            Scopes::new(words.iter().map(|word| word.parse::<Scope>().unwrap())).unwrap()
        })
    }

    prop_compose! {
        fn consumer()(
            name in "[!-~]{1,8}( [!-~]{1,8})?", custom_id in option::of("[!-~]{1,8}"),
            description in option::of("[ -~\u{e4}]{1,12}"), metadata in option::of("[ -~]{0,8}"), scopes in scopes(),
            ranges in prop::collection::vec((any::<[u8; 4]>(), 0_u8..=32), 0..3),
            tags in prop::collection::btree_map("[a-z_.-]{1,4}", "[ -~]{0,8}", 0..3), created_at in option::of(moment()),
        ) -> TransferConsumer {
            TransferConsumer {
                id: Some(ConsumerId::generate().unwrap()),
                bucket: "a bucket".parse().unwrap(),
                name: name.parse().unwrap(),
                attributes: ConsumerAttributes {
                    custom_id: custom_id.map(|id| id.parse().unwrap()),
                    description: description.map(|text| text.parse().unwrap()),
                    metadata: metadata.map(|text| serde_json::json!({ "a": text, "b": [1, null] }).to_string().parse().unwrap()),
                    scopes,
                    allowed_ips: AllowedIps::new(ranges.into_iter().map(|([a, b, c, d], bits)| format!("{a}.{b}.{c}.{d}/{bits}").parse().unwrap())).unwrap(),
                    tags: Tags::new(tags.iter().map(|(name, value)| Tag::new(name, value).unwrap())).unwrap(),
                },
                created_at,
            }
        }
    }

    prop_compose! {
        fn key()(
            digest: [u8; 32], hint in "[!-~]{0,17}", state in 0_usize..3, expires_at in option::of(moment()), rolled in option::of(moment()),
            scopes in option::of(scopes()), description in option::of("[ -~]{1,12}"), created_at in option::of(moment()),
            last_used_at in option::of(moment()), has_successor: bool,
        ) -> TransferKey {
            TransferKey {
                id: Some(KeyId::generate().unwrap()),
                digest: KeyDigest::from(digest),
                hint,
                state: [KeyState::Active, KeyState::Disabled, KeyState::Revoked][state],
                rolled: rolled.map(|at| Rolled {
                    at,
                    successor: has_successor.then(|| KeyId::generate().unwrap()),
                    own_end: expires_at,
                }),
                attributes: KeyAttributes {
                    description: description.map(|text| text.parse().unwrap()),
                    expires_at,
                    scopes,
                },
                created_at,
                last_used_at,
            }
        }
    }

    proptest! {
        /// Nothing is lost or gained, so nothing is wider, in either format.
        #[test]
        fn what_is_exported_is_imported_as_it_was(consumer in consumer(), key in option::of(key())) {
            let row = TransferRow { line: 2, consumer, key };
            let json = serde_json::to_vec(&Line::of(&row)).unwrap();
            let read = jsonl::read(&json, 2, &Defaults::default());
            prop_assert_eq!(read.unwrap(), row.clone(), "{}", String::from_utf8_lossy(&json));
            let mut file = ::csv::Writer::from_writer(Vec::new());
            file.write_record(columns().map(Column::as_str)).unwrap();
            file.write_record(cells(&Line::of(&row))).unwrap();
            let file = file.into_inner().unwrap();
            let shown = String::from_utf8_lossy(&file).into_owned();
            let read: Vec<_> = csv::rows(std::io::Cursor::new(file), Defaults::default()).collect();
            prop_assert_eq!(read.len(), 1, "{}", &shown);
            prop_assert_eq!(read.into_iter().next().unwrap().unwrap(), row, "{}", shown);
        }
    }
}
