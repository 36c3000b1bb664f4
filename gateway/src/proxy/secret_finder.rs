//! Finds the secrets of origins in a response: plain, in any case, within other text, and in the
//! usual encodings.

use std::borrow::Cow;
use std::fmt;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use crate::keys::spellings::any_reading;

/// Maximum of decoding rounds for one kind of escape.
const MAX_ROUNDS: usize = 3;

/// Searches for the shared secret and those of upstreams, all at once. Built once; a search
/// allocates only for escaped text.
pub struct SecretFinder {
    forms: AhoCorasick,
    shortest: usize,
}

impl SecretFinder {
    /// Builds a finder for `secret`, which is not empty.
    ///
    /// # Errors
    /// The secret is too long for the search automaton.
    pub fn new(secret: &[u8]) -> Result<Self, aho_corasick::BuildError> {
        Self::of([secret])
    }

    /// Builds a finder for `secrets`, none of which is empty.
    ///
    /// # Errors
    /// The secrets are too long for the search automaton.
    pub fn of<'s>(
        secrets: impl IntoIterator<Item = &'s [u8]>,
    ) -> Result<Self, aho_corasick::BuildError> {
        let mut forms = Vec::new();
        for secret in secrets {
            let hexadecimal: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
            forms.extend([secret.to_vec(), hexadecimal.into_bytes()]);
            for before in 0..3 {
                for encoded in [
                    within(secret, before, |text| STANDARD_NO_PAD.encode(text)),
                    within(secret, before, |text| URL_SAFE_NO_PAD.encode(text)),
                ] {
                    if !forms.contains(&encoded) {
                        forms.push(encoded);
                    }
                }
            }
        }
        let shortest = forms.iter().map(Vec::len).min().unwrap_or_default();
        Ok(Self {
            // Header names arrive in lower case, and hexadecimal digits in either case.
            forms: AhoCorasick::builder()
                .ascii_case_insensitive(true)
                .build(&forms)?,
            shortest,
        })
    }

    /// Whether `text` contains one of the secrets: plain, in hexadecimal or base64, under any depth of
    /// [escapes](crate::keys::spellings), in any case.
    #[must_use]
    pub fn is_in(&self, text: &[u8]) -> bool {
        if text.len() < self.shortest {
            return false;
        }
        if any_reading(text, |reading| self.forms.is_match(reading)) {
            return true;
        }
        // Also decodes `\` before any character, and each kind of escape alone: the secret may
        // contain the other's mark.
        memchr::memchr2(b'%', b'\\', text).is_some()
            && [&b"%"[..], b"\\", b"%\\"]
                .iter()
                .any(|marks| self.is_escaped_in(text, marks))
    }

    fn is_escaped_in(&self, text: &[u8], marks: &[u8]) -> bool {
        let mut text = Cow::Borrowed(text);
        for _ in 0..MAX_ROUNDS {
            match without_escapes(&text, marks) {
                Some(plain) if self.forms.is_match(&plain) => return true,
                Some(plain) => text = Cow::Owned(plain),
                None => return false,
            }
        }
        false
    }
}

impl fmt::Debug for SecretFinder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretFinder").finish_non_exhaustive()
    }
}

/// Encoding common to all texts with `secret` after `before` bytes, or after a multiple of three
/// more.
fn within(secret: &[u8], before: usize, encode: impl Fn(Vec<u8>) -> String) -> Vec<u8> {
    let encoded = encode([vec![0; before], secret.to_vec()].concat());
    // Base64 digits have six bits: the first ones and the last one also encode neighbouring bytes.
    let begin = (before * 8).div_ceil(6);
    let end = (before + secret.len()) * 8 / 6;
    encoded
        .as_bytes()
        .get(begin..end)
        .unwrap_or_default()
        .to_vec()
}

