//! Reported place of a leaked key. It is stored, logged and shown, so it must not contain the key.

use thiserror::Error;

use crate::keys::traces::{has_key, has_key_of};
use crate::keys::{KeyDigest, Prefix, token};

/// Knowledge about the leaked key.
#[derive(Clone, Copy)]
pub enum FoundKey<'k> {
    /// The key itself, or a text taken for one.
    Plain(&'k str),
    /// Its digest only.
    Digest(KeyDigest),
}

/// The place contains a key. Does not repeat it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("it contains the key; describe the place without the key")]
pub struct KeyInPlace;

/// Returns `text` unless it contains this key or any of this gateway's own form, plain or escaped.
/// A key known only by digest is found only as a separate word, not within more letters.
///
/// # Errors
/// The place contains a key.
pub fn place<'t>(text: &'t str, key: FoundKey<'_>, prefix: &Prefix) -> Result<&'t str, KeyInPlace> {
    let has_any = token::contains_key(text.as_bytes(), prefix)
        || match key {
            FoundKey::Plain(key) => has_key(text.as_bytes(), key.as_bytes()),
            FoundKey::Digest(digest) => has_key_of(text.as_bytes(), &digest),
        };
    if has_any { Err(KeyInPlace) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "pstn_0123456789ABCDEFGHIJKLMNOPQRSTUV2pMS28";
    const FOREIGN: &str = "sk_live/0123+45==";

    fn escaped(text: &str) -> String {
        text.bytes().map(|byte| format!("%{byte:02X}")).collect()
    }

    #[test]
    fn a_place_is_kept_unless_a_key_is_in_it() {
        for (text, is_kept) in [
            ("https://example.org/commit/1", true),
            ("", true),
            (&format!("https://example.org/?key={OWN}"), false),
            (&format!("https://example.org/?key={}", escaped(OWN)), false),
            (&format!("https://example.org/?key={FOREIGN}"), false),
            (
                &format!("https://example.org/?key={}", escaped(FOREIGN)),
                false,
            ),
            (
                "https://example.org/?key=sk_live%2F0123%2B45%3d%3D&b",
                false,
            ),
            (FOREIGN, false),
            ("sk_live", true),
        ] {
            for key in [
                FoundKey::Plain(FOREIGN),
                FoundKey::Digest(KeyDigest::of(FOREIGN.as_bytes())),
            ] {
                assert_eq!(
                    place(text, key, &Prefix::default()).is_ok(),
                    is_kept,
                    "{text}"
                );
            }
        }
        // A part of a key is no key.
        assert_eq!(
            place("abc", FoundKey::Plain(""), &Prefix::default()),
            Ok("abc")
        );
        assert!(!KeyInPlace.to_string().contains("pstn"));
    }
}
