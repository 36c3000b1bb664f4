//! Keys issued by other systems: read once, digested, wiped. Also parses the spellings of a digest.

use std::fmt;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::keys::token::{self, MAX_TOKEN_BYTES};
use crate::keys::{KeyDigest, MalformedKey, Prefix, check_shape};

/// Maximum number of characters of a foreign key in its hint.
pub(super) const MAX_HINT_CHARS: usize = 8;
/// Fraction of a foreign key in its hint, because the length of such a key is unknown.
const HINT_PART: usize = 4;

/// A key of another system in plain text. Has no readable `Debug`; wiped from memory on drop.
pub struct ForeignKey(Zeroizing<String>);

/// The text is not a SHA-256 digest. Never quotes the text, which may be a misplaced key.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "a digest is SHA-256 in 64 hexadecimal digits or in base64, for example `sha256:` and 64 hexadecimal digits"
)]
pub struct InvalidDigestText;

impl ForeignKey {
    /// Accepts `text` if a client could present it: a bearer token of at most 512 bytes with, if
    /// key-shaped, the right checksum.
    ///
    /// # Errors
    /// The reason why no client could present it.
    pub fn parse(text: Zeroizing<String>, prefix: &Prefix) -> Result<Self, MalformedKey> {
        check_shape(text.as_bytes(), prefix).map(|()| Self(text))
    }

    /// Returns the digest to store instead of the key.
    #[must_use]
    pub fn digest(&self) -> KeyDigest {
        KeyDigest::of(self.0.as_bytes())
    }

    /// Returns the characters of the key that people may see. Keys of this gateway show their usual
    /// hint, others their first characters: at most eight and at most a quarter of the key.
    #[must_use]
    pub fn hint(&self, prefix: &Prefix) -> String {
        let shown = if token::is_key_shaped(self.0.as_bytes(), prefix) {
            token::own_hint_length(prefix)
        } else {
            MAX_HINT_CHARS.min(self.0.len() / HINT_PART)
        };
        self.0.chars().take(shown).collect()
    }
}

impl fmt::Debug for ForeignKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ForeignKey([redacted])")
    }
}

impl KeyDigest {
    /// Parses a digest in the spellings of other systems: 64 hexadecimal digits, or base64 of
    /// either alphabet, with or without padding; an optional `sha256:`, `sha256-`, `sha256=` or
    /// `{SHA256}` may precede it.
    ///
    /// # Errors
    /// Any other text.
    pub fn parse(text: &str) -> Result<Self, InvalidDigestText> {
        // The longest spelling has an 8-character scheme before 64 digits.
        if text.len() > 72 || !text.is_ascii() {
            return Err(InvalidDigestText);
        }
        let bare = without_scheme(text);
        let digest = if bare.len() == 64 {
            Self::from_hex(bare)
        } else {
            from_base64(bare).map(Self::from)
        };
        digest.ok_or(InvalidDigestText)
    }
}

fn without_scheme(text: &str) -> &str {
    for scheme in ["sha256:", "sha256-", "sha256=", "{sha256}"] {
        if let Some((first, rest)) = text.split_at_checked(scheme.len())
            && first.eq_ignore_ascii_case(scheme)
        {
            return rest;
        }
    }
    text
}

fn from_base64(text: &str) -> Option<[u8; 32]> {
    const EITHER_WAY: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if text.contains(['-', '_']) {
        base64::alphabet::URL_SAFE
    } else {
        base64::alphabet::STANDARD
    };
    GeneralPurpose::new(&alphabet, EITHER_WAY)
        .decode(text)
        .ok()?
        .try_into()
        .ok()
}

const _: () = assert!(
    MAX_HINT_CHARS < MAX_TOKEN_BYTES / HINT_PART,
    "a long key shows less than a quarter"
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::PlainKey;

    fn key(text: &str) -> Result<ForeignKey, MalformedKey> {
        ForeignKey::parse(Zeroizing::new(text.to_owned()), &Prefix::default())
    }

    #[test]
    fn a_hint_shows_at_most_eight_characters_and_a_quarter() {
        for (text, hint) in [
            ("abc", ""),
            ("abcd", "a"),
            ("0123456789", "01"),
            ("sk_live_0123456789abcdefghijklmn", "sk_live_"),
            ("sk_live_0123456789abcdefghijklmnopqrstuvwxyz", "sk_live_"),
        ] {
            assert_eq!(key(text).unwrap().hint(&Prefix::default()), hint, "{text}");
        }
        let own = PlainKey::generate(&Prefix::default()).unwrap();
        assert_eq!(
            key(own.expose()).unwrap().hint(&Prefix::default()),
            own.hint()
        );
    }

    #[test]
    fn what_no_client_could_present_is_no_key() {
        for text in [
            "",
            "two words",
            "schl\u{fc}ssel",
            &"x".repeat(513),
            &format!("pstn_{}", "0".repeat(38)),
        ] {
            assert!(key(text).is_err(), "{text}");
        }
        assert_eq!(
            format!("{:?}", key("abc").unwrap()),
            "ForeignKey([redacted])"
        );
    }

    #[test]
    fn a_digest_has_several_spellings() {
        let digest = KeyDigest::of(b"abc");
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_hex(), hex);
        for text in [
            hex.to_owned(),
            hex.to_uppercase(),
            format!("sha256:{hex}"),
            format!("SHA256:{hex}"),
            "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=".to_owned(),
            "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0".to_owned(),
            "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0".to_owned(),
            "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=".to_owned(),
            "{SHA256}ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=".to_owned(),
        ] {
            assert_eq!(KeyDigest::parse(&text), Ok(digest), "{text}");
        }
        for text in [
            "",
            "abc",
            &hex[1..],
            &format!("{hex}0"),
            &hex.replace('b', "g"),
            "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIA",
        ] {
            assert_eq!(KeyDigest::parse(text), Err(InvalidDigestText), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_digest_reads_back_from_its_hex(bytes: [u8; 32]) {
            prop_assert_eq!(KeyDigest::parse(&KeyDigest::from(bytes).to_hex()), Ok(KeyDigest::from(bytes)));
        }

        #[test]
        fn no_text_upsets_the_reading_of_digests(text in ".{0,80}") {
            let _ = KeyDigest::parse(&text);
        }

        #[test]
        fn a_hint_never_shows_more_than_a_quarter(text in "[a-zA-Z0-9]{1,80}") {
            let hint = key(&text).unwrap().hint(&Prefix::default());
            prop_assert!(text.starts_with(&hint) && hint.len() <= 8 && hint.len() * 4 <= text.len());
        }
    }
}
