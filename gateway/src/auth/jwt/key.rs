//! [`Key`]: one key of an issuer, and what it verifies.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::auth::jwt::algorithm::{Algorithm, Algorithms};
use crate::auth::jwt::compact::MAX_KEY_ID_BYTES;
use crate::auth::jwt::json::Object;
use crate::auth::jwt::roca;

/// Members that only a private or a shared key has (RFC 7518 sections 6.2.2, 6.3.2 and 6.4.1).
const SECRET_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
/// Bits of an RSA modulus that ring verifies with.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A key that verifies signatures of one family.
#[derive(PartialEq)]
pub struct Key {
    id: Option<Box<str>>,
    algorithms: Algorithms,
    material: Material,
}

#[derive(PartialEq)]
enum Material {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    P256([u8; 65]),
    P384([u8; 97]),
    Ed25519([u8; 32]),
    Secret(Zeroizing<Vec<u8>>),
}

/// Reason why a key of a set is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SkippedKey {
    /// Whoever reads the set could sign.
    #[error("it has private or shared parts: whoever can read the set can sign tokens with it")]
    Secret,
    /// `use` or `key_ops` are for something else.
    #[error("it is not for signatures (`use`, `key_ops`)")]
    Purpose,
    /// `kty`, `crv` or `alg` are of another kind.
    #[error("its kind, curve or algorithm is none that the gateway verifies")]
    Unsupported,
    /// Members are missing or malformed.
    #[error("a member is missing or malformed")]
    Malformed,
    /// The modulus is too short, too long, or can be factored.
    #[error("it is too weak or too long: RSA has 2048 to 8192 bits and an odd exponent from 3")]
    Weak,
}

impl Key {
    /// Reads a public key in JSON (RFC 7517 section 4).
    pub(super) fn parse(members: &Object) -> Result<Self, SkippedKey> {
        if members.get("kty").and_then(Value::as_str) == Some("oct")
            || SECRET_MEMBERS
                .iter()
                .any(|name| members.contains_key(*name))
        {
            return Err(SkippedKey::Secret);
        }
        let id = match members.get("kid") {
            None => None,
            Some(Value::String(id)) if (1..=MAX_KEY_ID_BYTES).contains(&id.len()) => {
                Some(id.as_str().into())
            }
            Some(_) => return Err(SkippedKey::Malformed),
        };
        check_purpose(members)?;
        let material = Material::parse(members)?;
        let all = material.algorithms();
        let algorithms = match members.get("alg") {
            None => all,
            Some(name) => {
                let algorithm = name.as_str().and_then(Algorithm::parse);
                let fitting = algorithm.filter(|algorithm| all.contains(*algorithm));
                Algorithms::of(&[fitting.ok_or(SkippedKey::Unsupported)?])
            }
        };
        Ok(Self {
            id,
            algorithms,
            material,
        })
    }

    /// A secret shared with the issuer. It has no id, and serves whatever id a token names. The
    /// caller has checked its length.
    pub(super) fn secret(secret: Zeroizing<Vec<u8>>) -> Self {
        Self {
            id: None,
            algorithms: secret_algorithms(secret.len()),
            material: Material::Secret(secret),
        }
    }

