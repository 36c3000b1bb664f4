//! An issuer for tests: one key of each kind, and the tokens that it signs.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::rsa;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaEncoding};
use ring::{hmac, signature::EcdsaSigningAlgorithm};
use serde_json::{Value, json};

use crate::auth::jwt::Algorithm;

/// An RSA key of 2048 bits in PKCS#8, made for these tests: ring makes none.
const RSA_KEY: &str = "\
    MIIEvAIBADANBgkqhkiG9w0BAQEFAASCBKYwggSiAgEAAoIBAQCKoLN8upB8ziMDNrJqTId5S9hqcMLBW8ocpfhkFKIB\
    dhKVkk/ylZZIeMH7wR95+T/f7efc6cox2C2rfWp7afhH+2boibj60UjlGR+k8gsasfJ9WdFV4mTA4Fy3y+tdkOepjXue\
    q2lrs4dm6CsH3S+++Yi5wH8mfpp1gI3gHWD84DDD2DcwjrTZZHLmDqfxqNezBS6LK+doJg2p4mAv2FAXyPdpBZGnJNEN\
    w9cPTsI6Jan1hDND/G1Th0YH/10YcOeTWso4bE14x1rBmaDX+eChE9vtW/tjoMtd+oANQkdAt05Dpj3kgNaRvcG8dkUI\
    osdahmhAZuOY4+DXJjCaCTydAgMBAAECggEAIhOqy2hZCDTr6mhRp0u0qZ55ToD1fu5/Wld6Ha/suws5OkdDG9Clpp74\
    oFgy0prwlq02p9lYeLQ5VcR4nmnIPHmSLGtea1ly384zNyrAjAleIG4pxUDnn3oHkK6x5sguCkHbN3/PZEg3apZ7rW0z\
    xXA1qeOl3eKVOXkmZwcRxldBO8WxuFh1a8JfFeGs7qG+zlEMwvj6tN0Tvonbuzy41Ix0QtI+skPuzuajJfOpdzKCMiTo\
    QW/GzpmlisbJvuywBwxcGqm4hP456jDXXMXayhELk1jSxkuBu8n1a9DwwgaXyuIN7VOiaIa+GsaCCdg4KZqMLOYu9S1S\
    7G11Y3kqSQKBgQDCa4fvYtimSVMC80L7ruz1SoJ/JrgaXXtLEOHKfVrFzMnnOTLfYczz7bJE4My4OHevrLvQdMYEDMra\
    y7UbuZAiSXqwsCSovbdStqlQ6DowkeyazFYBD+Zu8nbukKb5HmHjnzNhRheAv9Sb8JfpOt6ZmJw1QCrBsZu5+6uRFRRs\
    0wKBgQC2iUYumaZ0tH42Qs8wDb5PCVPCLMZ4QEkuaBjMR8rtVfDHzNDMEcB4rrZ8BUZEcGghrtjwEp7fh3/fdCgdHMwh\
    HApRrIua9mMHwASISo+b+XshqLlZx+qrH0ZmxqbdU4KMl+W9Mlx/7YrXhrPKTW2zfzG2C3rW8Og7zigOxYcKzwKBgDqD\
    /NTrDkP2O7relqGDw6QMOfylHbIpwqsUOLEmS4TPH1GtoIclO3eLaiVa96LWtAc22QxjqRmc9A0oVKk0j5ISRZAaY945\
    w4xsl8dXLfRiZzEsIRKOw49PAMbK2MaQA2xsBR3Y58gDdK0+m6pB4q+eBB3u4y+LElDG05uGGbCrAoGABHCOTm/aRphl\
    QXiahXawHEgDy4M/SIl3vjM19zH/04n1k0Z+BZig786ADcArF1sMjVUtXZl2V8V57Ltshli+9kcyUQ47TweTHQskkRQP\
    LiIBRq5N48sjAAqAsds/D78KO9Ut904UReBHMjrKgK8lbeo4EU9yK2wsmdfHzaQsRq0CgYAS3dsySGU4p68oSflNwbTg\
    3PeMf/rwWrOe92Cz1gUk1GKGE4Mg+Q9RzyC4jFNylV3s7XgFSdz3fO7VDvfQM0khISgNzl56+aHcxoK+0fHeOKQ+KOMR\
    hnQIFTeYpNx5wYmC+OGO+dtPJtNG9ACUOO+NHu7l3CWAJaMRs0MUyzyZtw==";

/// Secret for HMAC, long enough for all of them.
pub(crate) const SECRET: [u8; 64] = [7; 64];

/// Keys of an issuer.
pub(crate) struct Signer {
    rsa: rsa::KeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
    random: SystemRandom,
}

