//! Serialization of a row as a line of JSON or CSV, for `export` and `import`.

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::import::column::Column;
use crate::import::fields::NEVER;
use crate::keys::allowance::Entries;
use crate::keys::{CustomId, Metadata};
use crate::store::{ConsumerAttributes, KeyAttributes, TransferConsumer, TransferKey, TransferRow};

/// Values of a row in column order. Serialized to JSON as an object.
#[derive(Default)]
pub(crate) struct Line(Vec<(Column, Value)>);

impl Line {
    /// Builds the line of a row.
    pub(crate) fn of(row: &TransferRow) -> Self {
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
            plan,
            limits,
            quotas,
            max_in_flight,
            tags,
        } = attributes;
        let has_tags = tags.iter().next().is_some();
        let mut line = Self::default();
        line.say(Column::Bucket, Some(bucket.as_str()));
        line.say(Column::Consumer, Some(name.as_str()));
        line.say(Column::ConsumerId, id.as_ref());
        line.say(Column::CustomId, custom_id.as_ref().map(CustomId::as_str));
        line.say(Column::Description, description.as_ref());
        line.say(Column::Metadata, metadata.as_ref().map(Metadata::to_json));
        line.say(Column::Tags, has_tags.then_some(tags));
        line.say(
            Column::Scopes,
            Some(scopes).filter(|scopes| !scopes.is_empty()),
        );
        line.say(
            Column::AllowedIps,
            Some(allowed_ips).filter(|ranges| !ranges.is_empty()),
        );
        line.say(Column::Plan, plan.as_ref());
        line.say_entries(Column::Limits, limits);
        line.say_entries(Column::Quotas, quotas);
        line.say(Column::MaxInFlight, max_in_flight.as_ref());
        line.say(Column::ConsumerCreatedAt, created_at.as_ref());
        if let Some(key) = &row.key {
            line.say_key(key);
        }
        line
    }

    fn say_key(&mut self, key: &TransferKey) {
        let TransferKey {
            id,
            digest,
            hint,
            state,
            rolled,
            chain,
            attributes,
            created_at,
            last_used_at,
        } = key;
        let KeyAttributes {
            description,
            expires_at,
            scopes,
            limits,
            quotas,
            max_in_flight,
            allowed_ips,
            allowed_methods,
            allowed_routes,
            exempt_from_unused,
        } = attributes;
        self.say(Column::Sha256, Some(digest.to_hex()));
        self.say(Column::KeyId, id.as_ref());
        self.say(Column::Hint, Some(hint).filter(|hint| !hint.is_empty()));
        self.say(Column::State, Some(state.as_str()));
        self.say(Column::ExpiresAt, expires_at.as_ref());
        self.say(Column::DeprecatedAt, rolled.map(|rolled| rolled.at));
        self.say(
            Column::Successor,
            rolled.and_then(|rolled| rolled.successor),
        );
        let original = rolled.map(|rolled| match rolled.original_expiry {
            Some(end) => serde_json::json!(end),
            None => NEVER.into(),
        });
        self.say(Column::OriginalExpiresAt, original);
        self.say(Column::Chain, chain.as_ref());
        self.say_entries(Column::KeyLimits, limits);
        self.say_entries(Column::KeyQuotas, quotas);
        self.say(Column::KeyMaxInFlight, max_in_flight.as_ref());
        self.say(
            Column::KeyAllowedIps,
            Some(allowed_ips).filter(|ranges| !ranges.is_empty()),
        );
        self.say(
            Column::KeyAllowedMethods,
            Some(allowed_methods).filter(|methods| !methods.is_empty()),
        );
        self.say(
            Column::KeyAllowedRoutes,
            Some(allowed_routes).filter(|routes| !routes.is_empty()),
        );
        self.say(Column::ExemptFromUnused, exempt_from_unused.then_some(true));
        self.say(Column::KeyScopes, scopes.as_ref());
        self.say(Column::KeyDescription, description.as_ref());
        self.say(Column::CreatedAt, created_at.as_ref());
        self.say(Column::LastUsedAt, last_used_at.as_ref());
    }

    fn say_entries<T: Serialize>(&mut self, column: Column, entries: &Entries<T>) {
        self.say(column, Some(entries).filter(|entries| !entries.is_empty()));
    }

    fn say(&mut self, column: Column, value: Option<impl Serialize>) {
        let value = value.and_then(|value| serde_json::to_value(value).ok());
        self.0.extend(value.map(|value| (column, value)));
    }
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            self.0
                .iter()
                .map(|(column, value)| (column.as_str(), value)),
        )
    }
}

