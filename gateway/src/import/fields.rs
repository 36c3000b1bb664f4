//! Conversion of a line's cells to a row, for any format. Errors name the column and the accepted
//! values, and never quote a cell, which may be a key.

mod keys_in_texts;

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use serde_json::Value;
use zeroize::Zeroizing;

use crate::import::column::{Column, Of};
use crate::keys::AddressRange;
use crate::keys::allowance::{Entries, Entry, whole};
use crate::keys::traces::MIN_FOREIGN_BYTES;
use crate::keys::{
    AllowedIps, AllowedMethod, AllowedMethods, AllowedRoutes, BucketName, Description, ForeignKey,
    InvalidAllowedIps, InvalidAllowedMethod, InvalidAllowedRoutes, KeyDigest, KeyState,
    MaxInFlight, Metadata, Prefix, RouteName, Scope, Scopes, Tag, Tags, UnixMillis, token,
};
use crate::store::{
    ConsumerAttributes, KeyAttributes, Rolled, TransferConsumer, TransferKey, TransferRow,
};

/// Maximum length of a hint, in characters: that of a key with the longest prefix.
const MAX_HINT_CHARS: usize = 17;

/// Word for the expiry of a key that never expires.
pub(crate) const NEVER: &str = "never";

/// Settings for all lines of an import.
#[derive(Clone, Debug, Default)]
pub(crate) struct Defaults {
    /// Bucket of lines without one.
    pub(crate) bucket: BucketName,
    /// Prefix of this gateway's keys.
    pub(crate) prefix: Prefix,
    /// Whether to accept short keys, which can be guessed.
    pub(crate) allow_weak: bool,
    /// Whether to accept lines without their unsupported restrictions.
    pub(crate) skip_unsupported: bool,
    /// Ignored columns.
    pub(crate) ignored: Arc<[String]>,
}

/// Meaning of a header name or JSON member.
pub(crate) enum Named {
    /// A known column.
    Column(Column),
    /// A column ignored on request.
    Ignored,
    /// An unknown name.
    Unknown,
}

/// Returns whether `name` looks like words rather than a key: letters in consistent case, no
/// digits.
pub(crate) fn is_words(name: &str) -> bool {
    const MAX_WORD_CHARS: usize = 16;
    let is_word = |word: &str| {
        let rest = word.get(1..).unwrap_or_default();
        word.len() <= MAX_WORD_CHARS
            && word.bytes().all(|byte| byte.is_ascii_alphabetic())
            && (rest.bytes().all(|byte| byte.is_ascii_lowercase())
                || word.bytes().all(|byte| byte.is_ascii_uppercase()))
    };
    name.trim().len() <= 48 && name.trim().split(['_', '-', ' ', '.']).all(is_word)
}

impl Defaults {
    /// Classifies `name`.
    pub(crate) fn named(&self, name: &str) -> Named {
        let is_ignored = |ignored: &String| ignored.trim().eq_ignore_ascii_case(name.trim());
        match Column::named(name) {
            _ if self.ignored.iter().any(is_ignored) => Named::Ignored,
            Some(column) => Named::Column(column),
            None => Named::Unknown,
        }
    }

    /// Error for an unknown name. Quotes it only beside known names: in an object that maps keys to
    /// names it would be a key.
    pub(crate) fn unknown(what: &str, number: usize, name: &str, is_beside_known: bool) -> String {
        let name = if is_beside_known && is_words(name) {
            format!(", {:?},", name.trim())
        } else {
            String::new()
        };
        format!(
            "{what} {number}{name} is not known; accepted are {}; or ignore it with `--ignore-column`",
            Column::names()
        )
    }
}

/// A cell.
#[derive(Clone, Debug)]
enum Cell {
    /// From a text format, where an empty text means missing.
    Text(Zeroizing<String>),
    /// From JSON.
    Json(Value),
}

/// Cells of a line.
#[derive(Clone, Debug)]
pub(crate) struct Fields([Option<Cell>; Column::ALL.len()]);

// By hand: arrays of more than 32 items have no default.
impl Default for Fields {
    fn default() -> Self {
        Self(std::array::from_fn(|_| None))
    }
}

impl Fields {
    /// Sets a text; an empty one counts as missing.
    pub(crate) fn set_text(&mut self, column: Column, text: &str) {
        if !text.is_empty() {
            self.set(column, Cell::Text(Zeroizing::new(text.to_owned())));
        }
    }

