//! The key as text: `<prefix>_<32 base62 random><6 base62 CRC-32>`. Generated here, shown once,
//! never stored.

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::keys::base62::{self, CHECKSUM_CHARS};
use crate::keys::spellings::any_reading;
use crate::keys::{EntropyError, KeyDigest};

/// Maximum length of a token, in bytes; longer ones are refused unread.
pub const MAX_TOKEN_BYTES: usize = 512;

/// Number of random characters of a key: 190 bits.
const RANDOM_CHARS: usize = 32;
/// Number of random characters in a hint: 24 of 190 bits, enough to recognise a key and too few to
/// guess it.
const HINT_CHARS: usize = 4;

/// First part of every key of this gateway, before the underscore: `[a-z0-9]{2,12}`. Lets people
/// and secret scanners recognise a leaked key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(Box<str>);

/// The text is not a [`Prefix`].
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a key prefix is 2 to 12 lower-case letters and digits")]
pub struct InvalidPrefix;

/// A whole key in plain text. Has no readable `Debug`; wiped from memory on drop.
pub struct PlainKey {
    text: Zeroizing<String>,
    prefix: Prefix,
}

/// Reason why a presented token cannot be a key, found without a look-up.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum MalformedKey {
    /// Empty token.
    #[error("the token is empty")]
    Empty,
    /// Longer than [`MAX_TOKEN_BYTES`].
    #[error("the token has more than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    /// A byte that RFC 6750 section 2.1 does not allow in a bearer token.
    #[error("the token has a character that a bearer token cannot have")]
    Charset,
    /// Key-shaped with a wrong checksum: mistyped or altered.
    #[error("the token's checksum is wrong")]
    Checksum,
}

impl Prefix {
    /// Default prefix.
    pub const DEFAULT: &str = "pstn";

    /// Parses a prefix.
    pub fn parse(text: &str) -> Result<Self, InvalidPrefix> {
        let is_valid = (2..=12).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if is_valid {
            Ok(Self(text.into()))
        } else {
            Err(InvalidPrefix)
        }
    }

    /// Returns the prefix without the underscore.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Prefix {
    fn default() -> Self {
        Self(Self::DEFAULT.into())
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PlainKey {
    /// Generates a key from the operating system's random bytes.
    pub fn generate(prefix: &Prefix) -> Result<Self, EntropyError> {
        let random = base62::random::<RANDOM_CHARS>()?;
        // Full capacity up front: a string that grows leaves copies of the key behind.
        let mut text = Zeroizing::new(String::with_capacity(own_length(prefix)));
        text.push_str(&prefix.0);
        text.push('_');
        text.extend(random.iter().copied().map(char::from));
        let checksum = checksum(text.as_bytes());
        text.extend(checksum.map(char::from));
        Ok(Self {
            text,
            prefix: prefix.clone(),
        })
    }

    /// Returns the key itself, to be shown to its owner once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Returns the digest to store instead of the key.
    #[must_use]
    pub fn digest(&self) -> KeyDigest {
        KeyDigest::of(self.text.as_bytes())
    }

    /// Returns the hint that people recognise the key by: the prefix, the underscore and four
    /// characters.
    #[must_use]
    pub fn hint(&self) -> String {
        self.text
            .chars()
            .take(own_hint_length(&self.prefix))
            .collect()
    }
}

impl fmt::Debug for PlainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlainKey([redacted])")
    }
}

/// Refuses a token that cannot be a key, before it costs a digest and a look-up. Allocates nothing.
///
/// Verifies the checksum of key-shaped tokens only; other tokens may be imported foreign keys. The
/// checksum filters typing errors and authenticates nothing.
pub fn check_shape(token: &[u8], prefix: &Prefix) -> Result<(), MalformedKey> {
    if token.is_empty() {
        return Err(MalformedKey::Empty);
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err(MalformedKey::TooLong);
    }
    let is_shaped = is_key_shaped(token, prefix);
    // The alphabet of own keys is a part of that of bearer tokens.
    if is_shaped && is_own_key(token, prefix) {
        return Ok(());
    }
    if !is_b64token(token) {
        return Err(MalformedKey::Charset);
    }
    if is_shaped {
        return Err(MalformedKey::Checksum);
    }
    Ok(())
}

/// Returns whether `text` has prefix, length and alphabet of a key of this gateway: the test for a
/// misplaced key. Ignores the checksum.
#[must_use]
pub fn is_key_shaped(text: &[u8], prefix: &Prefix) -> bool {
    text.len() == own_length(prefix) && after_prefix(text, prefix).is_some()
}

/// Returns the length of a hint of this gateway's keys.
pub(super) fn own_hint_length(prefix: &Prefix) -> usize {
    prefix.0.len() + 1 + HINT_CHARS
}