    /// The public key in JSON, once for each algorithm where it serves some of its kind only; nothing
    /// of a secret.
    pub(super) fn to_json(&self) -> Vec<Value> {
        let mut members = match &self.material {
            Material::Rsa { modulus, exponent } => {
                json!({"kty": "RSA", "n": encoded(modulus), "e": encoded(exponent)})
            }
            Material::P256(point) => curve("P-256", point),
            Material::P384(point) => curve("P-384", point),
            Material::Ed25519(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encoded(key)})
            }
            Material::Secret(_) => return Vec::new(),
        };
        if let (Some(id), Some(members)) = (self.id(), members.as_object_mut()) {
            members.insert("kid".to_owned(), id.into());
        }
        if self.algorithms == self.material.algorithms() {
            return vec![members];
        }
        let of = |algorithm: Algorithm| {
            let mut members = members.clone();
            if let Some(members) = members.as_object_mut() {
                members.insert("alg".to_owned(), algorithm.as_str().into());
            }
            members
        };
        self.algorithms.iter().map(of).collect()
    }

    /// Its `kid`.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Algorithms that it verifies.
    #[must_use]
    pub fn algorithms(&self) -> Algorithms {
        self.algorithms
    }

    /// Kind of the key: `RSA-2048`, `P-256`, `P-384`, `Ed25519` or `secret`.
    #[must_use]
    pub fn kind(&self) -> String {
        match &self.material {
            Material::Rsa { modulus, .. } => format!("RSA-{}", bits(modulus)),
            Material::P256(_) => "P-256".to_owned(),
            Material::P384(_) => "P-384".to_owned(),
            Material::Ed25519(_) => "Ed25519".to_owned(),
            Material::Secret(_) => "secret".to_owned(),
        }
    }

    /// Whether the key may be meant by a token that names this id, or none.
    pub(super) fn may_be(&self, id: Option<&str>) -> bool {
        match (&self.material, id) {
            (Material::Secret(_), _) | (_, None) => true,
            (_, Some(id)) => self.id() == Some(id),
        }
    }

    /// Whether both are of one type, so that their common id names neither.
    pub(super) fn is_of_type(&self, other: &Self) -> bool {
        std::mem::discriminant(&self.material) == std::mem::discriminant(&other.material)
    }

    /// Whether both are the same key under the same id, for whatever algorithms.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.id == other.id && self.material == other.material
    }

    pub(super) fn with_algorithms_of(self, other: &Self) -> Self {
        Self {
            algorithms: self.algorithms.union(other.algorithms),
            ..self
        }
    }

    /// Whether `signed` has this signature. The algorithm is one of the key's.
    pub(super) fn verifies(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        if !self.algorithms.contains(algorithm) {
            return false;
        }
        match &self.material {
            Material::Rsa { modulus, exponent } => {
                let key = RsaPublicKeyComponents {
                    n: modulus,
                    e: exponent,
                };
                rsa_parameters(algorithm)
                    .is_some_and(|rsa| key.verify(rsa, signed, signature).is_ok())
            }
            Material::P256(point) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                    .verify(signed, signature)
                    .is_ok()
            }
            Material::P384(point) => {
                UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point)
                    .verify(signed, signature)
                    .is_ok()
            }
            Material::Ed25519(key) => UnparsedPublicKey::new(&signature::ED25519, key)
                .verify(signed, signature)
                .is_ok(),
            Material::Secret(secret) => hmac_algorithm(algorithm).is_some_and(|algorithm| {
                let key = hmac::Key::new(algorithm, secret);
                hmac::verify(&key, signed, signature).is_ok()
            }),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Key({:?}, {}, {:?})",
            self.id,
            self.kind(),
            self.algorithms
        )
    }
}

