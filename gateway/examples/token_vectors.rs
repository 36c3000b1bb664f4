//! Runs third-party test vectors of signed tokens: `make test-vectors VECTORS=DIRECTORY`.
//!
//! The directory has the files `json_web_*_test.json` of <https://github.com/C2SP/wycheproof>,
//! `testvectors_v1`. Every valid case of a known algorithm is to be accepted, and every other one
//! refused.

#![expect(clippy::print_stdout, reason = "its output is what it is run for")]

use std::path::Path;
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postern_gateway::auth::jwt::{Algorithm, Compact, KeySet, is_token};
use serde_json::{Value, json};

/// Files, each with the number of cases that it has at least.
const FILES: [(&str, usize); 4] = [
    ("json_web_signature_test.json", 400),
    ("json_web_key_test.json", 26),
    ("json_web_crypto_test.json", 80),
    ("json_web_encryption_test.json", 130),
];

/// Cases that are named valid, and refused all the same.
const REFUSED: [(&str, u64, &str); 6] = [
    (
        "json_web_signature_test.json",
        346,
        "the key is for PS256, the token names PS384; 338 calls the same invalid",
    ),
    (
        "json_web_signature_test.json",
        350,
        "the key is for PS256, the token names PS384; 338 calls the same invalid",
    ),
    (
        "json_web_signature_test.json",
        347,
        "ES512 is not supported",
    ),
    (
        "json_web_signature_test.json",
        351,
        "ES512 is not supported",
    ),
    (
        "json_web_signature_test.json",
        372,
        "the header has a byte that is not base64url, which RFC 7515 section 2 does not allow",
    ),
    (
        "json_web_signature_test.json",
        373,
        "the payload has a byte that is not base64url, which RFC 7515 section 2 does not allow",
    ),
];

/// Cases that are named invalid, and are accepted all the same: they are byte for byte those of a
/// valid case with the same key. With the padding that they are named after they are refused.
const ACCEPTED: [(&str, u64, u64); 2] = [
    ("json_web_signature_test.json", 367, 357),
    ("json_web_signature_test.json", 370, 357),
];

/// What became of the cases of a file.
#[derive(Default)]
struct Count {
    accepted: usize,
    refused: usize,
    excepted: usize,
    wrong: Vec<String>,
}

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("say where the vectors are: token_vectors DIRECTORY");
        return ExitCode::from(2);
    };
    let mut is_right = true;
    for (name, at_least) in FILES {
        let path = Path::new(&directory).join(name);
        let read = std::fs::read(&path).map_err(|error| error.to_string());
        let document = read.and_then(|text| {
            serde_json::from_slice::<Value>(&text).map_err(|error| error.to_string())
        });
        let document = match document {
            Ok(document) => document,
            Err(error) => {
                eprintln!("{}: {error}", path.display());
                return ExitCode::from(2);
            }
        };
        let count = run(name, &document);
        println!(
            "{name}: {} valid cases accepted, {} invalid ones refused, {} excepted, {} wrong",
            count.accepted,
            count.refused,
            count.excepted,
            count.wrong.len()
        );
        for wrong in &count.wrong {
            println!("  {wrong}");
        }
        for (_, case, why) in REFUSED.iter().filter(|(file, ..)| *file == name) {
            println!("  excepted: {case}: {why}");
        }
        for (_, case, twin) in ACCEPTED.iter().filter(|(named, ..)| *named == name) {
            println!("  excepted: {case}: the token is that of {twin}, which is valid");
        }
        let cases = count.accepted + count.refused + count.excepted;
        is_right &= count.wrong.is_empty() && cases >= at_least;
    }
    if is_right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run(file: &str, document: &Value) -> Count {
    let mut count = Count::default();
    for group in items(&document["testGroups"]) {
        let keys = keys(group);
        for test in items(&group["tests"]) {
            let case = test["tcId"].as_u64().unwrap_or_default();
            if let Some(encrypted) = test["jwe"].as_str() {
                // Whatever its worth, it is not signed.
                match verify(encrypted, &keys) {
                    false => count.refused += 1,
                    true => count
                        .wrong
                        .push(format!("{case}: an encrypted token is accepted")),
                }
                continue;
            }
            let token = test["jws"].as_str().unwrap_or_default();
            let is_excepted = REFUSED
                .iter()
                .any(|(named, number, _)| *named == file && *number == case);
            if let Some((.., twin)) = ACCEPTED
                .iter()
                .find(|(named, number, _)| *named == file && *number == case)
            {
                let mut tests = items(&group["tests"]).iter();
                let twin = tests.find(|test| test["tcId"] == *twin);
                let is_same = twin
                    .is_some_and(|twin| twin["jws"] == test["jws"] && twin["result"] == "valid");
                let padded = [format!("{token}="), token.replacen("A.c", "A==.c", 1)];
                if is_same && !padded.iter().any(|padded| verify(padded, &keys)) {
                    count.excepted += 1;
                } else {
                    count
                        .wrong
                        .push(format!("{case}: it is no twin of a valid case"));
                }
                continue;
            }
            let is_valid = test["result"] == "valid";
            match (is_valid && !is_excepted, verify(token, &keys)) {
                (true, true) => count.accepted += 1,
                (false, false) if is_excepted => count.excepted += 1,
                (false, false) => count.refused += 1,
                (expected, found) => count.wrong.push(format!(
                    "{case} ({}): accepted is {found}, expected {expected}",
                    test["comment"]
                )),
            }
            if is_excepted && token_names(token, "alg").as_deref() == Some("PS384") {
                // What is wrong with it is the key's `alg` alone.
                let without: Vec<Value> = keys.iter().cloned().map(without_alg).collect();
                if !verify(token, &without) {
                    count
                        .wrong
                        .push(format!("{case}: refused without the key's alg, too"));
                }
            }
        }
    }
    count
}

