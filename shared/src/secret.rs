//! [`Secret`]: a validated shared secret that cannot be printed by accident and is wiped from
//! memory.

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

/// Minimum bytes of a secret. 16 random bytes cannot be guessed.
pub const MIN_BYTES: usize = 16;
/// Maximum bytes of a secret: servers limit the length of headers.
pub const MAX_BYTES: usize = 512;

/// Words of configuration examples. Compared in lower case, over letters and digits only.
const PLACEHOLDERS: [&str; 17] = [
    "changeme",
    "changethis",
    "replaceme",
    "replacethis",
    "yoursecrethere",
    "yoursharedsecret",
    "yoursecret",
    "sharedsecret",
    "mysecret",
    "supersecret",
    "secret",
    "password",
    "example",
    "placeholder",
    "default",
    "testing",
    "todo",
];

/// Shared secret: 16 to 512 visible ASCII bytes, not a placeholder.
///
/// Has no `Display` and no `Serialize`; its `Debug` shows nothing, and its memory is zeroed on
/// drop. Call [`Secret::expose`] only where the header is written.
#[derive(Clone)]
pub struct Secret(Zeroizing<Box<[u8]>>);

/// Why a text is not accepted as a secret. Contains nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SecretError {
    /// White space only.
    #[error("the secret is empty")]
    Empty,
    /// Shorter than [`MIN_BYTES`].
    #[error(
        "the secret has {0} bytes, and at least {MIN_BYTES} are needed: make one with `gateway secret new`"
    )]
    TooShort(usize),
    /// Longer than [`MAX_BYTES`].
    #[error("the secret has {0} bytes, and at most {MAX_BYTES} fit into a header")]
    TooLong(usize),
    /// A word from an example, or one repeated character.
    #[error(
        "the secret is a placeholder that anyone would guess: make one with `gateway secret new`"
    )]
    Placeholder,
    /// A byte that a header cannot carry unchanged: white space, a control character, or non-ASCII.
    #[error(
        "the secret has a byte at position {0} that is not visible ASCII (white space counts), which a header cannot carry unchanged"
    )]
    NotVisibleAscii(usize),
}

impl Secret {
    /// Parses a configured secret.
    ///
    /// # Errors
    /// Each [`SecretError`] names the problem and what is accepted.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        if text.trim().is_empty() {
            return Err(SecretError::Empty);
        }
        if is_placeholder(text) {
            return Err(SecretError::Placeholder);
        }
        if let Some(position) = text.bytes().position(|byte| !byte.is_ascii_graphic()) {
            return Err(SecretError::NotVisibleAscii(position));
        }
        match text.len() {
            length if length < MIN_BYTES => Err(SecretError::TooShort(length)),
            length if length > MAX_BYTES => Err(SecretError::TooLong(length)),
            _ => Ok(Self(Zeroizing::new(text.as_bytes().into()))),
        }
    }

    /// Bytes of the secret, for the header.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

/// Whether too little remains without the well-known words to protect anything.
fn is_placeholder(text: &str) -> bool {
    let mut rest: String = text
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let mut found = false;
    for word in PLACEHOLDERS {
        if rest.contains(word) {
            found = true;
            rest = rest.replace(word, "");
        }
    }
    let first = text.chars().next();
    let repeated = text.chars().all(|c| Some(c) == first);
    repeated || (found && rest.len() < 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_secrets_are_taken_unchanged() {
        for text in [
            "0123456789abcdef",
            "k8Zp!#%&'*+-.^_`|~=/",
            &"aB3$".repeat(128),
        ] {
            assert_eq!(
                Secret::parse(text).map(|s| s.expose().to_vec()),
                Ok(text.as_bytes().to_vec()),
                "{text}"
            );
        }
    }

    #[test]
    fn bad_secrets_are_refused_with_the_reason() {
        let long = "aB3$".repeat(129);
        for (text, error) in [
            ("", SecretError::Empty),
            (" \n", SecretError::Empty),
            ("k8Zp3vQ9", SecretError::TooShort(8)),
            ("123456789abcdef", SecretError::TooShort(15)),
            (&long, SecretError::TooLong(516)),
            ("changeme", SecretError::Placeholder),
            ("ChangeMe-ChangeMe-1", SecretError::Placeholder),
            ("your_shared_secret_here", SecretError::Placeholder),
            ("super-secret-password", SecretError::Placeholder),
            ("aaaaaaaaaaaaaaaaaaaaaaaa", SecretError::Placeholder),
            ("0123456789 abcdef", SecretError::NotVisibleAscii(10)),
            ("0123456789abcdef\n", SecretError::NotVisibleAscii(16)),
            ("0123456789abcdéf", SecretError::NotVisibleAscii(14)),
        ] {
            assert_eq!(Secret::parse(text).map(|_| ()), Err(error), "{text}");
        }
    }

    #[test]
    fn a_real_secret_that_contains_a_word_is_taken() {
        assert!(Secret::parse("secret-9f2c51d07be84a63").is_ok());
    }

    #[test]
    fn debug_and_errors_show_nothing_of_the_secret() {
        let text = "k8Zp3vQ9xW2mR7tL";
        assert_eq!(
            Secret::parse(text).map(|s| format!("{s:?}")),
            Ok("Secret([redacted])".to_owned())
        );
        let refused = "k8Zp3vQ9 W2mR7tLhGfD";
        if let Err(error) = Secret::parse(refused) {
            assert!(!format!("{error} {error:?}").contains("k8Zp"));
        }
    }
}