impl Signer {
    pub(crate) fn new() -> Self {
        let random = SystemRandom::new();
        let ecdsa = |algorithm: &'static EcdsaSigningAlgorithm| {
            let made = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref(), &random).unwrap()
        };
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Self {
            rsa: rsa::KeyPair::from_pkcs8(&STANDARD.decode(RSA_KEY).unwrap()).unwrap(),
            p256: ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            p384: ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            ed25519: Ed25519KeyPair::from_pkcs8(ed25519.as_ref()).unwrap(),
            random,
        }
    }

    /// Public key for an algorithm, without `alg`; its `kid` is `kid-` and its type.
    pub(crate) fn jwk(&self, algorithm: Algorithm) -> Value {
        let point = |key: &EcdsaKeyPair, curve: &str| {
            let (x, y) =
                key.public_key().as_ref()[1..].split_at(key.public_key().as_ref().len() / 2);
            json!({"kty": "EC", "crv": curve, "kid": key_id(algorithm), "x": encode(x), "y": encode(y)})
        };
        match algorithm {
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512 => {
                let key: rsa::PublicKeyComponents<Vec<u8>> = self.rsa.public().into();
                json!({"kty": "RSA", "kid": key_id(algorithm), "n": encode(&key.n), "e": encode(&key.e)})
            }
            Algorithm::Es256 => point(&self.p256, "P-256"),
            Algorithm::Es384 => point(&self.p384, "P-384"),
            Algorithm::EdDsa => {
                let x = encode(self.ed25519.public_key().as_ref());
                json!({"kty": "OKP", "crv": "Ed25519", "kid": key_id(algorithm), "x": x})
            }
            Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => {
                json!({"kty": "oct", "kid": key_id(algorithm), "k": encode(&SECRET)})
            }
        }
    }

    /// The set of all public keys.
    pub(crate) fn key_set(&self) -> String {
        let all = [
            Algorithm::Rs256,
            Algorithm::Es256,
            Algorithm::Es384,
            Algorithm::EdDsa,
        ];
        json!({"keys": all.map(|algorithm| self.jwk(algorithm))}).to_string()
    }

    /// Signature by the key for an algorithm.
    pub(crate) fn sign(&self, algorithm: Algorithm, text: &[u8]) -> Vec<u8> {
        let rsa = |padding: &'static dyn RsaEncoding| {
            let mut signed = vec![0; self.rsa.public().modulus_len()];
            let done = self.rsa.sign(padding, &self.random, text, &mut signed);
            done.map(|()| signed).unwrap()
        };
        let ecdsa = |key: &EcdsaKeyPair| key.sign(&self.random, text).unwrap().as_ref().to_vec();
        let hmac = |algorithm| {
            let key = hmac::Key::new(algorithm, &SECRET);
            hmac::sign(&key, text).as_ref().to_vec()
        };
        match algorithm {
            Algorithm::Rs256 => rsa(&signature::RSA_PKCS1_SHA256),
            Algorithm::Rs384 => rsa(&signature::RSA_PKCS1_SHA384),
            Algorithm::Rs512 => rsa(&signature::RSA_PKCS1_SHA512),
            Algorithm::Ps256 => rsa(&signature::RSA_PSS_SHA256),
            Algorithm::Ps384 => rsa(&signature::RSA_PSS_SHA384),
            Algorithm::Ps512 => rsa(&signature::RSA_PSS_SHA512),
            Algorithm::Es256 => ecdsa(&self.p256),
            Algorithm::Es384 => ecdsa(&self.p384),
            Algorithm::EdDsa => self.ed25519.sign(text).as_ref().to_vec(),
            Algorithm::Hs256 => hmac(hmac::HMAC_SHA256),
            Algorithm::Hs384 => hmac(hmac::HMAC_SHA384),
            Algorithm::Hs512 => hmac(hmac::HMAC_SHA512),
        }
    }

    /// Token of these texts, signed by the key for an algorithm.
    pub(crate) fn sealed(&self, algorithm: Algorithm, header: &str, claims: &str) -> String {
        let signed = format!(
            "{}.{}",
            encode(header.as_bytes()),
            encode(claims.as_bytes())
        );
        let signature = encode(&self.sign(algorithm, signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// Token with the usual header.
    pub(crate) fn token(&self, algorithm: Algorithm, claims: &Value) -> String {
        let header = json!({"alg": algorithm.as_str(), "kid": key_id(algorithm)});
        self.sealed(algorithm, &header.to_string(), &claims.to_string())
    }
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn key_id(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Rs256
        | Algorithm::Rs384
        | Algorithm::Rs512
        | Algorithm::Ps256
        | Algorithm::Ps384
        | Algorithm::Ps512 => "kid-rsa",
        Algorithm::Es256 => "kid-p256",
        Algorithm::Es384 => "kid-p384",
        Algorithm::EdDsa => "kid-ed25519",
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => "kid-secret",
    }
}