/// Returns the regular expression of this gateway's keys, for secret scanners. Cannot verify the
/// checksum.
#[must_use]
pub fn pattern(prefix: &Prefix) -> String {
    format!("{prefix}_[0-9A-Za-z]{{{}}}", RANDOM_CHARS + CHECKSUM_CHARS)
}

/// Returns whether `text` contains a whole key of this gateway, plain or
/// [escaped](crate::keys::spellings): the test for a key pasted into a longer text. Ignores the
/// checksum.
#[must_use]
pub fn contains_key(text: &[u8], prefix: &Prefix) -> bool {
    any_reading(text, |reading| holds_key(reading, prefix))
}

fn holds_key(text: &[u8], prefix: &Prefix) -> bool {
    // Runs on every URL of every request. Most have no underscore and cost one `memchr`.
    memchr::memchr_iter(b'_', text).any(|underscore| {
        let begin = underscore.checked_sub(prefix.0.len());
        let whole = begin.and_then(|begin| text.get(begin..begin + own_length(prefix)));
        whole
            .and_then(|whole| after_prefix(whole, prefix))
            .is_some_and(base62::is_base62)
    })
}

/// Like [`contains_key`] before the prefix is configured: accepts any prefix.
#[must_use]
pub fn contains_key_of_any_prefix(text: &[u8]) -> bool {
    any_reading(text, holds_key_of_any_prefix)
}

fn holds_key_of_any_prefix(text: &[u8]) -> bool {
    // The last two characters of the prefix, and the rest of the key.
    text.windows(2 + 1 + RANDOM_CHARS + CHECKSUM_CHARS)
        .any(|window| match window {
            [first, second, b'_', rest @ ..] => {
                let is_prefix = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
                is_prefix(first) && is_prefix(second) && base62::is_base62(rest)
            }
            _ => false,
        })
}

fn own_length(prefix: &Prefix) -> usize {
    prefix.0.len() + 1 + RANDOM_CHARS + CHECKSUM_CHARS
}

/// Compares the length of `token` with that of a key of this gateway; `None` without the prefix.
#[must_use]
pub fn compare_length(token: &[u8], prefix: &Prefix) -> Option<std::cmp::Ordering> {
    after_prefix(token, prefix).map(|_| token.len().cmp(&own_length(prefix)))
}

fn after_prefix<'t>(token: &'t [u8], prefix: &Prefix) -> Option<&'t [u8]> {
    token.strip_prefix(prefix.0.as_bytes())?.strip_prefix(b"_")
}

fn is_own_key(token: &[u8], prefix: &Prefix) -> bool {
    let is_alphabet = after_prefix(token, prefix).is_some_and(base62::is_base62);
    let checksum_matches = token
        .split_last_chunk::<CHECKSUM_CHARS>()
        .is_some_and(|(summed, presented)| checksum(summed) == *presented);
    is_alphabet && checksum_matches
}

fn checksum(summed: &[u8]) -> [u8; CHECKSUM_CHARS] {
    base62::encode(crc32fast::hash(summed))
}

