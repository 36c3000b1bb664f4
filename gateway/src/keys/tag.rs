//! Tags: labels by which administrators sort consumers; never sent to the origin.

use std::collections::BTreeMap;
use std::str::FromStr;

use thiserror::Error;

/// Maximum length of a tag name, in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// Maximum length of a tag value, in characters.
pub const MAX_VALUE_CHARS: usize = 256;
/// Maximum number of tags of one consumer.
pub const MAX_TAGS: usize = 64;

/// A tag, written `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    name: String,
    value: String,
}

/// Tags of a consumer, with unique names.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Tags(BTreeMap<String, String>);

/// The text is not a tag, or there are too many tags.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidTag {
    /// Not `name=value` with a valid name.
    #[error(
        "a tag is `name=value`; the name is 1 to {MAX_NAME_BYTES} letters, digits, `_`, `.` and `-`"
    )]
    Name,
    /// The value is too long or has a control character.
    #[error(
        "the value of a tag has at most {MAX_VALUE_CHARS} characters and no control characters"
    )]
    Value,
    /// More than [`MAX_TAGS`].
    #[error("there are at most {MAX_TAGS} tags")]
    TooMany,
}

impl Tag {
    /// Builds a tag from name and value.
    pub fn new(name: &str, value: &str) -> Result<Self, InvalidTag> {
        let is_name = (1..=MAX_NAME_BYTES).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
        if !is_name {
            return Err(InvalidTag::Name);
        }
        if value.chars().count() > MAX_VALUE_CHARS || value.chars().any(char::is_control) {
            return Err(InvalidTag::Value);
        }
        Ok(Self {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the value.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl FromStr for Tag {
    type Err = InvalidTag;

    fn from_str(text: &str) -> Result<Self, InvalidTag> {
        let (name, value) = text.split_once('=').ok_or(InvalidTag::Name)?;
        Self::new(name, value)
    }
}

impl Tags {
    /// Collects `tags`; the last one of a name wins.
    pub fn new(tags: impl IntoIterator<Item = Tag>) -> Result<Self, InvalidTag> {
        let tags: BTreeMap<_, _> = tags.into_iter().map(|tag| (tag.name, tag.value)).collect();
        if tags.len() > MAX_TAGS {
            Err(InvalidTag::TooMany)
        } else {
            Ok(Self(tags))
        }
    }

    /// Returns whether the set contains each of `wanted` with the same value.
    #[must_use]
    pub fn include(&self, wanted: &Self) -> bool {
        wanted
            .0
            .iter()
            .all(|(name, value)| self.0.get(name) == Some(value))
    }

    /// Iterates over names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_a_plain_name_with_any_value() {
        let long = format!("n={}", "v".repeat(MAX_VALUE_CHARS + 1));
        for (text, verdict) in [
            ("plan=gold", Ok(())),
            ("plan=", Ok(())),
            ("a.b-c_d=ö=ü", Ok(())),
            ("plan", Err(InvalidTag::Name)),
            ("=gold", Err(InvalidTag::Name)),
            ("p lan=gold", Err(InvalidTag::Name)),
            ("plan=a\u{1b}[2J", Err(InvalidTag::Value)),
            (&long, Err(InvalidTag::Value)),
        ] {
            assert_eq!(text.parse::<Tag>().map(drop), verdict, "{text:?}");
        }
    }

    #[test]
    fn the_later_of_two_tags_stands() {
        let tags =
            Tags::new(["plan=gold", "org=acme", "plan=iron"].map(|tag| tag.parse().unwrap()))
                .unwrap();
        assert_eq!(
            tags.iter().collect::<Vec<_>>(),
            [("org", "acme"), ("plan", "iron")]
        );
    }

    #[test]
    fn tags_include_those_that_are_there_with_their_value() {
        let tags =
            |texts: &[&str]| Tags::new(texts.iter().map(|tag| tag.parse().unwrap())).unwrap();
        let all = tags(&["org=acme", "plan=gold"]);
        for (wanted, included) in [
            (&[][..], true),
            (&["org=acme"], true),
            (&["org=acme", "plan=gold"], true),
            (&["org=Acme"], false),
            (&["o=acme"], false),
        ] {
            assert_eq!(all.include(&tags(wanted)), included, "{wanted:?}");
        }
    }

    #[test]
    fn too_many_tags_are_refused() {
        let many = (0..=MAX_TAGS).map(|number| Tag::new(&format!("t{number}"), "").unwrap());
        assert_eq!(Tags::new(many), Err(InvalidTag::TooMany));
    }
}
