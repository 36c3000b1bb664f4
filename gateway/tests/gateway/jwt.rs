//! Tokens of issuers, from outside: who passes, as whom, how often, and how each wrong token is answered.

mod callers;
mod consumers;
mod metadata;
mod observing;
mod self_path;
mod streams;
mod wrong;

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Response, get};
use crate::origin::Origin;
use crate::rig::{Process, database, gateway};

/// The secret of the issuer `corp`.
pub(crate) const CORP_SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef";
/// Token of the admin API.
const ADMIN_TOKEN: &str = "an-admin-token-of-these-tests-7c1f";
const CORP: &str = "https://corp.example/";
const PARTNER: &str = "https://partner.example";

/// A gateway that takes tokens of two issuers: `corp`, with a secret, and `partner`, with a key set.
struct Rig {
    process: Process,
    origin: Origin,
    signer: EcdsaKeyPair,
}

/// The settings of both issuers; `of_corp` is added to those of the first.
fn issuers(of_corp: &str) -> String {
    format!(
        "[[jwt.issuers]]\nname = \"corp\"\nissuer = \"{CORP}\"\naudiences = [\"api\"]\n\
         algorithms = [\"HS256\"]\nsecret_file = \"corp.secret\"\n{of_corp}\n\
         [[jwt.issuers]]\nname = \"partner\"\nissuer = \"{PARTNER}\"\naudiences = [\"api\", \"other\"]\n\
         algorithms = [\"ES256\"]\njwks_file = \"partner.json\"\n"
    )
}

impl Rig {
    /// With these routes, and `of_corp` among the settings of the issuer.
    fn with(routes: &str, of_corp: &str) -> Self {
        Self::before(Origin::hello(), routes, of_corp)
    }

    fn before(origin: Origin, routes: &str, of_corp: &str) -> Self {
        let pair =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let signer = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            pair.unwrap().as_ref(),
            &SystemRandom::new(),
        )
        .unwrap();
        let point = signer.public_key().as_ref();
        let set = json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "kid": "one", "use": "sig", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]),
            "y": URL_SAFE_NO_PAD.encode(&point[33..]),
        }] });
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("corp.secret"), CORP_SECRET).unwrap();
        std::fs::write(path("partner.json"), set.to_string()).unwrap();
        let file = format!("{routes}{}", issuers(of_corp));
        std::fs::write(path("gateway.toml"), file).unwrap();
        let process = Process::start(directory, &origin.url(), &[("ADMIN_TOKEN", ADMIN_TOKEN)]);
        Self {
            process,
            origin,
            signer,
        }
    }

    /// Replaces the settings of routes and of the issuer.
    fn write(&self, routes: &str, of_corp: &str) {
        let file = format!("{routes}{}", issuers(of_corp));
        std::fs::write(self.directory().path().join("gateway.toml"), file).unwrap();
    }

    fn directory(&self) -> &TempDir {
        &self.process.directory
    }

    /// Runs a command on the store, which is in force when it returns.
    fn done(&self, arguments: &[&str]) -> String {
        let url = database(self.directory().path());
        let output = gateway(
            self.directory().path(),
            &[("DATABASE_URL", &url)],
            arguments,
        );
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn get(&self, path: &str, lines: &[&str]) -> Response {
        get(self.process.public, path, lines)
    }

    /// Status and code of the answer to a token at `path`.
    fn answer(&self, path: &str, token: &str) -> (u16, String) {
        let answer = self.get(path, &[&bearer(token)]);
        (answer.status, answer.code_or_ok())
    }

    /// A token of `partner` with these claims besides the usual ones.
    fn of_partner(&self, claims: &Value) -> String {
        let header = json!({ "alg": "ES256", "kid": "one", "typ": "at+jwt" });
        self.signed_by_partner(&header, &with(PARTNER, claims))
    }

    fn signed_by_partner(&self, header: &Value, claims: &Value) -> String {
        let signed = unsigned(header, claims);
        let signature = self.signer.sign(&SystemRandom::new(), signed.as_bytes());
        format!(
            "{signed}.{}",
            URL_SAFE_NO_PAD.encode(signature.unwrap().as_ref())
        )
    }
}

/// The header line that presents a token.
pub(crate) fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}")
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// Claims of a good token of `issuer`, with `claims` in their place; null takes one away.
pub(crate) fn with(issuer: &str, claims: &Value) -> Value {
    let mut all = json!({ "iss": issuer, "aud": "api", "sub": "alice", "exp": now() + 600 });
    for (name, value) in claims.as_object().unwrap() {
        match value {
            Value::Null => drop(all.as_object_mut().unwrap().remove(name)),
            value => all[name] = value.clone(),
        }
    }
    all
}

/// Header and claims in base64url, without a signature.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    raw(&header.to_string(), &claims.to_string())
}

fn raw(header: &str, claims: &str) -> String {
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    format!("{header}.{claims}")
}

/// Signs header and claims with a secret.
fn signed_with(secret: &[u8], signed: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let signature = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

/// A token of `corp` with these claims besides the usual ones.
pub(crate) fn of_corp(claims: &Value) -> String {
    let signed = unsigned(&json!({ "alg": "HS256" }), &with(CORP, claims));
    signed_with(CORP_SECRET.as_bytes(), &signed)
}
