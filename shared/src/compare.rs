//! Constant-time comparison of a presented secret with the accepted ones.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::secret::Secret;

/// Secrets that an origin accepts: one, or two during a rotation. Empty means that none is
/// configured; then nothing matches.
///
/// Compares SHA-256 digests, so the time depends neither on the length of a secret nor on the first
/// differing byte. Compares with every accepted secret, even after a match.
#[derive(Clone, Default)]
pub struct AcceptedSecrets(Vec<[u8; 32]>);

impl AcceptedSecrets {
    /// Accepts each of `secrets`.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        Self(
            secrets
                .into_iter()
                .map(|secret| digest(secret.expose()))
                .collect(),
        )
    }

    /// Whether no secret is configured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `presented`, byte for byte, is one of the accepted secrets.
    #[must_use]
    pub fn matches(&self, presented: &[u8]) -> bool {
        let presented = digest(presented);
        let matched = self.0.iter().fold(Choice::from(0), |matched, accepted| {
            matched | accepted.ct_eq(&presented)
        });
        matched.into()
    }
}

impl fmt::Debug for AcceptedSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AcceptedSecrets({} [redacted])", self.0.len())
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CURRENT: &str = "current-9f2c51d07be84a63";
    const PREVIOUS: &str = "previous-1d07be84a639f2c5";

    fn accepting(texts: &[&str]) -> AcceptedSecrets {
        let secrets: Vec<Secret> = texts
            .iter()
            .filter_map(|text| Secret::parse(text).ok())
            .collect();
        assert_eq!(
            secrets.len(),
            texts.len(),
            "a secret of this test is not valid"
        );
        AcceptedSecrets::new(&secrets)
    }

    #[test]
    fn each_accepted_secret_matches_and_nothing_else() {
        let one = accepting(&[CURRENT]);
        let two = accepting(&[CURRENT, PREVIOUS]);
        for (presented, by_one, by_two) in [
            (CURRENT, true, true),
            (PREVIOUS, false, true),
            ("", false, false),
            (&CURRENT[..CURRENT.len() - 1], false, false),
            (&format!("{CURRENT}x"), false, false),
            (&format!(" {CURRENT}"), false, false),
            (&format!("{CURRENT},{PREVIOUS}"), false, false),
            (&CURRENT.to_uppercase(), false, false),
        ] {
            assert_eq!(
                one.matches(presented.as_bytes()),
                by_one,
                "one secret, {presented:?}"
            );
            assert_eq!(
                two.matches(presented.as_bytes()),
                by_two,
                "two secrets, {presented:?}"
            );
        }
    }

    #[test]
    fn with_no_secret_configured_nothing_matches() {
        let none = AcceptedSecrets::default();
        assert!(none.is_empty());
        assert!(!none.matches(b""));
        assert!(!none.matches(CURRENT.as_bytes()));
    }

    #[test]
    fn debug_shows_only_how_many() {
        assert_eq!(
            format!("{:?}", accepting(&[CURRENT, PREVIOUS])),
            "AcceptedSecrets(2 [redacted])"
        );
    }

    proptest! {
        #[test]
        fn only_the_same_bytes_match(presented in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(accepting(&[CURRENT]).matches(&presented), presented == CURRENT.as_bytes());
        }
    }
}