impl Material {
    fn parse(members: &Object) -> Result<Self, SkippedKey> {
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        let bytes = |name: &str| {
            let decoded = text(name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
            decoded.ok_or(SkippedKey::Malformed)
        };
        match (text("kty"), text("crv")) {
            (Some("RSA"), _) => rsa(&bytes("n")?, &bytes("e")?),
            (Some("EC"), Some("P-256")) => Ok(Self::P256(point(&bytes("x")?, &bytes("y")?)?)),
            (Some("EC"), Some("P-384")) => Ok(Self::P384(point(&bytes("x")?, &bytes("y")?)?)),
            (Some("OKP"), Some("Ed25519")) => {
                let key = bytes("x")?.try_into().map_err(|_| SkippedKey::Malformed)?;
                Ok(Self::Ed25519(key))
            }
            (None, _) => Err(SkippedKey::Malformed),
            (Some(_), _) => Err(SkippedKey::Unsupported),
        }
    }

    fn algorithms(&self) -> Algorithms {
        match self {
            Self::Rsa { .. } => Algorithms::of(&[
                Algorithm::Rs256,
                Algorithm::Rs384,
                Algorithm::Rs512,
                Algorithm::Ps256,
                Algorithm::Ps384,
                Algorithm::Ps512,
            ]),
            Self::P256(_) => Algorithms::of(&[Algorithm::Es256]),
            Self::P384(_) => Algorithms::of(&[Algorithm::Es384]),
            Self::Ed25519(_) => Algorithms::of(&[Algorithm::EdDsa]),
            Self::Secret(secret) => secret_algorithms(secret.len()),
        }
    }
}

/// Algorithms that a secret of so many bytes is long enough for.
fn secret_algorithms(bytes: usize) -> Algorithms {
    let all = [Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512];
    all.into_iter()
        .filter(|algorithm| bytes >= algorithm.min_secret_bytes())
        .collect()
}

/// `use` and `key_ops`, where they are given, are for the verification of signatures.
fn check_purpose(members: &Object) -> Result<(), SkippedKey> {
    let is_for_signatures = members.get("use").is_none_or(|purpose| purpose == "sig");
    let verifies = match members.get("key_ops") {
        None => true,
        Some(Value::Array(operations)) => operations.iter().any(|operation| operation == "verify"),
        Some(_) => false,
    };
    if is_for_signatures && verifies {
        Ok(())
    } else {
        Err(SkippedKey::Purpose)
    }
}

/// A key on a curve in JSON, from its uncompressed point.
fn curve(name: &str, point: &[u8]) -> Value {
    let coordinates = point.get(1..).unwrap_or_default();
    let (x, y) = coordinates.split_at(coordinates.len() / 2);
    json!({"kty": "EC", "crv": name, "x": encoded(x), "y": encoded(y)})
}

fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Material, SkippedKey> {
    let (modulus, exponent) = (without_zeros(modulus), without_zeros(exponent));
    let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    let is_exponent = is_odd(exponent) && exponent != [1] && bits(exponent) <= 33;
    let is_strong = RSA_BITS.contains(&bits(modulus)) && is_odd(modulus) && !roca::is_weak(modulus);
    if !(is_exponent && is_strong) {
        return Err(SkippedKey::Weak);
    }
    Ok(Material::Rsa {
        modulus: modulus.to_vec(),
        exponent: exponent.to_vec(),
    })
}

/// Some issuers write the zero byte that DER has before a number.
fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// Bits of a number that begins with no zero.
fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| {
        number.len() * 8 - usize::try_from(first.leading_zeros()).unwrap_or_default()
    })
}

/// Uncompressed point of two coordinates of full length (RFC 7518 section 6.2.1.2).
fn point<const BYTES: usize>(x: &[u8], y: &[u8]) -> Result<[u8; BYTES], SkippedKey> {
    if x.len() * 2 + 1 != BYTES {
        return Err(SkippedKey::Malformed);
    }
    [&[4], x, y]
        .concat()
        .try_into()
        .map_err(|_| SkippedKey::Malformed)
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        Algorithm::Es256
        | Algorithm::Es384
        | Algorithm::EdDsa
        | Algorithm::Hs256
        | Algorithm::Hs384
        | Algorithm::Hs512 => None,
    }
}

fn hmac_algorithm(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::Hs256 => Some(hmac::HMAC_SHA256),
        Algorithm::Hs384 => Some(hmac::HMAC_SHA384),
        Algorithm::Hs512 => Some(hmac::HMAC_SHA512),
        Algorithm::Rs256
        | Algorithm::Rs384
        | Algorithm::Rs512
        | Algorithm::Ps256
        | Algorithm::Ps384
        | Algorithm::Ps512
        | Algorithm::Es256
        | Algorithm::Es384
        | Algorithm::EdDsa => None,
    }
}