/// Returns the CSV columns of an export, without the plain key: a key is exported as digest and
/// state.
pub(crate) fn columns() -> impl Iterator<Item = Column> {
    let is_exported = |column: &Column| !matches!(column, Column::Key | Column::Disabled);
    Column::ALL.iter().copied().filter(is_exported)
}

/// Returns the cells of a line, in the order of [`columns`].
pub(crate) fn cells(line: &Line) -> Vec<String> {
    let said = |wanted| line.0.iter().find(|(column, _)| *column == wanted);
    columns()
        .map(|column| match said(column).map(|(_, value)| value) {
            None => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(entries @ Value::Array(_)) if is_json(column) => entries.to_string(),
            Some(Value::Array(words)) => list_cell(column, words),
            Some(Value::Object(tags)) if column == Column::Tags => tags_cell(tags),
            Some(other) => other.to_string(),
        })
        .collect()
}

/// Whether a cell of the column is JSON: names of routes may contain spaces.
fn is_json(column: Column) -> bool {
    use Column::{KeyAllowedRoutes, KeyLimits, KeyQuotas, Limits, Quotas};
    matches!(
        column,
        Limits | Quotas | KeyLimits | KeyQuotas | KeyAllowedRoutes
    )
}

/// Formats tags as `a=b;c=d`, or as JSON where that would be ambiguous.
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

/// Separates words by spaces, or formats JSON where that would be ambiguous.
fn list_cell(column: Column, words: &[Value]) -> String {
    let texts: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
    let text = texts.join(" ");
    // An empty cell means all scopes of the consumer, an empty list none.
    if text.is_empty() && column == Column::KeyScopes {
        ";".to_owned()
    } else if text.contains(';') || text.starts_with('[') {
        Value::Array(words.to_vec()).to_string()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::import::fields::Defaults;
    use crate::import::{csv, jsonl};
    use crate::keys::{
        AllowedIps, AllowedRoutes, ConsumerId, KeyDigest, KeyId, KeyState, Scope, Scopes, Tag,
        Tags, UnixMillis,
    };
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
            plan in option::of("[a-z0-9][a-z_.-]{0,4}"), limits in "(a=[1-9]/[1-9]s)?( b=unlimited)?", quotas in "(m=[1-9]@[1-9])?( n=[1-9]/month)?", in_flight in option::of(1_u64..100),
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
                    plan: plan.map(|plan| plan.parse().unwrap()),
                    limits: limits.parse().unwrap(),
                    quotas: quotas.parse().unwrap(),
                    max_in_flight: in_flight.map(|most| most.try_into().unwrap()),
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
            last_used_at in option::of(moment()), has_successor: bool, original_expiry in option::of(moment()), has_chain: bool,
            limits in "(a=[1-9]/[1-9]s)?( b=[1-9])?", in_flight in option::of(1_u64..100),
            ips in "(192\\.0\\.2\\.[1-9])?( ::[1-9])?", methods in "(GET)?( POST)?( DELETE)?", routes in prop::collection::vec("[!#-\\[\\]-~]{1,8}( [!#-\\[\\]-~]{1,8})?", 0..3),
        ) -> TransferKey {
            TransferKey {
                id: Some(KeyId::generate().unwrap()),
                digest: KeyDigest::from(digest),
                hint,
                state: [KeyState::Active, KeyState::Disabled, KeyState::Revoked][state],
                rolled: rolled.map(|at| Rolled {
                    at,
                    successor: has_successor.then(|| KeyId::generate().unwrap()),
                    original_expiry,
                }),
                chain: has_chain.then(|| KeyId::generate().unwrap()),
                attributes: KeyAttributes {
                    description: description.map(|text| text.parse().unwrap()),
                    expires_at,
                    scopes,
                    limits: limits.parse().unwrap(),
                    quotas: "monthly=5@15".parse().unwrap(),
                    max_in_flight: in_flight.map(|most| most.try_into().unwrap()),
                    allowed_ips: ips.parse().unwrap(),
                    allowed_methods: methods.parse().unwrap(),
                    allowed_routes: AllowedRoutes::new(routes.iter().map(|name| name.parse().unwrap())).unwrap(),
                    exempt_from_unused: has_chain,
                },
                created_at,
                last_used_at,
            }
        }
    }

    proptest! {
        /// Round trip without gain or loss, hence without widening, in either format.
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
