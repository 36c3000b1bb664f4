//! GitHub's secret scanning partner program: the report format and its signature.
//! <https://docs.github.com/en/code-security/secret-scanning/secret-scanning-partnership-program>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

/// Header with the identifier of the key that signed a report.
pub const KEY_IDENTIFIER: &str = "github-public-key-identifier";
/// Header with the signature over the body, byte for byte: ECDSA on P-256 with SHA-256, DER in
/// base64.
pub const SIGNATURE: &str = "github-public-key-signature";

/// DER before the point of every public key on P-256 (RFC 5480, section 2).
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// Length of an uncompressed point in bytes.
const POINT_BYTES: usize = 65;
/// Maximum characters of an identifier; GitHub's are 64 hexadecimal digits.
const MAX_IDENTIFIER_CHARS: usize = 128;
/// Maximum bytes of a DER signature: two numbers of 33 bytes with their framing.
const MAX_SIGNATURE_BYTES: usize = 72;

/// GitHub's public keys.
#[derive(Clone, Debug, Default)]
pub struct PublicKeys(Vec<PublicKey>);

#[derive(Clone, Debug)]
struct PublicKey {
    identifier: String,
    point: Vec<u8>,
}

/// Well-formed identifier and signature of a report.
#[derive(Debug)]
pub struct Proof<'r> {
    identifier: &'r str,
    signature: Vec<u8>,
}

/// One leaked key.
#[derive(Deserialize)]
pub struct Found {
    /// Leaked key.
    pub token: Zeroizing<String>,
    /// GitHub's name for keys of this form.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// Where it was found; may be empty.
    #[serde(default)]
    pub url: String,
    /// Kind of place, for example `commit`.
    #[serde(default)]
    pub source: String,
}

/// Feedback to GitHub about a key.
/// <https://docs.github.com/en/code-security/secret-scanning/secret-scanning-partnership-program/secret-scanning-partner-program#provide-feedback-for-false-positives>
#[derive(Debug, Serialize)]
pub struct Feedback {
    /// SHA-256 of the key in hexadecimal digits, so that the key itself is not sent again.
    pub token_hash: String,
    /// GitHub's name for keys of this form.
    pub token_type: String,
    /// Whether the key exists.
    pub label: Label,
}

/// Whether a reported text is a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Label {
    /// The key exists.
    TruePositive,
    /// No such key exists.
    FalsePositive,
}

/// The text is not a list of public keys.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidPublicKeys {
    /// Not the JSON that GitHub serves.
    #[error("it is not of the form {{\"public_keys\":[{{\"key_identifier\":…,\"key\":…}}]}}")]
    Form,
    /// A key that is not on P-256.
    #[error("key {0} is no public key on P-256 in PEM")]
    Key(String),
}

/// The report is not authentic.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NotFromGithub {
    /// The identifier or the signature is malformed.
    #[error("its key identifier or its signature is malformed")]
    Malformed,
    /// The signing key is not among GitHub's.
    #[error("it is signed with a key that is not known here")]
    UnknownKey,
    /// The signature does not match body and key.
    #[error("its signature is wrong")]
    Signature,
}

impl PublicKeys {
    /// Parses the document at `https://api.github.com/meta/public_keys/secret_scanning`.
    ///
    /// # Errors
    /// The problem with the document.
    pub fn parse(json: &[u8]) -> Result<Self, InvalidPublicKeys> {
        #[derive(Deserialize)]
        struct Document {
            public_keys: Vec<Listed>,
        }
        #[derive(Deserialize)]
        struct Listed {
            key_identifier: String,
            key: String,
        }
        let document: Document =
            serde_json::from_slice(json).map_err(|_| InvalidPublicKeys::Form)?;
        let keys = document
            .public_keys
            .into_iter()
            .map(|listed| match point(&listed.key) {
                Some(point) => Ok(PublicKey {
                    identifier: listed.key_identifier,
                    point,
                }),
                None => Err(InvalidPublicKeys::Key(listed.key_identifier)),
            });
        keys.collect::<Result<_, _>>().map(Self)
    }

    /// Whether a key with this identifier is present.
    #[must_use]
    pub fn has(&self, identifier: &str) -> bool {
        self.0.iter().any(|key| key.identifier == identifier)
    }

    /// Verifies that GitHub signed `body`.
    ///
    /// # Errors
    /// Why the report is not authentic.
    pub fn verify(&self, proof: &Proof<'_>, body: &[u8]) -> Result<(), NotFromGithub> {
        let key = self
            .0
            .iter()
            .find(|key| key.identifier == proof.identifier)
            .ok_or(NotFromGithub::UnknownKey)?;
        let verified =
            webpki::ring::ECDSA_P256_SHA256.verify_signature(&key.point, body, &proof.signature);
        verified.map_err(|_| NotFromGithub::Signature)
    }
}

impl<'r> Proof<'r> {
    /// Parses the values of [`KEY_IDENTIFIER`] and [`SIGNATURE`].
    ///
    /// # Errors
    /// GitHub sends no such values.
    pub fn parse(identifier: &'r str, signature: &str) -> Result<Self, NotFromGithub> {
        let is_identifier = (1..=MAX_IDENTIFIER_CHARS).contains(&identifier.len())
            && identifier
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        // Four base64 characters encode three bytes.
        let is_short = signature.len() <= MAX_SIGNATURE_BYTES / 3 * 4;
        let signature = STANDARD.decode(
            Some(signature)
                .filter(|_| is_short && is_identifier)
                .unwrap_or_default(),
        );
        match signature {
            Ok(signature) if !signature.is_empty() => Ok(Self {
                identifier,
                signature,
            }),
            _ => Err(NotFromGithub::Malformed),
        }
    }