    /// Sets a JSON value; `null` counts as missing.
    pub(crate) fn set_json(&mut self, column: Column, value: Value) {
        match value {
            Value::Null => {}
            // Moved into memory that is wiped on drop.
            Value::String(key) if column == Column::Key => {
                self.set(column, Cell::Text(Zeroizing::new(key)))
            }
            value => self.set(column, Cell::Json(value)),
        }
    }

    fn set(&mut self, column: Column, cell: Cell) {
        if let Some(place) = self.0.get_mut(column as usize) {
            *place = Some(cell);
        }
    }

    fn take(&mut self, column: Column) -> Option<Cell> {
        self.0.get_mut(column as usize)?.take()
    }

    /// Converts the cells to a row.
    ///
    /// # Errors
    /// The first bad cell and the accepted values.
    pub(crate) fn read(mut self, line: u64, defaults: &Defaults) -> Result<TransferRow, String> {
        self.refuse_keys(&defaults.prefix)?;
        let key = self.key(defaults)?;
        let consumer = self.consumer(defaults)?;
        Ok(TransferRow {
            line,
            consumer,
            key,
        })
    }

    fn consumer(&mut self, defaults: &Defaults) -> Result<TransferConsumer, String> {
        let name = self
            .parse(Column::Consumer)?
            .ok_or_else(|| bad(Column::Consumer, "every line names its consumer"))?;
        Ok(TransferConsumer {
            id: self.parse(Column::ConsumerId)?,
            bucket: self
                .parse(Column::Bucket)?
                .unwrap_or_else(|| defaults.bucket.clone()),
            name,
            attributes: ConsumerAttributes {
                custom_id: self.parse(Column::CustomId)?,
                description: self.note(Column::Description)?,
                metadata: self.metadata()?,
                scopes: self.scopes(Column::Scopes)?.unwrap_or_default(),
                allowed_ips: self.allowed_ips(Column::AllowedIps)?,
                plan: self.parse(Column::Plan)?,
                limits: self.entries(Column::Limits)?,
                quotas: self.entries(Column::Quotas)?,
                max_in_flight: self.max_in_flight(Column::MaxInFlight)?,
                tags: self.tags()?,
            },
            created_at: self.time(Column::ConsumerCreatedAt)?,
        })
    }

    fn key(&mut self, defaults: &Defaults) -> Result<Option<TransferKey>, String> {
        let prefix = &defaults.prefix;
        let digest = self
            .text(Column::Sha256)?
            .map(|text| KeyDigest::parse(text.trim()).map_err(|error| bad(Column::Sha256, error)));
        let digest = digest.transpose()?;
        let hint = self.text(Column::Hint)?;
        if hint.as_ref().is_some_and(|hint| {
            hint.len() > MAX_HINT_CHARS || !hint.bytes().all(|byte| byte.is_ascii_graphic())
        }) {
            return Err(bad(
                Column::Hint,
                format_args!(
                    "at most {MAX_HINT_CHARS} visible ASCII characters, the first of the key"
                ),
            ));
        }
        let (digest, hint) = match (self.plain_key(defaults)?, digest) {
            (Some(key), Some(digest)) if key.digest() != digest => {
                return Err(bad(
                    Column::Sha256,
                    "not the SHA-256 of the column `key`; give only one of the two",
                ));
            }
            (Some(key), _) => (key.digest(), key.hint(prefix)),
            (None, Some(digest))
                if hint
                    .as_ref()
                    .is_some_and(|hint| KeyDigest::of(hint.as_bytes()) == digest) =>
            {
                return Err(bad(
                    Column::Hint,
                    "this is the whole key; give its first characters, or leave the hint out",
                ));
            }
            (None, Some(digest)) => (
                digest,
                hint.map(|hint| hint.to_string()).unwrap_or_default(),
            ),
            (None, None) => return self.no_key(),
        };
        let expires_at = self.time(Column::ExpiresAt)?;
        Ok(Some(TransferKey {
            id: self.parse(Column::KeyId)?,
            digest,
            hint,
            state: self.state()?,
            rolled: self.rolled(expires_at)?,
            chain: self.parse(Column::Chain)?,
            attributes: KeyAttributes {
                description: self.note(Column::KeyDescription)?,
                expires_at,
                scopes: self.scopes(Column::KeyScopes)?,
                limits: self.entries(Column::KeyLimits)?,
                quotas: self.entries(Column::KeyQuotas)?,
                max_in_flight: self.max_in_flight(Column::KeyMaxInFlight)?,
                allowed_ips: self.allowed_ips(Column::KeyAllowedIps)?,
                allowed_methods: self.allowed_methods()?,
                allowed_routes: self.allowed_routes()?,
                exempt_from_unused: self.boolean(Column::ExemptFromUnused)?.unwrap_or_default(),
            },
            created_at: self.time(Column::CreatedAt)?,
            last_used_at: self.time(Column::LastUsedAt)?,
        }))
    }

