//! GitHub's secret scanning partner program: what it sends, and the proof that GitHub sent it.
//! <https://docs.github.com/en/code-security/secret-scanning/secret-scanning-partnership-program>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use thiserror::Error;
use zeroize::Zeroizing;

/// The header that names the key which a report is signed with.
pub const KEY_IDENTIFIER: &str = "github-public-key-identifier";
/// The header with the signature over the body, byte for byte: ECDSA on P-256 with SHA-256, DER in base64.
pub const SIGNATURE: &str = "github-public-key-signature";

/// What stands before the point in the DER of every public key on P-256 (RFC 5480, section 2).
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03,
    0x01, 0x07, 0x03, 0x42, 0x00,
];
/// Bytes of an uncompressed point.
const POINT_BYTES: usize = 65;

/// GitHub's public keys.
#[derive(Clone, Debug, Default)]
pub struct PublicKeys(Vec<PublicKey>);

#[derive(Clone, Debug)]
struct PublicKey {
    identifier: String,
    point: Vec<u8>,
}

/// One key that was found.
#[derive(Deserialize)]
pub struct Found {
    /// The key.
    pub token: Zeroizing<String>,
    /// Where it was found; may be empty.
    #[serde(default)]
    pub url: String,
    /// What it was found in, for example `commit`.
    #[serde(default)]
    pub source: String,
}

/// Why a text holds no public keys.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidPublicKeys {
    /// Not the JSON that GitHub serves.
    #[error("it is not of the form {{\"public_keys\":[{{\"key_identifier\":…,\"key\":…}}]}}")]
    Form,
    /// A key is none on P-256.
    #[error("key {0} is no public key on P-256 in PEM")]
    Key(String),
}

/// Why a report is not believed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NotFromGithub {
    /// The key that signed it is not among GitHub's.
    #[error("it is signed with a key that is not known here")]
    UnknownKey,
    /// The signature is not of this body and this key.
    #[error("its signature is wrong")]
    Signature,
}

impl PublicKeys {
    /// Reads what `https://api.github.com/meta/public_keys/secret_scanning` serves.
    ///
    /// # Errors
    /// What is wrong with it.
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
        let document: Document = serde_json::from_slice(json).map_err(|_| InvalidPublicKeys::Form)?;
        let keys = document.public_keys.into_iter().map(|listed| match point(&listed.key) {
            Some(point) => Ok(PublicKey { identifier: listed.key_identifier, point }),
            None => Err(InvalidPublicKeys::Key(listed.key_identifier)),
        });
        keys.collect::<Result<_, _>>().map(Self)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks that GitHub signed `body`.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn verify(&self, identifier: &str, signature: &str, body: &[u8]) -> Result<(), NotFromGithub> {
        let key = self.0.iter().find(|key| key.identifier == identifier).ok_or(NotFromGithub::UnknownKey)?;
        let signature = STANDARD.decode(signature).map_err(|_| NotFromGithub::Signature)?;
        let verified = webpki::ring::ECDSA_P256_SHA256.verify_signature(&key.point, body, &signature);
        verified.map_err(|_| NotFromGithub::Signature)
    }
}

/// The point of a public key in PEM.
fn point(pem: &str) -> Option<Vec<u8>> {
    let inside = pem.trim().strip_prefix("-----BEGIN PUBLIC KEY-----")?.strip_suffix("-----END PUBLIC KEY-----")?;
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
        assert_eq!(keys.verify("abc", &signed(&key), body), Ok(()));
        assert_eq!(keys.verify("abd", &signed(&key), body), Err(NotFromGithub::UnknownKey));
        assert_eq!(keys.verify("abc", &signed(&other), body), Err(NotFromGithub::Signature));
        assert_eq!(keys.verify("abc", &signed(&key), &body[1..]), Err(NotFromGithub::Signature));
        for signature in ["", "!", "AAAA", "MAYCAQACAQA="] {
            assert_eq!(keys.verify("abc", signature, body), Err(NotFromGithub::Signature), "{signature:?}");
        }
        assert_eq!(PublicKeys::default().verify("abc", &signed(&key), body), Err(NotFromGithub::UnknownKey));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let rsa =
            r#"{"public_keys":[{"key_identifier":"r","key":"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"}]}"#;
        for (text, error) in [
            ("", InvalidPublicKeys::Form),
            ("[]", InvalidPublicKeys::Form),
            (r#"{"public_keys":[{"key_identifier":"r"}]}"#, InvalidPublicKeys::Form),
            (rsa, InvalidPublicKeys::Key("r".to_owned())),
            (r#"{"public_keys":[{"key_identifier":"r","key":""}]}"#, InvalidPublicKeys::Key("r".to_owned())),
        ] {
            assert_eq!(PublicKeys::parse(text.as_bytes()).map(drop), Err(error), "{text}");
        }
    }
}
