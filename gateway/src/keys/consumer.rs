//! Consumers: who keys belong to.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::keys::short_text::{SharedTexts, ShortText};
use crate::keys::{AllowedIps, ConsumerId, Scopes};

/// Longest name of a consumer, custom id or bucket, in bytes: names travel in headers.
pub const MAX_NAME_BYTES: usize = 128;
/// Longest description, in characters.
pub const MAX_DESCRIPTION_CHARS: usize = 1024;
/// Longest metadata, in bytes of JSON.
pub const MAX_METADATA_BYTES: usize = 4096;

/// A consumer as requests need it: who it is and what it may do. What only administrators see (description, tags) is
/// in the store alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// Its id, which never changes.
    pub id: ConsumerId,
    /// The namespace that its name is unique in.
    pub bucket: BucketName,
    /// Its name; the origin sees it.
    pub name: ConsumerName,
    /// The id that the team's own system gave it; the origin sees it.
    pub custom_id: Option<CustomId>,
    /// What the team wants the origin to know about it.
    pub metadata: Option<Metadata>,
    /// What it may do. No key of it may do more.
    pub scopes: Scopes,
    /// Where its keys may be used from.
    pub allowed_ips: AllowedIps,
}

/// A namespace of consumers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketName(Arc<ShortText>);

/// The name of a consumer, fit to be the value of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerName(ShortText);

/// The id that the team's own system gave a consumer, fit to be the value of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomId(Box<ShortText>);

/// A note for administrators: at most [`MAX_DESCRIPTION_CHARS`], without control characters.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Description(Box<str>);

/// A JSON object of at most [`MAX_METADATA_BYTES`], written without spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata(Box<ShortText>);

/// Why a text cannot describe a consumer. What is wrong, not the text.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidText {
    /// Empty, too long, or with characters that a header cannot carry safely.
    #[error(
        "a {what} is 1 to {MAX_NAME_BYTES} visible ASCII characters, with spaces only between them"
    )]
    Name {
        /// Which text.
        what: &'static str,
    },
    /// The name of a consumer has the form of an id, so it could be taken for another consumer.
    #[error("a consumer name must not have the form of a consumer id")]
    NameLikeId,
    /// Too long, or with control characters.
    #[error(
        "a description has at most {MAX_DESCRIPTION_CHARS} characters and no control characters"
    )]
    Description,
    /// Not a JSON object.
    #[error("metadata is a JSON object, for example {{\"plan\":\"gold\"}}")]
    Metadata,
    /// More than [`MAX_METADATA_BYTES`].
    #[error("metadata has at most {MAX_METADATA_BYTES} bytes")]
    MetadataTooLong,
}

impl Consumer {
    /// Has what it has in common with others be one copy.
    pub(super) fn share(&mut self, texts: &mut SharedTexts) {
        texts.share(&mut self.bucket.0);
        self.scopes.share(texts);
    }
}

impl Default for BucketName {
    fn default() -> Self {
        Self(Arc::new("default".into()))
    }
}

impl FromStr for BucketName {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        check_header_text(text, "bucket name").map(|()| Self(Arc::new(text.into())))
    }
}

impl FromStr for ConsumerName {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        check_header_text(text, "consumer name")?;
        if text.parse::<ConsumerId>().is_ok() {
            Err(InvalidText::NameLikeId)
        } else {
            Ok(Self(text.into()))
        }
    }
}

impl FromStr for CustomId {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        check_header_text(text, "custom id").map(|()| Self(Box::new(text.into())))
    }
}

impl FromStr for Description {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let is_valid =
            text.chars().count() <= MAX_DESCRIPTION_CHARS && !text.chars().any(char::is_control);
        if is_valid {
            Ok(Self(text.into()))
        } else {
            Err(InvalidText::Description)
        }
    }
}

impl FromStr for Metadata {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        // Before it is parsed: what is too long is not worth the work.
        if text.len() > MAX_METADATA_BYTES {
            return Err(InvalidText::MetadataTooLong);
        }
        match serde_json::from_str::<serde_json::Value>(text) {
            Ok(object @ serde_json::Value::Object(_)) => {
                Ok(Self(Box::new(object.to_string().as_str().into())))
            }
            _ => Err(InvalidText::Metadata),
        }
    }
}

impl Metadata {
    /// The object itself.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        // It was JSON when it was made.
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

macro_rules! shown_as_text {
    ($($name:ident),*) => {$(
        impl $name {
            /// The text as it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    )*};
}

shown_as_text!(BucketName, ConsumerName, CustomId, Description, Metadata);

/// Visible ASCII with spaces only inside. A header value may hold more (RFC 9110 section 5.5), but bytes beyond ASCII
/// mean different things to different origins, and spaces at the ends are lost on the way.
fn check_header_text(text: &str, what: &'static str) -> Result<(), InvalidText> {
    let is_valid = (1..=MAX_NAME_BYTES).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() || byte == b' ')
        && !text.starts_with(' ')
        && !text.ends_with(' ');
    if is_valid {
        Ok(())
    } else {
        Err(InvalidText::Name { what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_fit_for_a_header() {
        let longest = "n".repeat(MAX_NAME_BYTES);
        for text in [
            "a",
            "acme",
            "Acme, Inc. (EU)",
            "a  b",
            "user@example.org",
            &longest,
        ] {
            assert_eq!(text.parse::<ConsumerName>().unwrap().as_str(), text);
        }
        let too_long = "n".repeat(MAX_NAME_BYTES + 1);
        for text in [
            "",
            " ",
            " a",
            "a ",
            "a\tb",
            "a\r\nx-admin: 1",
            "a\0",
            "ä",
            "\u{7f}",
            &too_long,
        ] {
            assert_eq!(
                text.parse::<ConsumerName>(),
                Err(InvalidText::Name {
                    what: "consumer name"
                }),
                "{text:?}"
            );
        }
        assert_eq!(
            "csmr_0123456789abcdefghij".parse::<ConsumerName>(),
            Err(InvalidText::NameLikeId)
        );
    }

    #[test]
    fn metadata_is_an_object_of_limited_length() {
        assert_eq!(
            "{ \"plan\": \"gold\" }"
                .parse::<Metadata>()
                .unwrap()
                .as_str(),
            "{\"plan\":\"gold\"}"
        );
        let too_long = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_METADATA_BYTES));
        for (text, error) in [
            ("", InvalidText::Metadata),
            ("[]", InvalidText::Metadata),
            ("\"a\"", InvalidText::Metadata),
            ("{", InvalidText::Metadata),
            ("{} {}", InvalidText::Metadata),
            (&too_long, InvalidText::MetadataTooLong),
        ] {
            assert_eq!(text.parse::<Metadata>(), Err(error), "{:.20}", text);
        }
    }

    #[test]
    fn deeply_nested_metadata_is_refused_without_a_crash() {
        let nested = format!("{{\"a\":{}{}}}", "[".repeat(2000), "]".repeat(2000));
        assert_eq!(nested.parse::<Metadata>(), Err(InvalidText::Metadata));
    }

    #[test]
    fn a_description_is_one_line() {
        assert!("für die Buchhaltung".parse::<Description>().is_ok());
        assert!("".parse::<Description>().is_ok());
        assert!(
            "ü".repeat(MAX_DESCRIPTION_CHARS)
                .parse::<Description>()
                .is_ok()
        );
        assert_eq!(
            "two\nlines".parse::<Description>(),
            Err(InvalidText::Description)
        );
        assert_eq!(
            "ü".repeat(MAX_DESCRIPTION_CHARS + 1).parse::<Description>(),
            Err(InvalidText::Description)
        );
    }
}
