//! Where a key was found, in the words of whoever reports it. It is stored, logged and shown, so the key must not be in it.

use thiserror::Error;

use crate::keys::traces::{has_key, has_key_of};
use crate::keys::{KeyDigest, Prefix, token};

/// What is known of the key that was found.
#[derive(Clone, Copy)]
pub enum FoundKey<'k> {
    /// The key itself, or what was taken for one.
    Plain(&'k str),
    /// Only its digest.
    Digest(KeyDigest),
}

/// A key stands in what is said of the place. Does not repeat it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the key stands in it; say where it was found without the key")]
pub struct KeyInPlace;

/// What may be kept of a place: `text` as it is, unless this key or any of the form of this gateway's own stands in it, as
/// it is or escaped. Of a key whose digest alone is known only what stands by itself is found, not what is glued to
/// more letters.
///
/// # Errors
/// A key stands in it.
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
        // What is only a part of it is nobody's.
        assert_eq!(
            place("abc", FoundKey::Plain(""), &Prefix::default()),
            Ok("abc")
        );
        assert!(!KeyInPlace.to_string().contains("pstn"));
    }
}