/// Returns whether the token is a `b64token` (RFC 6750 section 2.1): at least one letter, digit or
/// one of `-._~+/`, then any number of `=`.
fn is_b64token(token: &[u8]) -> bool {
    let padding = token.iter().rev().take_while(|byte| **byte == b'=').count();
    let length = token.len() - padding;
    length > 0
        && token.iter().take(length).all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> PlainKey {
        PlainKey::generate(&Prefix::default()).unwrap()
    }

    #[test]
    fn a_prefix_is_short_and_plain() {
        for (text, is_valid) in [
            ("pstn", true),
            ("ab", true),
            ("0a", true),
            ("abcdefghijkl", true),
            ("", false),
            ("a", false),
            ("abcdefghijklm", false),
            ("Abc", false),
            ("a_b", false),
            ("a-b", false),
            ("äb", false),
        ] {
            assert_eq!(Prefix::parse(text).is_ok(), is_valid, "{text:?}");
        }
    }

    #[test]
    fn a_generated_key_has_the_documented_form() {
        let key = key();
        let text = key.expose();
        assert_eq!(text.len(), 4 + 1 + 32 + 6);
        assert_eq!(check_shape(text.as_bytes(), &Prefix::default()), Ok(()));
        assert_eq!(key.hint(), text[..9]);
        assert_eq!(key.digest(), KeyDigest::of(text.as_bytes()));
    }

    #[test]
    fn the_checksum_is_the_documented_one() {
        // CRC-32 (ISO-HDLC) of the preceding characters, computed elsewhere: 0x9a72b934.
        let summed = "pstn_0123456789ABCDEFGHIJKLMNOPQRSTUV";
        let token = format!(
            "{summed}{}",
            std::str::from_utf8(&checksum(summed.as_bytes())).unwrap()
        );
        assert_eq!(token, "pstn_0123456789ABCDEFGHIJKLMNOPQRSTUV2pMS28");
    }

    #[test]
    fn what_cannot_be_a_key_is_refused() {
        let prefix = Prefix::default();
        let long = "a".repeat(MAX_TOKEN_BYTES + 1);
        let longest = "a".repeat(MAX_TOKEN_BYTES);
        let zeros = format!("pstn_{}", "0".repeat(38));
        let symbols = format!("pstn_{}", "-".repeat(38));
        for (token, verdict) in [
            ("", Err(MalformedKey::Empty)),
            (&long, Err(MalformedKey::TooLong)),
            (&longest, Ok(())),
            ("=", Err(MalformedKey::Charset)),
            ("a=b", Err(MalformedKey::Charset)),
            ("a b", Err(MalformedKey::Charset)),
            ("a,b", Err(MalformedKey::Charset)),
            ("schlüssel", Err(MalformedKey::Charset)),
            ("a\0", Err(MalformedKey::Charset)),
            (&zeros, Err(MalformedKey::Checksum)),
            (&symbols, Err(MalformedKey::Checksum)),
            // Foreign keys: another prefix, another length, another alphabet.
            (&zeros.replace("pstn", "pstm"), Ok(())),
            (&zeros[..42], Ok(())),
            ("pstn_", Ok(())),
            ("sk-proj-aB3+/~.==", Ok(())),
        ] {
            assert_eq!(check_shape(token.as_bytes(), &prefix), verdict, "{token:?}");
        }
    }

    #[test]
    fn a_key_is_found_inside_a_longer_text() {
        let prefix = Prefix::default();
        let key = key();
        let key = key.expose();
        for (text, is_found) in [
            (key.to_owned(), true),
            (format!("/v1/keys/{key}"), true),
            (format!("name={key}&limit=1"), true),
            (format!("_pstn_{key}_"), true),
            (format!("pstn_pstn_{key}"), true),
            (key[..key.len() - 1].to_owned(), false),
            (key.replace("pstn", "pstm"), false),
            ("pstn_".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(contains_key(text.as_bytes(), &prefix), is_found, "{text:?}");
            let is_of_any = is_found || text.starts_with("pstm");
            assert_eq!(
                contains_key_of_any_prefix(text.as_bytes()),
                is_of_any,
                "{text:?}"
            );
        }
    }

    #[test]
    fn debug_never_shows_the_key() {
        let key = key();
        let shown = format!("{key:?}");
        assert_eq!(shown, "PlainKey([redacted])");
    }

    proptest! {
        #[test]
        fn a_generated_key_passes_under_every_prefix(prefix in "[a-z0-9]{2,12}") {
            let prefix = Prefix::parse(&prefix).unwrap();
            let key = PlainKey::generate(&prefix).unwrap();
            prop_assert_eq!(check_shape(key.expose().as_bytes(), &prefix), Ok(()));
        }

        #[test]
        fn one_wrong_character_is_always_noticed(position in 0_usize..43, byte: u8) {
            let prefix = Prefix::default();
            let key = key();
            let mut changed = key.expose().as_bytes().to_vec();
            prop_assume!(changed[position] != byte);
            changed[position] = byte;
            // A changed prefix makes a foreign token, unknown rather than malformed.
            let refused = check_shape(&changed, &prefix).is_err();
            prop_assert!(refused || position < 5);
            prop_assert_ne!(KeyDigest::of(&changed), key.digest());
        }

        #[test]
        fn a_key_is_found_in_every_escaping(layers in crate::keys::spellings::tests::layers(4), around in "[a-z/?=&]{0,5}") {
            let prefix = Prefix::default();
            let key = key();
            let escaped = crate::keys::spellings::tests::escaped(key.expose(), &layers);
            let text = format!("{around}{escaped}{around}");
            prop_assert!(contains_key(text.as_bytes(), &prefix), "{}", text);
            prop_assert!(contains_key_of_any_prefix(text.as_bytes()), "{}", text);
        }

        #[test]
        fn no_bytes_upset_the_check(token in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = check_shape(&token, &Prefix::default());
        }

        #[test]
        fn key_shaped_tokens_pass_only_with_the_right_checksum(body in "[0-9A-Za-z]{38}") {
            let token = format!("pstn_{body}");
            let is_right = checksum(&token.as_bytes()[..37]) == token.as_bytes()[37..];
            prop_assert_eq!(check_shape(token.as_bytes(), &Prefix::default()).is_ok(), is_right);
        }
    }
}
