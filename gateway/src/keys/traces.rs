//! Search for a given key, of whatever issuer, in a text that will be stored or shown.
//! [`contains_key`](crate::keys::token::contains_key) finds this gateway's own keys by their shape.

use crate::keys::KeyDigest;
use crate::keys::spellings::any_reading;
use crate::keys::token::MAX_TOKEN_BYTES;

/// Minimum length of a key that is found inside a word. Half of all texts contain a given pair of
/// letters by chance, so shorter keys match whole words only.
const SHORT_BYTES: usize = 8;
/// Maximum number of trailing `=` of a key, as in base64.
const MAX_PADDING: usize = 2;

/// Minimum length of a word in a URL that may be a foreign key. An import refuses shorter keys
/// unless a flag accepts them.
pub const MIN_FOREIGN_BYTES: usize = 16;

/// Returns whether `text` contains `key`, plain or [escaped](crate::keys::spellings). A key of less
/// than eight characters must be a word.
#[must_use]
pub fn has_key(text: &[u8], key: &[u8]) -> bool {
    any_reading(text, |text| {
        if key.len() < SHORT_BYTES {
            return words(text).any(|word| word == key);
        }
        memchr::memmem::find(text, key).is_some()
    })
}

/// Returns whether a word of `text` is the key of this digest. Misses a key adjacent to letters,
/// digits, `-` or `_`, because its start is unknown.
#[must_use]
pub fn has_key_of(text: &[u8], digest: &KeyDigest) -> bool {
    any_reading(text, |text| {
        words(text).any(|word| KeyDigest::of(word) == *digest)
    })
}

/// Returns whether `is_key` accepts a word of a request target (path and optional query). Words are
/// the parts between slashes and other URL delimiters, and each query value, which may contain
/// slashes. Tests only words of at least [`MIN_FOREIGN_BYTES`], because each costs a digest.
pub fn has_key_like(target: &[u8], is_key: impl Fn(&KeyDigest) -> bool) -> bool {
    let segment = |byte: &u8| is_inner(*byte) || matches!(byte, b'.' | b'~' | b'+');
    let value = |byte: &u8| segment(byte) || *byte == b'/';
    let is_key = |word: &[u8]| {
        (MIN_FOREIGN_BYTES..=MAX_TOKEN_BYTES).contains(&word.len()) && is_key(&KeyDigest::of(word))
    };
    any_reading(target, |target| {
        let query = memchr::memchr(b'?', target).and_then(|at| target.get(at..));
        split(target, segment).any(is_key)
            // Only if the result differs.
            || split(target, |byte| is_inner(*byte)).any(|word| {
                let is_part = memchr::memchr3(b'.', b'~', b'+', target).is_some();
                is_part && is_key(word)
            })
            || query.is_some_and(|query| {
                split(query, value).any(|word| memchr::memchr(b'/', word).is_some() && is_key(word))
            })
    })
}

/// Returns whether `is_key` accepts a word of any text; a `/` may separate words or be part of one.
/// Tests only words of at least [`MIN_FOREIGN_BYTES`], each at most once for each of its ends.
pub fn has_key_like_in_text(text: &[u8], is_key: impl Fn(&KeyDigest) -> bool) -> bool {
    let segment = |byte: &u8| is_inner(*byte) || matches!(byte, b'.' | b'~' | b'+');
    let run = |byte: &u8| segment(byte) || *byte == b'/';
    let is_key = |word: &[u8]| {
        (MIN_FOREIGN_BYTES..=MAX_TOKEN_BYTES).contains(&word.len()) && is_key(&KeyDigest::of(word))
    };
    any_reading(text, |text| {
        split(text, run).any(is_key)
            // Only if the result differs.
            || (memchr::memchr(b'/', text).is_some() && split(text, segment).any(is_key))
            || (memchr::memchr3(b'.', b'~', b'+', text).is_some()
                && split(text, |byte| is_inner(*byte)).any(is_key))
    })
}

/// Candidates for a key in `text`: each maximal run of key characters, its parts between slashes,
/// and its parts between everything but letters, digits, `-` and `_`. Each with and without
/// trailing `=`.
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
        // Adjacent to other key characters, only the exact key is found.
        assert!(has_key(b"xsk_live_0123x", b"sk_live_0123"));
        assert!(!has_key_of(
            b"xsk_live_0123x",
            &KeyDigest::of(b"sk_live_0123")
        ));
        assert!(!has_key(b"anything", b""));
    }

    #[test]
    fn a_key_of_another_system_is_found_in_a_target() {
        let key = "sk_live_0123.45~67+89/ab==";
        let (other, dotless) = ("sk_live_0123456789", "sk_live_0123456789");
        let is = |wanted: &'static str| {
            move |digest: &KeyDigest| *digest == KeyDigest::of(wanted.as_bytes())
        };
        for target in [
            "/?key=sk_live_0123.45~67+89/ab==",
            "/a?b=c&key=sk_live_0123.45~67%2b89%2Fab%3D%3D&d",
        ] {
            assert!(has_key_like(target.as_bytes(), is(key)), "{target}");
        }
        for target in [
            "/sk_live_0123456789",
            "/a/sk_live_0123456789/b",
            "/a/sk_live_0123456789.json",
            "/a;token=sk_live_0123456789",
            "/a?sk_live_0123456789",
            "/a?token=sk_live_0123456789&b",
            "/a?u=http://b/sk_live_0123456789/c",
            "/a/%2573k_live_0123456789",
        ] {
            assert!(has_key_like(target.as_bytes(), is(other)), "{target}");
        }
        assert!(!has_key_like(b"/a/sk_live_01234567891", is(dotless)));
        let asked = std::cell::Cell::new(0);
        for target in ["/", "/v1/orders/12345", "/a/b/c?page=2&limit=100"] {
            assert!(
                !has_key_like(target.as_bytes(), |_| {
                    asked.set(1);
                    false
                }),
                "{target}"
            );
        }
        assert_eq!(asked.get(), 0, "a short path costs a digest");
    }

    #[test]
    fn a_key_of_another_system_is_found_in_a_header() {
        for key in [
            "sk_live_0123456789",
            "sk-0123/45.67~89+ab==",
            "0123456789abcdef",
        ] {
            for value in [
                key.to_owned(),
                format!("ApiKey {key}"),
                format!("a=1; key={key}; b=2"),
                format!("\"{key}\""),
                format!("a,{key},b"),
                key.replace('-', "%252d")
                    .replace('_', "&#95;")
                    .replace('0', "\\u0030"),
            ] {
                let is = |digest: &KeyDigest| *digest == KeyDigest::of(key.as_bytes());
                assert!(
                    has_key_like_in_text(value.as_bytes(), is),
                    "{key} in {value}"
                );
            }
        }
        let is = |digest: &KeyDigest| *digest == KeyDigest::of(b"sk_live_0123456789");
        for (value, is_there) in [
            ("https://example.org/sk_live_0123456789/c", true),
            ("sk_live_0123456789.example.org:80", true),
            ("xsk_live_0123456789", false),
            ("", false),
        ] {
            assert_eq!(
                has_key_like_in_text(value.as_bytes(), is),
                is_there,
                "{value}"
            );
        }
        let asked = std::cell::Cell::new(0);
        for value in [
            "gzip, deflate, br",
            "text/html;q=0.9",
            "curl/8.5.0",
            "open.example.com",
        ] {
            has_key_like_in_text(value.as_bytes(), |_| {
                asked.set(asked.get() + 1);
                false
            });
        }
        assert!(asked.get() <= 1, "{} digests of short words", asked.get());
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
