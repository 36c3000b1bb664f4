//! Consumers, the owners of keys.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::keys::short_text::{SharedTexts, ShortText};
use crate::keys::{Allowance, AllowedIps, ConsumerId, PlanName, Scopes, Tags, UnixMillis};

/// Maximum length of a consumer name, custom id or bucket name, in bytes: names travel in headers.
pub const MAX_NAME_BYTES: usize = 128;
/// Maximum length of a description, in characters.
pub const MAX_DESCRIPTION_CHARS: usize = 1024;
/// Maximum length of metadata, in bytes of JSON.
pub const MAX_METADATA_BYTES: usize = 4096;

/// The part of a consumer that requests need: identity, permissions, and what limits count by. The
/// description stays in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// Immutable id.
    pub id: ConsumerId,
    /// Namespace of the name.
    pub bucket: BucketName,
    /// Name, unique in the bucket; sent to the origin.
    pub name: ConsumerName,
    /// Id from the team's own system; sent to the origin.
    pub custom_id: Option<CustomId>,
    /// Metadata from the team for the origin.
    pub metadata: Option<Metadata>,
    /// Granted scopes, the upper limit for every key of the consumer.
    pub scopes: Scopes,
    /// Addresses that the keys may be used from.
    pub allowed_ips: AllowedIps,
    /// Plan of the consumer.
    pub plan: Option<PlanName>,
    /// Numbers of the consumer in place of those of the configuration.
    pub allowance: Allowance,
    /// Tags, for limits that several consumers share; never sent to the origin.
    pub tags: Tags,
    /// Time of creation, for quotas whose periods begin with it.
    pub created_at: UnixMillis,
}

/// Namespace of consumer names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketName(Arc<ShortText>);

/// Consumer name, valid as a header value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerName(ShortText);

/// Id of a consumer in the team's own system, valid as a header value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomId(Box<ShortText>);

/// Note for administrators: at most [`MAX_DESCRIPTION_CHARS`], without control characters.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Description(Box<str>);

/// JSON object of at most [`MAX_METADATA_BYTES`], serialized without spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata(Box<ShortText>);

/// Reason why a text is not a consumer attribute; never quotes the text.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidText {
    /// Empty, too long, or with characters that a header cannot carry safely.
    #[error(
        "a {what} is 1 to {MAX_NAME_BYTES} visible ASCII characters, with spaces only between them"
    )]
    Name {
        /// Name of the attribute.
        what: &'static str,
    },
    /// The name has the form of a consumer id and could be confused with one.
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
    /// Longer than [`MAX_METADATA_BYTES`].
    #[error("metadata has at most {MAX_METADATA_BYTES} bytes")]
    MetadataTooLong,
}

impl Consumer {
    /// Replaces attributes by the copies shared with other consumers.
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
        // Before parsing: an oversized text is not worth the work.
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
    /// Parses the stored object.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        // Infallible: validated as JSON at construction.
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

macro_rules! shown_as_text {
    ($($name:ident),*) => {$(
        impl $name {
            /// Returns the text.
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

/// Accepts visible ASCII with spaces only inside. A header value may hold more (RFC 9110 section
/// 5.5), but origins disagree about bytes beyond ASCII, and spaces at the ends are lost in transit.
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