    /// Identifier of the signing key.
    #[must_use]
    pub fn identifier(&self) -> &str {
        self.identifier
    }
}

/// Point of a public key in PEM.
fn point(pem: &str) -> Option<Vec<u8>> {
    let inside = pem
        .trim()
        .strip_prefix("-----BEGIN PUBLIC KEY-----")?
        .strip_suffix("-----END PUBLIC KEY-----")?;
    let base64: String = inside.split_whitespace().collect();
    let der = STANDARD.decode(base64).ok()?;
    let point = der.strip_prefix(&P256_PREFIX)?;
    (point.len() == POINT_BYTES).then(|| point.to_vec())
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SigningKey as _};

    use super::*;

    fn document(key: &KeyPair) -> String {
        let pem = key.public_key_pem();
        serde_json::json!({ "public_keys": [{ "key_identifier": "abc", "key": pem, "is_current": true }] }).to_string()
    }

    #[test]
    fn what_github_signed_is_believed_and_nothing_else() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let other = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        assert!(key.der_bytes().len() == POINT_BYTES);
        let keys = PublicKeys::parse(document(&key).as_bytes()).unwrap();
        let body = br#"[{"token":"pstn_x","type":"postern","url":"","source":"commit"}]"#;
        let signed = |by: &KeyPair| STANDARD.encode(by.sign(body).unwrap());
        let verify = |keys: &PublicKeys, identifier: &str, signature: &str, body: &[u8]| {
            Proof::parse(identifier, signature).and_then(|proof| keys.verify(&proof, body))
        };
        assert_eq!(verify(&keys, "abc", &signed(&key), body), Ok(()));
        assert_eq!(
            verify(&keys, "abd", &signed(&key), body),
            Err(NotFromGithub::UnknownKey)
        );
        assert_eq!(
            verify(&keys, "abc", &signed(&other), body),
            Err(NotFromGithub::Signature)
        );
        assert_eq!(
            verify(&keys, "abc", &signed(&key), &body[1..]),
            Err(NotFromGithub::Signature)
        );
        for signature in ["AAAA", "MAYCAQACAQA="] {
            assert_eq!(
                verify(&keys, "abc", signature, body),
                Err(NotFromGithub::Signature),
                "{signature:?}"
            );
        }
        assert_eq!(
            verify(&PublicKeys::default(), "abc", &signed(&key), body),
            Err(NotFromGithub::UnknownKey)
        );
        let long = "AAAA".repeat(25);
        for (identifier, signature) in [
            ("abc", ""),
            ("abc", "!"),
            ("abc", "A"),
            ("abc", &*long),
            ("", "AAAA"),
            ("a b", "AAAA"),
            (&"a".repeat(129), "AAAA"),
        ] {
            assert_eq!(
                Proof::parse(identifier, signature).err(),
                Some(NotFromGithub::Malformed),
                "{identifier} {signature}"
            );
        }
    }

    /// Test key, body and signature of GitHub's own documentation.
    #[test]
    fn the_example_of_github_is_believed() {
        let identifier = "f9525bf080f75b3506ca1ead061add62b8633a346606dc5fe544e29231c6ee0d";
        let key = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEsz9ugWDj5jK5ELBK42ynytbo38gP\n\
                   HzZFI03Exwz8Lh/tCfL3YxwMdLjB+bMznsanlhK0RwcGP3IDb34kQDIo3Q==\n-----END PUBLIC KEY-----\n";
        let keys = serde_json::json!({ "public_keys": [{ "key_identifier": identifier, "key": key, "is_current": true }] });
        let keys = PublicKeys::parse(keys.to_string().as_bytes()).unwrap();
        let body = br#"[{"token":"some_token","type":"some_type","url":"some_url","source":"some_source"}]"#;
        let signature = "MEUCIFLZzeK++IhS+y276SRk2Pe5LfDrfvTXu6iwKKcFGCrvAiEAhHN2kDOhy2I6eGkOFmxNkOJ+L2y8oQ9A2T9GGJo6WJY=";
        let proof = Proof::parse(identifier, signature).unwrap();
        assert_eq!(keys.verify(&proof, body), Ok(()));
        assert_eq!(
            keys.verify(&proof, &body[..body.len() - 1]),
            Err(NotFromGithub::Signature)
        );
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let rsa = r#"{"public_keys":[{"key_identifier":"r","key":"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"}]}"#;
        for (text, error) in [
            ("", InvalidPublicKeys::Form),
            ("[]", InvalidPublicKeys::Form),
            (
                r#"{"public_keys":[{"key_identifier":"r"}]}"#,
                InvalidPublicKeys::Form,
            ),
            (rsa, InvalidPublicKeys::Key("r".to_owned())),
            (
                r#"{"public_keys":[{"key_identifier":"r","key":""}]}"#,
                InvalidPublicKeys::Key("r".to_owned()),
            ),
        ] {
            assert_eq!(
                PublicKeys::parse(text.as_bytes()).map(drop),
                Err(error),
                "{text}"
            );
        }
    }
}