/// Decodes the escapes that begin with one of `marks`: `%` with two hexadecimal digits, `\` before
/// a character. `None` if there are none.
fn without_escapes(text: &[u8], marks: &[u8]) -> Option<Vec<u8>> {
    text.iter().find(|byte| marks.contains(byte))?;
    let hexadecimal = |digit: u8| char::from(digit).to_digit(16);
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let undone = match (first, after) {
            _ if !marks.contains(first) => None,
            (b'%', [high, low, after @ ..]) => hexadecimal(*high)
                .zip(hexadecimal(*low))
                .and_then(|(high, low)| u8::try_from(high * 16 + low).ok())
                .map(|byte| (byte, after)),
            (b'\\', [escaped, after @ ..]) => Some((*escaped, after)),
            _ => None,
        };
        let (byte, after) = undone.unwrap_or((*first, after));
        plain.push(byte);
        rest = after;
    }
    (plain != text).then_some(plain)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    fn percent(text: &str) -> String {
        text.bytes().map(|byte| format!("%{byte:02X}")).collect()
    }

    #[test]
    fn the_secret_is_found_in_every_form() {
        for secret in [
            "rig-9f2c51d07be84a63-shared",
            "0123456789abcdef",
            "k8Z!#%&'*+-.^_|~",
            "quote\"back\\slash-9f2c51",
            &"aB3$".repeat(128),
        ] {
            let finder = SecretFinder::new(secret.as_bytes()).unwrap();
            let basic = |user: &str| STANDARD_NO_PAD.encode(format!("{user}:{secret}@"));
            let url_safe = |user: &str| URL_SAFE_NO_PAD.encode(format!("{user}?{secret}~x"));
            for text in [
                secret.to_owned(),
                secret.to_uppercase(),
                secret.to_lowercase(),
                format!("a{secret}b"),
                format!("session={secret}; Path=/; HttpOnly"),
                format!("https://example.com/?a=b&secret={secret}#c"),
                percent(secret),
                percent(secret).to_lowercase(),
                percent(&percent(secret)),
                (0..3).fold(percent(secret), |text, _| text.replace('%', "%25")),
                (0..20).fold(percent(secret), |text, _| text.replace('%', "%25")),
                secret
                    .bytes()
                    .map(|byte| format!("\\u{byte:04X}"))
                    .collect(),
                secret
                    .bytes()
                    .map(|byte| format!("\\x{byte:02x}"))
                    .collect(),
                secret.bytes().map(|byte| format!("&#{byte};")).collect(),
                secret.bytes().map(|byte| format!("&#x{byte:x};")).collect(),
                secret.bytes().map(|byte| format!("%u{byte:04x}")).collect(),
                format!("a%20b {}", secret.replace('-', "\\u002d")),
                format!("\"{}\"", secret.replace('\\', "\\\\").replace('"', "\\\"")),
                secret.replace('-', "%2D").replace('%', "%25"),
                secret.bytes().map(|byte| format!("{byte:02X}")).collect(),
                basic(""),
                basic("u"),
                basic("us"),
                basic("use"),
                url_safe(""),
                url_safe("u"),
                url_safe("us"),
            ] {
                assert!(finder.is_in(text.as_bytes()), "{secret} in {text}");
            }
            for text in [
                "",
                "application/json",
                "Thu, 26 Nov 2026 00:00:00 GMT",
                "%",
                "%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%",
                "\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\",
                &secret[1..],
                &secret[..secret.len() - 1],
            ] {
                assert!(!finder.is_in(text.as_bytes()), "{secret} in {text}");
            }
        }
    }

    #[test]
    fn several_secrets_are_all_found() {
        let secrets = ["rig-9f2c51d07be84a63", "own-51d07be84a639f2c-of-orders"];
        let finder = SecretFinder::of(secrets.map(str::as_bytes)).unwrap();
        for secret in secrets {
            for text in [secret.to_uppercase(), STANDARD_NO_PAD.encode(secret)] {
                assert!(finder.is_in(text.as_bytes()), "{text}");
            }
        }
        assert!(!finder.is_in(b"rig-51d07be84a639f2c"));
    }

    #[test]
    fn debug_shows_no_secret() {
        let finder = SecretFinder::new(b"rig-9f2c51d07be84a63").unwrap();
        assert!(!format!("{finder:?}").contains("9f2c"));
    }

    proptest! {
        // Building a finder is slow without optimization.
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn base64_of_whatever_holds_the_secret_is_found(
            before in proptest::collection::vec(any::<u8>(), 0..20),
            secret in "[!-~]{16,80}",
            after in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let finder = SecretFinder::new(secret.as_bytes()).unwrap();
            let text = [before, secret.into_bytes(), after].concat();
            prop_assert!(finder.is_in(&text));
            prop_assert!(finder.is_in(STANDARD_NO_PAD.encode(&text).as_bytes()));
            prop_assert!(finder.is_in(URL_SAFE_NO_PAD.encode(&text).as_bytes()));
        }

        #[test]
        fn other_text_is_not_taken_for_it(text in "[ -~]{0,200}") {
            static FINDER: LazyLock<SecretFinder> =
                LazyLock::new(|| SecretFinder::new(b"\x01not-visible-9f2c51").unwrap());
            prop_assert!(!FINDER.is_in(text.as_bytes()));
        }
    }
}
