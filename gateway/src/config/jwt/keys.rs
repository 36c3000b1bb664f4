//! Where the keys of an issuer come from: discovery, a URL, a file of keys or of a secret.

use std::path::Path;
use std::sync::Arc;

use postern_shared::source;
use zeroize::Zeroizing;

use crate::auth::jwt::{Algorithm, Algorithms, KeySet, KeySource};
use crate::config::jwt::ClaimText;
use crate::config::reader::Reader;
use crate::config::value::{FilePath, Setting as _};
use crate::proxy::fetch::DocumentUrl;
use crate::tls::origin::{OriginTls, OriginTlsFiles};

/// Largest file of keys or of a secret, in bytes.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Settings of the keys.
pub(super) struct Keys {
    pub(super) algorithms: Algorithms,
    pub(super) source: KeySource,
    pub(super) tls: Option<OriginTls>,
}

/// Reads where the keys come from, and the algorithms that they may be for.
pub(super) fn read_keys(section: &mut Reader, issuer: Option<&ClaimText>) -> Option<Keys> {
    let problems_before = section.problems().len();
    let url = section.take_optional::<DocumentUrl>("jwks_url");
    let set = section.take_optional::<FilePath>("jwks_file");
    let secret = section.take_optional::<FilePath>("secret_file");
    let default = match secret {
        Some(_) => Algorithms::of(&[Algorithm::Hs256]),
        None => Algorithms::DEFAULT,
    };
    let tls = read_tls(section, set.is_some() || secret.is_some());
    let listed: Vec<Algorithm> = section.take_list_or("algorithms", default.iter().collect());
    if section.problems().len() > problems_before {
        return None;
    }
    let algorithms: Algorithms = listed.iter().copied().collect();
    let mut refuse = |key: &str, message: String| {
        section.problem(key, "the settings", message);
        None
    };
    if listed.is_empty() {
        let message = format!("it is empty: list some of {}", Algorithm::ACCEPTED);
        return refuse("algorithms", message);
    }
    let is_misplaced = |algorithm: &&Algorithm| algorithm.is_symmetric() != secret.is_some();
    if let Some(misplaced) = listed.iter().find(is_misplaced) {
        let message = if secret.is_some() {
            format!(
                "{misplaced} is verified with public keys: take jwks_url or jwks_file instead of secret_file"
            )
        } else {
            format!("{misplaced} is verified with a shared secret: name its file with secret_file")
        };
        return refuse("algorithms", message);
    }
    let source = match (url, set, secret) {
        (None, None, None) => {
            let issuer = issuer?;
            if issuer.0.contains('?') {
                let message = "its keys are found below it, so it has no query; else set jwks_url";
                return refuse("issuer", message.to_owned());
            }
            if let Err(error) = DocumentUrl::parse(&issuer.0) {
                let message = format!(
                    "its keys are found below it, so it is an address ({error}); else set jwks_url, jwks_file or secret_file"
                );
                return refuse("issuer", message);
            }
            KeySource::Discovery
        }
        (Some(url), None, None) => KeySource::Url(url.to_string().into()),
        (None, Some(file), None) => match read_key_set(&file.0) {
            Ok(set) => KeySource::Fixed(Arc::new(set)),
            Err(message) => {
                section.problem("jwks_file", "its file", message);
                return None;
            }
        },
        (None, None, Some(file)) => match read_secret(&file.0, algorithms) {
            Ok(set) => KeySource::Fixed(Arc::new(set)),
            Err(message) => {
                section.problem("secret_file", "its file", message);
                return None;
            }
        },
        (url, _, secret) => {
            let (key, other) = match (url, secret) {
                (Some(_), Some(_)) => ("secret_file", "jwks_url"),
                (None, Some(_)) => ("secret_file", "jwks_file"),
                (_, None) => ("jwks_file", "jwks_url"),
            };
            return refuse(key, format!("{other} is set, too: leave one of them out"));
        }
    };
    Some(Keys {
        algorithms,
        source,
        tls,
    })
}

/// Reads the authorities that are believed where keys are fetched; `in_file` is whether none are.
fn read_tls(section: &mut Reader, in_file: bool) -> Option<OriginTls> {
    let FilePath(file) = section.take_optional("ca_file")?;
    let files = OriginTlsFiles {
        authorities: Some(file),
        ..OriginTlsFiles::default()
    };
    match OriginTls::load(&files) {
        Ok(_) if in_file => {
            let message = "its keys are in a file and not fetched: leave one of them out";
            section.problem("ca_file", "the settings", message.to_owned());
            None
        }
        Ok(tls) => Some(tls),
        Err(error) => {
            section.problem("ca_file", "its file", error.to_string());
            None
        }
    }
}

fn read_key_set(file: &Path) -> Result<KeySet, String> {
    let parsed = KeySet::parse(&read_file(file)?);
    let parsed = parsed.map_err(|error| format!("{}: {error}", shown(file)))?;
    for (at, reason) in parsed.skipped {
        log::warn!("{}: key {at} is not used: {reason}", shown(file));
    }
    Ok(parsed.set)
}

/// Reads a secret; trims one line end, as editors and `echo` leave it.
fn read_secret(file: &Path, algorithms: Algorithms) -> Result<KeySet, String> {
    let mut secret = read_file(file)?;
    for end in [b'\n', b'\r'] {
        if secret.last() == Some(&end) {
            secret.pop();
        }
    }
    let needed = algorithms.iter().map(Algorithm::min_secret_bytes).max();
    let needed = needed.unwrap_or_default();
    if secret.len() < needed {
        return Err(format!(
            "{}: the secret has {} bytes; its algorithms need {needed} at least",
            shown(file),
            secret.len()
        ));
    }
    KeySet::of_secret(secret).map_err(|error| format!("{}: {error}", shown(file)))
}

fn read_file(file: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let unreadable = |error: &dyn std::fmt::Display| format!("{}: {error}", shown(file));
    let metadata = std::fs::metadata(file).map_err(|error| unreadable(&error))?;
    if !metadata.is_file() {
        return Err(unreadable(&"it is no file"));
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(unreadable(&format!(
            "it has more than {MAX_FILE_BYTES} bytes"
        )));
    }
    let read = std::fs::read(file).map(Zeroizing::new);
    read.map_err(|error| unreadable(&error))
}

fn shown(file: &Path) -> String {
    source::shown_path(&file.to_string_lossy())
}