    /// Reads a line without a key, which defines a consumer only. Key attributes indicate a
    /// forgotten key and are refused.
    fn no_key(&self) -> Result<Option<TransferKey>, String> {
        let is_said = |column: &Column| self.0.get(*column as usize).is_some_and(Option::is_some);
        let mut of_key = Column::ALL
            .iter()
            .copied()
            .filter(|column| column.kind().1 == Of::Key);
        match of_key.find(is_said) {
            Some(column) => Err(bad(
                column,
                "this belongs to a key, but the line has neither `key` nor `sha256`",
            )),
            None => Ok(None),
        }
    }

    fn plain_key(&mut self, defaults: &Defaults) -> Result<Option<ForeignKey>, String> {
        let Some(text) = self.text(Column::Key)? else {
            return Ok(None);
        };
        let text = if text.trim().len() == text.len() {
            text
        } else {
            Zeroizing::new(text.trim().to_owned())
        };
        let is_weak = text.len() < MIN_FOREIGN_BYTES
            && !defaults.allow_weak
            && !token::is_key_shaped(text.as_bytes(), &defaults.prefix);
        match ForeignKey::parse(text, &defaults.prefix) {
            Ok(_) if is_weak => Err(bad(
                Column::Key,
                format_args!(
                    "the key has less than {MIN_FOREIGN_BYTES} characters and can be guessed; accept it with `--allow-weak`"
                ),
            )),
            Ok(key) => Ok(Some(key)),
            Err(error) => Err(bad(
                Column::Key,
                format_args!(
                    "{error}, so no client could present it; a key is 1 to 512 letters, digits and `-._~+/`, then `=`"
                ),
            )),
        }
    }

    fn state(&mut self) -> Result<KeyState, String> {
        let state =
            match self.text(Column::State)? {
                Some(text) => Some(KeyState::parse(text.trim()).ok_or_else(|| {
                    bad(Column::State, "must be `active`, `disabled` or `revoked`")
                })?),
                None => None,
            };
        match (self.boolean(Column::Disabled)?, state) {
            (Some(true), None | Some(KeyState::Disabled)) => Ok(KeyState::Disabled),
            (Some(true), Some(KeyState::Active)) | (Some(false), Some(KeyState::Disabled)) => {
                Err(bad(Column::Disabled, "contradicts `state`"))
            }
            (_, state) => Ok(state.unwrap_or(KeyState::Active)),
        }
    }

    fn text(&mut self, column: Column) -> Result<Option<Zeroizing<String>>, String> {
        match self.take(column) {
            None => Ok(None),
            Some(Cell::Text(text)) => Ok(Some(text)),
            Some(Cell::Json(Value::String(text))) => Ok(Some(Zeroizing::new(text))),
            Some(Cell::Json(_)) => Err(bad(column, "must be a text")),
        }
    }

    fn parse<T: FromStr<Err: Display>>(&mut self, column: Column) -> Result<Option<T>, String> {
        let text = self.text(column)?;
        text.map(|text| text.trim().parse().map_err(|error| bad(column, error)))
            .transpose()
    }

    /// Reads a note; keeps its spaces.
    fn note(&mut self, column: Column) -> Result<Option<Description>, String> {
        self.text(column)?
            .map(|text| text.parse().map_err(|error| bad(column, error)))
            .transpose()
    }

    fn time(&mut self, column: Column) -> Result<Option<UnixMillis>, String> {
        let text = self.text(column)?;
        text.map(|text| UnixMillis::parse(text.trim()).map_err(|error| bad(column, error)))
            .transpose()
    }

