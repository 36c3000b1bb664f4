//! Conflicts between the lines of a file. Keeps only digests, so that a million lines take little
//! memory.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::keys::KeyDigest;
use crate::store::{TransferConsumer, TransferRow};

/// Lines accepted so far.
#[derive(Debug, Default)]
pub(crate) struct SeenLines {
    /// Consumer and line of each key.
    keys: HashMap<u128, (u128, u64)>,
    /// Attributes and line of each consumer.
    consumers: HashMap<u128, (u64, u64)>,
    /// Owner and line of each custom id and id.
    taken: HashMap<u128, (u128, u64)>,
}

/// An accepted line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A new key or consumer.
    New,
    /// A repetition of the same key for the same consumer.
    Repeated,
}

impl SeenLines {
    /// Records a row.
    ///
    /// # Errors
    /// The conflict with an earlier line; the row is not recorded.
    pub(crate) fn take(&mut self, row: &TransferRow) -> Result<Line, String> {
        let consumer = &row.consumer;
        let owner = name(&["consumer", consumer.bucket.as_str(), consumer.name.as_str()]);
        let said = if consumer.is_bare() {
            0
        } else {
            what_it_is(row)
        };
        if let Some((before, line)) = self.consumers.get(&owner)
            && said != 0
            && said != *before
        {
            return Err(match before {
                0 => format!(
                    "line {line} only names this consumer; its attributes belong in its first line"
                ),
                _ => format!(
                    "contradicts the attributes of the consumer in line {line}; repeat them, or give the name only"
                ),
            });
        }
        let key = row.key.as_ref().map(|key| short(&key.digest));
        if let Some((of, line)) = key.and_then(|key| self.keys.get(&key)) {
            return if *of == owner {
                Ok(Line::Repeated)
            } else {
                Err(format!(
                    "line {line} gives the same key to another consumer"
                ))
            };
        }
        let unique = [
            (
                "custom id",
                consumer.attributes.custom_id.as_ref().map(|id| {
                    (
                        name(&["custom", consumer.bucket.as_str(), id.as_str()]),
                        owner,
                    )
                }),
            ),
            (
                "consumer id",
                consumer.id.map(|id| (name(&[id.as_str()]), owner)),
            ),
            (
                "key id",
                row.key
                    .as_ref()
                    .and_then(|key| Some((name(&[key.id?.as_str()]), short(&key.digest)))),
            ),
        ];
        for (what, id) in &unique {
            if let Some((id, of)) = id
                && let Some((before, line)) = self.taken.get(id)
                && before != of
            {
                return Err(format!("line {line} has the same {what}"));
            }
        }
        for (_, id) in unique {
            if let Some((id, of)) = id {
                self.taken.entry(id).or_insert((of, row.line));
            }
        }
        let is_known = self.consumers.contains_key(&owner);
        self.consumers.entry(owner).or_insert((said, row.line));
        match key {
            Some(key) => _ = self.keys.insert(key, (owner, row.line)),
            None if is_known => return Ok(Line::Repeated),
            None => {}
        }
        Ok(Line::New)
    }
}

/// Truncates a digest to 128 bits, still free of collisions within a file.
fn short(digest: &KeyDigest) -> u128 {
    digest
        .as_bytes()
        .first_chunk()
        .map_or(0, |half| u128::from_le_bytes(*half))
}

fn name(parts: &[&str]) -> u128 {
    // None of the parts contains a line break.
    short(&KeyDigest::of(parts.join("\n").as_bytes()))
}

fn what_it_is(row: &TransferRow) -> u64 {
    // Exhaustive pattern: a new field does not compile until compared. The first two identify the
    // consumer.
    let TransferConsumer {
        bucket: _,
        name: _,
        id,
        attributes,
        created_at,
    } = &row.consumer;
    let mut hasher = DefaultHasher::new();
    format!("{id:?} {attributes:?} {created_at:?}").hash(&mut hasher);
    // 0 means a consumer without attributes.
    hasher.finish().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{BucketName, KeyState, Scopes, Tags, UnixMillis};
    use crate::store::{KeyAttributes, TransferKey};

    fn row(line: u64, consumer: &str, custom_id: &str, key: &str) -> TransferRow {
        let mut consumer =
            TransferConsumer::named(BucketName::default(), consumer.parse().unwrap());
        consumer.attributes.custom_id = (!custom_id.is_empty()).then(|| custom_id.parse().unwrap());
        let key = (!key.is_empty()).then(|| TransferKey {
            id: None,
            digest: KeyDigest::of(key.as_bytes()),
            hint: String::new(),
            state: KeyState::Active,
            rolled: None,
            chain: None,
            attributes: KeyAttributes::default(),
            created_at: None,
            last_used_at: None,
        });
        TransferRow {
            line,
            consumer,
            key,
        }
    }

    #[test]
    fn lines_that_contradict_each_other_are_found() {
        let mut seen = SeenLines::default();
        for (row, verdict) in [
            (row(1, "a", "1", "k1"), Ok(Line::New)),
            (row(2, "a", "", "k2"), Ok(Line::New)),
            (row(3, "a", "1", "k3"), Ok(Line::New)),
            (row(4, "a", "1", "k1"), Ok(Line::Repeated)),
            (row(5, "a", "", ""), Ok(Line::Repeated)),
            (
                row(6, "b", "", "k1"),
                Err("line 1 gives the same key to another consumer"),
            ),
            (
                row(7, "a", "2", "k4"),
                Err(
                    "contradicts the attributes of the consumer in line 1; repeat them, or give the name only",
                ),
            ),
            (row(8, "b", "1", "k5"), Err("line 1 has the same custom id")),
            (row(9, "c", "", ""), Ok(Line::New)),
            (
                row(10, "c", "3", "k6"),
                Err("line 9 only names this consumer; its attributes belong in its first line"),
            ),
        ] {
            let line = row.line;
            assert_eq!(
                seen.take(&row),
                verdict.map_err(str::to_owned),
                "line {line}"
            );
        }
    }

    #[test]
    fn everything_that_is_said_of_a_consumer_is_compared() {
        let edits: [fn(&mut TransferConsumer); 8] = [
            |consumer| consumer.id = Some("csmr_0123456789abcdefghij".parse().unwrap()),
            |consumer| consumer.attributes.custom_id = Some("43".parse().unwrap()),
            |consumer| consumer.attributes.description = Some("a note".parse().unwrap()),
            |consumer| consumer.attributes.metadata = Some("{}".parse().unwrap()),
            |consumer| consumer.attributes.scopes = Scopes::new(["read".parse().unwrap()]).unwrap(),
            |consumer| consumer.attributes.allowed_ips = "192.0.2.0/24".parse().unwrap(),
            |consumer| consumer.attributes.tags = Tags::new(["a=b".parse().unwrap()]).unwrap(),
            |consumer| consumer.created_at = Some(UnixMillis(1)),
        ];
        for (index, edit) in edits.into_iter().enumerate() {
            let mut seen = SeenLines::default();
            assert_eq!(seen.take(&row(1, "a", "42", "k1")), Ok(Line::New));
            let mut other = row(2, "a", "42", "k2");
            edit(&mut other.consumer);
            assert!(
                seen.take(&other)
                    .is_err_and(|reason| reason.contains("contradicts the attributes")),
                "edit {index}"
            );
        }
    }
}