/// Keys of a group: public ones where it has them, else all, of which only shared secrets serve.
fn keys(group: &Value) -> Vec<Value> {
    let given = group.get("public").unwrap_or(&group["private"]);
    match given.get("keys") {
        Some(set) => items(set).to_vec(),
        None => vec![given.clone()],
    }
}

/// Whether the token is accepted with these keys.
fn verify(token: &str, keys: &[Value]) -> bool {
    let document = json!({ "keys": keys }).to_string();
    let published = KeySet::parse(document.as_bytes());
    let is_secret = |key: &Value| key["kty"] == "oct";
    if keys.iter().any(is_secret) && keys.iter().all(is_secret) {
        // A key set that is published never has a secret. A file has one, as the operator took it
        // from the set.
        return published.is_err() && by_secret(token, keys);
    }
    let verified = published.is_ok_and(|parsed| {
        Compact::parse(token.as_bytes()).is_ok_and(|compact| parsed.set.verify(&compact).is_ok())
    });
    verified && is_token(token.as_bytes())
}

fn by_secret(token: &str, keys: &[Value]) -> bool {
    let Some(id) = token_names(token, "kid") else {
        return false;
    };
    let named: Vec<&Value> = keys.iter().filter(|key| key["kid"] == *id).collect();
    let [key] = named[..] else { return false };
    let algorithm = key["alg"].as_str().and_then(Algorithm::parse);
    let Some(algorithm) = algorithm.filter(|algorithm| algorithm.is_symmetric()) else {
        return false;
    };
    let secret = key["k"]
        .as_str()
        .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let Some(set) = secret.and_then(|secret| KeySet::of_secret(secret.into()).ok()) else {
        return false;
    };
    token_names(token, "alg").as_deref() == Some(algorithm.as_str())
        && Compact::parse(token.as_bytes()).is_ok_and(|compact| set.verify(&compact).is_ok())
}

/// A text of the token's header, whose base64 may be wrong, as by a reader that does not care.
fn token_names(token: &str, member: &str) -> Option<String> {
    let first = token.split('.').next()?;
    let plain: String = first
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c))
        .collect();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(plain).ok()?).ok()?;
    header[member].as_str().map(str::to_owned)
}

fn without_alg(mut key: Value) -> Value {
    if let Some(members) = key.as_object_mut() {
        members.remove("alg");
    }
    key
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}