    fn boolean(&mut self, column: Column) -> Result<Option<bool>, String> {
        let word = match self.take(column) {
            None => return Ok(None),
            Some(Cell::Json(Value::Bool(value))) => return Ok(Some(value)),
            Some(Cell::Text(text)) => text.trim().to_ascii_lowercase(),
            Some(Cell::Json(_)) => String::new(),
        };
        match word.as_str() {
            "true" | "yes" | "1" => Ok(Some(true)),
            "false" | "no" | "0" => Ok(Some(false)),
            _ => Err(bad(column, "must be `true` or `false`")),
        }
    }

    fn metadata(&mut self) -> Result<Option<Metadata>, String> {
        let text = match self.take(Column::Metadata) {
            None => return Ok(None),
            Some(Cell::Text(text)) => text,
            Some(Cell::Json(object @ Value::Object(_))) => Zeroizing::new(object.to_string()),
            Some(Cell::Json(_)) => Zeroizing::default(),
        };
        text.parse()
            .map(Some)
            .map_err(|error| bad(Column::Metadata, error))
    }

    fn scopes(&mut self, column: Column) -> Result<Option<Scopes>, String> {
        let value = match self.take(column) {
            None => return Ok(None),
            Some(Cell::Text(text)) if text.trim_start().starts_with('[') => json_in(column, &text)?,
            Some(Cell::Text(text)) => Value::String(text.to_string()),
            Some(Cell::Json(value)) => value,
        };
        let words: Vec<&str> = match &value {
            Value::String(text) => text
                .split(|separator: char| {
                    separator.is_whitespace() || matches!(separator, ';' | ',')
                })
                .filter(|word| !word.is_empty())
                .collect(),
            Value::Array(words) => words
                .iter()
                .map(|word| {
                    word.as_str()
                        .ok_or_else(|| bad(column, "must be an array of texts"))
                })
                .collect::<Result<_, _>>()?,
            _ => {
                return Err(bad(
                    column,
                    "must be an array of texts, or one text with spaces or `;` between the scopes",
                ));
            }
        };
        let scopes: Result<Vec<Scope>, _> = words.into_iter().map(str::parse).collect();
        scopes
            .and_then(Scopes::new)
            .map(Some)
            .map_err(|error| bad(column, error))
    }

    /// Reads allowed addresses. A missing value, an empty array and null allow every address.
    fn allowed_ips(&mut self, column: Column) -> Result<AllowedIps, String> {
        let ranges = self.words(
            column,
            &[' ', ',', ';'],
            "the ranges",
            InvalidAllowedIps::Range,
        )?;
        let ranges: Result<Vec<AddressRange>, _> = ranges
            .iter()
            .map(|range| range.parse().map_err(|_| InvalidAllowedIps::Range))
            .collect();
        ranges
            .and_then(AllowedIps::new)
            .map_err(|error| bad(column, error))
    }

    /// Reads allowed methods, likewise.
    fn allowed_methods(&mut self) -> Result<AllowedMethods, String> {
        let column = Column::KeyAllowedMethods;
        let methods = self.words(
            column,
            &[' ', ',', ';'],
            "the methods",
            InvalidAllowedMethod,
        )?;
        let methods: Result<Vec<AllowedMethod>, _> =
            methods.iter().map(|method| method.parse()).collect();
        methods
            .map(AllowedMethods::new)
            .map_err(|error| bad(column, error))
    }

    /// Reads allowed routes, likewise; their names may contain spaces and commas.
    fn allowed_routes(&mut self) -> Result<AllowedRoutes, String> {
        let column = Column::KeyAllowedRoutes;
        let names = self.words(column, &[';'], "the names", InvalidAllowedRoutes::Name)?;
        let names: Result<Vec<RouteName>, _> = names.iter().map(|name| name.parse()).collect();
        names
            .and_then(AllowedRoutes::new)
            .map_err(|error| bad(column, error))
    }

