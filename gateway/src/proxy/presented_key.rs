//! Keeps keys in other parts of a request from the origin.

use actix_http::header::{self, HeaderName, HeaderValue};

use crate::auth::key_source::{decode_credential, decode_subprotocols};
use crate::keys::spellings::any_reading;
use crate::keys::{KeyTable, Prefix, token};

/// Minimum length of a foreign key that is searched for within other text. A shorter one matches a
/// whole value only, because it could be a word.
const MIN_BYTES: usize = 16;

/// Keys to search a request's headers for: all of the gateway's own form, known foreign keys, and
/// the presented one.
pub struct PresentedKey<'a> {
    prefix: &'a Prefix,
    keys: &'a KeyTable,
    key: Option<memchr::memmem::Finder<'a>>,
}

impl<'a> PresentedKey<'a> {
    /// Searches for keys with `prefix`, for the foreign keys in `keys`, and for `presented`,
    /// whatever its form.
    #[must_use]
    pub fn new(prefix: &'a Prefix, keys: &'a KeyTable, presented: Option<&'a [u8]>) -> Self {
        // The search by form finds an own key already.
        let foreign = presented.filter(|key| !key.is_empty() && !token::is_key_shaped(key, prefix));
        Self {
            prefix,
            keys,
            key: foreign.map(memchr::memmem::Finder::new),
        }
    }

    /// Whether the header contains a key, plain, [escaped](crate::keys::spellings), in the
    /// base64 of a credential of any scheme, such as `Basic`, or as an encoded subprotocol.
    #[must_use]
    pub fn is_in(&self, name: &HeaderName, value: &HeaderValue) -> bool {
        let is_name = |key: &memchr::memmem::Finder<'_>| {
            name.as_str().as_bytes().eq_ignore_ascii_case(key.needle())
        };
        let (is_name, value) = (self.key.as_ref().is_some_and(is_name), value.as_bytes());
        is_name
            || self.is_in_value(value)
            || *name == header::AUTHORIZATION && self.is_in_credential(value)
            || *name == header::SEC_WEBSOCKET_PROTOCOL
                && decode_subprotocols(value).any(|key| self.is_in_value(&key))
    }

    fn is_in_credential(&self, value: &[u8]) -> bool {
        let decoded = decode_credential(value);
        decoded.is_some_and(|pair| {
            pair.split(|byte| *byte == b':')
                .any(|part| self.is_in_value(part))
        })
    }

    /// Whether a text contains a key, plain or [escaped](crate::keys::spellings).
    #[must_use]
    pub fn is_in_value(&self, value: &[u8]) -> bool {
        let presented = self.key.as_ref();
        presented.is_some_and(|key| any_reading(value, |text| is_in_text(key, text)))
            || token::contains_key(value, self.prefix)
            || self.keys.has_foreign_in_header(value)
    }
}

fn is_in_text(key: &memchr::memmem::Finder<'_>, text: &[u8]) -> bool {
    if key.needle().len() < MIN_BYTES {
        text.trim_ascii() == key.needle()
    } else {
        key.find(text).is_some()
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

    use super::*;
    use crate::keys::PlainKey;

    #[test]
    fn keys_are_found_in_the_base64_of_every_scheme() {
        let prefix = Prefix::default();
        let own = PlainKey::generate(&prefix).unwrap();
        let (own, foreign) = (own.expose(), "sk-live/ABCDEF0123456789+x");
        let keys = KeyTable::new();
        let presented = PresentedKey::new(&prefix, &keys, Some(foreign.as_bytes()));
        for key in [own, foreign] {
            for pair in [format!("{key}:"), format!("api:{key}"), key.to_owned()] {
                let encoded = BASE64_STANDARD.encode(&pair);
                let for_urls = BASE64_URL_SAFE_NO_PAD.encode(&pair);
                for (line, found) in [
                    (format!("Basic {encoded}"), true),
                    (format!("bASIC {encoded}"), true),
                    (format!("Basic\t{encoded}"), true),
                    (format!("Basic \t  {encoded}"), true),
                    (format!("Basic {for_urls}"), true),
                    (format!("Token {encoded}"), true),
                    (format!("Negotiate\t{for_urls}"), true),
                    (
                        format!("Basic {}", BASE64_STANDARD.encode("alice:hunter2")),
                        false,
                    ),
                    (
                        format!("Negotiate {}", BASE64_STANDARD.encode([0; 64])),
                        false,
                    ),
                    ("Basic".to_owned(), false),
                    (String::new(), false),
                ] {
                    let value = HeaderValue::from_str(&line).unwrap();
                    let is_in = presented.is_in(&header::AUTHORIZATION, &value);
                    assert_eq!(is_in, found, "{line:?}");
                }
            }
        }
    }

    #[test]
    fn keys_are_found_in_whatever_header_they_stand() {
        let prefix = Prefix::default();
        let (own, other) = (
            PlainKey::generate(&prefix).unwrap(),
            PlainKey::generate(&prefix).unwrap(),
        );
        let (own, other) = (own.expose(), other.expose());
        let foreign = "sk-live/ABCDEF0123456789+x";
        let keys = KeyTable::new();
        for (key, value, found) in [
            (own, own.to_owned(), true),
            (own, other.to_owned(), true),
            (foreign, other.to_owned(), true),
            (foreign, foreign.to_owned(), true),
            (own, format!("a=1; key={own}; b=2"), true),
            (foreign, format!("a=1; key={foreign}; b=2"), true),
            (
                foreign,
                foreign.replace('/', "%2f").replace('+', "%2B"),
                true,
            ),
            (own, own.replacen('_', "%5F", 1), true),
            (
                foreign,
                foreign.replace('/', "%25252f").replace('-', "%252d"),
                true,
            ),
            (foreign, foreign.replace('-', "\\u002d"), true),
            (foreign, foreign.replace('/', "&#x2f;"), true),
            (own, own[..own.len() - 1].to_owned(), false),
            (foreign, foreign[1..].to_owned(), false),
            (foreign, "a_b%20c".to_owned(), false),
            ("short-key", "short-key".to_owned(), true),
            ("short-key", "a short-key b".to_owned(), false),
            ("gzip", "br, gzip".to_owned(), false),
        ] {
            let presented = PresentedKey::new(&prefix, &keys, Some(key.as_bytes()));
            let (name, value) = (
                HeaderName::from_static("x-any"),
                HeaderValue::from_str(&value).unwrap(),
            );
            assert_eq!(presented.is_in(&name, &value), found, "{key} in {value:?}");
        }
        let encoded = format!("chat, postern.key64.{}", BASE64_URL_SAFE_NO_PAD.encode(own));
        let encoded = HeaderValue::from_str(&encoded).unwrap();
        let nobody = PresentedKey::new(&prefix, &keys, None);
        assert!(nobody.is_in(&header::SEC_WEBSOCKET_PROTOCOL, &encoded));
        let presented = PresentedKey::new(&prefix, &keys, Some(b"Foreign-Key-0123456789"));
        let name = HeaderName::from_static("foreign-key-0123456789");
        assert!(presented.is_in(&name, &HeaderValue::from_static("1")));
        let nobody = PresentedKey::new(&prefix, &keys, None);
        assert!(!nobody.is_in(&name, &HeaderValue::from_static("")));
    }
}
