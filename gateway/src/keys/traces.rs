//! Whether a key stands in a text that is going to be stored or shown, whoever made the key. What only this gateway's
//! own keys look like is found by [`contains_own_form`](crate::keys::token::contains_own_form).

use crate::keys::KeyDigest;

/// A key that is shorter is looked for as a word only: one of two letters stands in half of all texts by chance.
const SHORT_BYTES: usize = 8;
/// Most `=` that end a key, as base64 has them.
const MAX_PADDING: usize = 2;

/// Whether `key` stands in `text`; one of less than eight characters, as a word.
#[must_use]
pub fn has_key(text: &[u8], key: &[u8]) -> bool {
    if key.len() < SHORT_BYTES {
        return words(text).any(|word| word == key);
    }
    memchr::memmem::find(text, key).is_some()
}

/// Whether a word of `text` is the key of this digest. A key that is glued to letters, digits, `-` or `_` is not found:
/// where it begins cannot be known then.
#[must_use]
pub fn has_key_of(text: &[u8], digest: &KeyDigest) -> bool {
    words(text).any(|word| KeyDigest::of(word) == *digest)
}

/// What of `text` could be a key by where it ends: each longest run of the characters that a key may have, and its
/// parts between slashes, and between everything but letters, digits, `-` and `_`. Each with and without the `=` behind.
fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let run = |byte: &u8| is_inner(*byte) || matches!(byte, b'/' | b'.' | b'~' | b'+');
    let segment = |byte: &u8| is_inner(*byte) || matches!(byte, b'.' | b'~' | b'+');
    split(text, run)
        .chain(split(text, segment))
        .chain(split(text, |byte| is_inner(*byte)))
}

fn is_inner(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn split(text: &[u8], within: impl Fn(&u8) -> bool) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    let runs = std::iter::from_fn(move || {
        let begin = rest.iter().position(&within)?;
        let from = rest.get(begin..)?;
        let length = from
            .iter()
            .position(|byte| !within(byte))
            .unwrap_or(from.len());
        rest = from.get(length..)?;
        let padding = rest
            .iter()
            .take(MAX_PADDING)
            .take_while(|byte| **byte == b'=')
            .count();
        Some((from, length, padding))
    });
    runs.flat_map(|(from, length, padding)| {
        (length..=length + padding).filter_map(move |end| from.get(..end))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_is_found_where_it_ends() {
        for (text, key, is_there) in [
            ("sk_live_0123", "sk_live_0123", true),
            (
                "https://example.org/?a=sk_live_0123&b",
                "sk_live_0123",
                true,
            ),
            ("https://example.org/sk_live_0123/x", "sk_live_0123", true),
            ("found sk_live_0123.", "sk_live_0123", true),
            ("config.sk_live_0123.txt", "sk_live_0123", true),
            ("\"ab+/cd.ef~g==\"", "ab+/cd.ef~g==", true),
            ("(ab+cd.ef~g)", "ab+cd.ef~g", true),
            ("key=ab+/cd.ef~g=", "ab+/cd.ef~g", true),
            ("sk_live_01234", "sk_live_012345", false),
            ("a b", "a", true),
            ("abc", "ab", false),
            ("", "a", false),
        ] {
            assert_eq!(
                has_key(text.as_bytes(), key.as_bytes()),
                is_there,
                "{key} in {text}"
            );
            assert_eq!(
                has_key_of(text.as_bytes(), &KeyDigest::of(key.as_bytes())),
                is_there,
                "{key} in {text}"
            );
        }
        // Glued to more of what a key is made of, only the key itself tells.
        assert!(has_key(b"xsk_live_0123x", b"sk_live_0123"));
        assert!(!has_key_of(
            b"xsk_live_0123x",
            &KeyDigest::of(b"sk_live_0123")
        ));
        assert!(!has_key(b"anything", b""));
    }

    proptest! {
        #[test]
        fn little_is_digested_of_any_text(text in proptest::collection::vec(prop_oneof![Just(b'='), Just(b'/'), Just(b'a'), any::<u8>()], 0..300)) {
            let digested: usize = words(&text).map(<[u8]>::len).sum();
            prop_assert!(digested <= 3 * (1 + MAX_PADDING) * (text.len() + MAX_PADDING));
        }

        #[test]
        fn a_key_between_other_characters_is_found(key in "[a-zA-Z0-9._~+/-]{1,40}={0,2}", around in "[ \"'?&#:,;]") {
            let text = format!("x{around}{key}{around}x");
            prop_assert!(has_key(text.as_bytes(), key.as_bytes()));
            prop_assert!(has_key_of(text.as_bytes(), &KeyDigest::of(key.as_bytes())));
        }
    }
}