    /// Reads a list in which emptiness means everything: a missing value, an empty array and null
    /// are empty. An empty text is refused as `empty`, since it may come from an unset variable;
    /// the caller refuses empty items.
    fn words(
        &mut self,
        column: Column,
        separators: &[char],
        what: &str,
        empty: impl Display,
    ) -> Result<Vec<String>, String> {
        let value = match self.take(column) {
            None => return Ok(Vec::new()),
            Some(Cell::Text(text)) if text.trim_start().starts_with('[') => json_in(column, &text)?,
            Some(Cell::Text(text)) => Value::String(text.to_string()),
            Some(Cell::Json(value)) => value,
        };
        match &value {
            Value::String(text) => {
                let words = text.split(separators).map(str::trim);
                let words = words.filter(|word| !word.is_empty()).map(str::to_owned);
                let words: Vec<String> = words.collect();
                if words.is_empty() {
                    return Err(bad(column, empty));
                }
                Ok(words)
            }
            Value::Array(words) => words
                .iter()
                .map(|word| {
                    word.as_str()
                        .map(str::to_owned)
                        .ok_or_else(|| bad(column, "must be an array of texts"))
                })
                .collect(),
            _ => {
                let between = match separators {
                    [' ', ..] => "spaces or `;`",
                    _ => "`;`",
                };
                let expected =
                    format!("must be an array of texts, or one text with {between} between {what}");
                Err(bad(column, expected))
            }
        }
    }

    /// Reads limits or quotas: a JSON array, or entries as commands accept them.
    fn entries<T: Entry + FromStr<Err = String>>(
        &mut self,
        column: Column,
    ) -> Result<Entries<T>, String> {
        match self.take(column) {
            None => Ok(Entries::default()),
            Some(Cell::Text(text)) => text.parse(),
            Some(Cell::Json(Value::String(text))) => text.parse(),
            Some(Cell::Json(value)) => value.to_string().parse(),
        }
        .map_err(|error: String| bad(column, error))
    }

    fn max_in_flight(&mut self, column: Column) -> Result<Option<MaxInFlight>, String> {
        let number = match self.take(column) {
            None => return Ok(None),
            Some(Cell::Text(text)) => text.trim().parse(),
            Some(Cell::Json(value)) => MaxInFlight::try_from(whole(&value).unwrap_or_default()),
        };
        number.map(Some).map_err(|error| bad(column, error))
    }

    /// Reads the deprecation of a key that expires at `end`. Without the expiry before the roll,
    /// that is `end` too.
    fn rolled(&mut self, end: Option<UnixMillis>) -> Result<Option<Rolled>, String> {
        let original = self.text(Column::OriginalExpiresAt)?;
        let original = original.map(|text| match text.trim() {
            NEVER => Ok(None),
            text => UnixMillis::parse(text).map(Some).map_err(|error| {
                bad(
                    Column::OriginalExpiresAt,
                    format_args!("{error}; or `{NEVER}`"),
                )
            }),
        });
        let original = original.transpose()?;
        let (at, successor) = (
            self.time(Column::DeprecatedAt)?,
            self.parse(Column::Successor)?,
        );
        let Some(at) = at else {
            let without = [
                (successor.is_some(), Column::Successor),
                (original.is_some(), Column::OriginalExpiresAt),
            ];
            let said = without.into_iter().find(|(is_said, _)| *is_said);
            return said.map_or(Ok(None), |(_, column)| {
                Err(bad(
                    column,
                    "requires `deprecated_at`, the start of the deprecation",
                ))
            });
        };
        Ok(Some(Rolled {
            at,
            successor,
            original_expiry: original.unwrap_or(end),
        }))
    }

    fn tags(&mut self) -> Result<Tags, String> {
        let column = Column::Tags;
        let value = match self.take(column) {
            None => return Ok(Tags::default()),
            Some(Cell::Text(text)) if text.trim_start().starts_with('{') => json_in(column, &text)?,
            Some(Cell::Text(text)) => {
                let tags: Result<Vec<Tag>, _> = text
                    .split(';')
                    .filter(|tag| !tag.trim().is_empty())
                    .map(|tag| tag.trim_start().parse())
                    .collect();
                return tags.and_then(Tags::new).map_err(|error| bad(column, error));
            }
            Some(Cell::Json(value)) => value,
        };
        let Value::Object(tags) = value else {
            return Err(bad(column, "must be an object of texts"));
        };
        let tags: Result<Vec<Tag>, String> = tags
            .iter()
            .map(|(name, value)| {
                let value = value
                    .as_str()
                    .ok_or_else(|| bad(column, "must be an object of texts"))?;
                Tag::new(name, value).map_err(|error| bad(column, error))
            })
            .collect();
        Tags::new(tags?).map_err(|error| bad(column, error))
    }
}

fn json_in(column: Column, text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|_| bad(column, "starts like JSON but is invalid"))
}

fn bad(column: Column, reason: impl Display) -> String {
    format!("`{}`: {reason}", column.as_str())
}

#[cfg(test)]
mod tests;
