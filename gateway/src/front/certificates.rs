//! Certificates of a listener: selected by the client's server name (SNI) and reloaded when their
//! files change. An unusable pair never replaces a usable one.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::crypto::ring::Ticketer;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, OtherError, ServerConfig};
use sha2::{Digest as _, Sha256};
use webpki::{EndEntityCert, KeyUsage};

use crate::tls::expiry::not_after;
use crate::tls::pem::{PairFiles, PairText, PemError};
use crate::tls::{provider, words};

/// Matching certificate and key, with the files that they came from.
#[derive(Clone)]
pub struct ServerPair {
    files: PairFiles,
    digest: [u8; 32],
    /// Digest of the files at the last refusal, so that each refusal is logged once.
    refused: Option<[u8; 32]>,
    /// Digest of the files at the last check.
    seen: [u8; 32],
    pair: Arc<CertifiedKey>,
    names: Vec<String>,
    /// Whether the expiry has been logged.
    expiry_logged: bool,
}

impl ServerPair {
    /// Loads a pair. Accepts and logs an expired one.
    ///
    /// # Errors
    /// The unusable file, and why.
    pub fn load(files: PairFiles) -> Result<Self, PemError> {
        let text = files.read()?;
        let (pair, names) = parse(&files, &text)?;
        let digest = digest(&text);
        Ok(Self {
            files,
            digest,
            refused: None,
            seen: digest,
            expiry_logged: has_expired(&pair),
            pair,
            names,
        })
    }

    /// Certificate without its intermediates.
    pub(crate) fn end_entity(&self) -> Option<CertificateDer<'static>> {
        self.pair.cert.first().cloned()
    }

    /// Logs once that the certificate expired while in use.
    fn watch_expiry(&mut self) {
        if !self.expiry_logged && has_expired(&self.pair) {
            self.expiry_logged = true;
            log::error!(
                "certificate {} expired while in use: clients refuse it from now on",
                self.files.certificate.display()
            );
        }
    }

    /// Checks the files again and returns whether there is a new pair to serve. A change must
    /// persist for one further check, because the two files of a pair are seldom written at once.
    fn refresh(&mut self) -> bool {
        let text = self.files.read();
        // No text has this digest: it marks unreadable files.
        let found = text.as_ref().map_or([0; 32], digest);
        let settled = std::mem::replace(&mut self.seen, found) == found;
        if found == self.digest {
            self.refused = None;
            return false;
        }
        if !settled || self.refused == Some(found) {
            return false;
        }
        match text.and_then(|text| parse(&self.files, &text)) {
            Ok((pair, names)) => {
                self.expiry_logged = has_expired(&pair);
                (self.pair, self.names, self.digest, self.refused) = (pair, names, found, None);
                log::info!(
                    "certificate {} was reloaded",
                    self.files.certificate.display()
                );
                true
            }
            Err(error) => {
                self.refused = Some(found);
                log::error!("rejected a new certificate, keeping the previous one: {error}");
                false
            }
        }
    }
}

impl fmt::Debug for ServerPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerPair")
            .field("files", &self.files)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// Certificates in use; the first pair serves clients that send no server name, or an unknown one.
#[derive(Debug)]
pub struct Certificates {
    chosen: ArcSwap<ByName>,
    pairs: Mutex<Pairs>,
}

/// Pairs in use. Held for moments only, never while files are read.
#[derive(Debug)]
struct Pairs {
    list: Vec<ServerPair>,
    /// Number of times that the list was replaced.
    replaced: u64,
}

impl Certificates {
    /// Serves these pairs; `None` if there are none.
    #[must_use]
    pub fn new(pairs: &[ServerPair]) -> Option<Arc<Self>> {
        Some(Arc::new(Self {
            chosen: ArcSwap::from_pointee(ByName::of(pairs)?),
            pairs: Mutex::new(Pairs {
                list: pairs.to_vec(),
                replaced: 0,
            }),
        }))
    }

    /// Checks the files again and serves what is new and valid.
    pub fn refresh(&self) {
        let (mut pairs, replaced) = {
            let pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
            (pairs.list.clone(), pairs.replaced)
        };
        let mut news = false;
        for pair in &mut pairs {
            news |= pair.refresh();
            pair.watch_expiry();
        }
        let mut held = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        // Another list came meanwhile: the next check is about that one.
        if held.replaced != replaced {
            return;
        }
        if let (true, Some(chosen)) = (news, ByName::of(&pairs)) {
            self.chosen.store(Arc::new(chosen));
        }
        held.list = pairs;
    }

    /// Serves `pairs` from now on, if there are any and they are of other files than those before.
    pub fn replace(&self, pairs: &[ServerPair]) {
        let mut held = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        let files = |pairs: &[ServerPair]| -> Vec<PairFiles> {
            pairs.iter().map(|pair| pair.files.clone()).collect()
        };
        if files(&held.list) == files(pairs) {
            return;
        }
        if let Some(chosen) = ByName::of(pairs) {
            self.chosen.store(Arc::new(chosen));
            held.list = pairs.to_vec();
            held.replaced += 1;
        }
    }

    /// Certificate files in use with their expiry as Unix time.
    #[must_use]
    pub fn ends(&self) -> Vec<(PathBuf, i64)> {
        self.chosen.load().ends.clone()
    }

    /// TLS configuration: versions 1.2 and 1.3 with rustls defaults, and these ALPN protocols, most
    /// preferred first.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn server_config(
        self: &Arc<Self>,
        protocols: &[&[u8]],
    ) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        // Stateless session tickets: a session cache would be small, and behind a lock.
        config.ticketer = Ticketer::new()?;
        Ok(config)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.chosen.load().choose(hello.server_name()))
    }
}

#[derive(Debug)]
struct ByName {
    default: Arc<CertifiedKey>,
    named: HashMap<String, Arc<CertifiedKey>>,
    ends: Vec<(PathBuf, i64)>,
}

impl ByName {
    /// Of two certificates with a common name, the first is chosen.
    fn of(pairs: &[ServerPair]) -> Option<Self> {
        let mut named = HashMap::new();
        for pair in pairs {
            for name in &pair.names {
                named
                    .entry(name.clone())
                    .or_insert_with(|| Arc::clone(&pair.pair));
            }
        }
        let end = |pair: &ServerPair| {
            Some((
                pair.files.certificate.clone(),
                not_after(pair.pair.cert.first()?)?,
            ))
        };
        let ends = pairs.iter().filter_map(end).collect();
        Some(Self {
            default: Arc::clone(&pairs.first()?.pair),
            named,
            ends,
        })
    }

    fn choose(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let found = name.map(str::to_ascii_lowercase).and_then(|name| {
            // A wildcard stands for one label (RFC 9525, section 6.3).
            let wildcard = || self.named.get(&format!("*.{}", name.split_once('.')?.1));
            self.named.get(&name).or_else(wildcard)
        });
        Arc::clone(found.unwrap_or(&self.default))
    }
}

fn parse(files: &PairFiles, text: &PairText) -> Result<(Arc<CertifiedKey>, Vec<String>), PemError> {
    let pair = files.parse(text, &provider())?;
    let unreadable = |error: webpki::Error| {
        PemError::new(
            &files.certificate,
            format!(
                "its first certificate cannot be read: {}",
                words::of_certificate(&CertificateError::Other(OtherError(Arc::new(error))))
            ),
        )
    };
    let first = pair
        .end_entity_cert()
        .map_err(|error| PemError::new(&files.certificate, words::of_tls(&error)))?;
    let certificate = EndEntityCert::try_from(first).map_err(unreadable)?;
    let names = certificate
        .valid_dns_names()
        .map(str::to_ascii_lowercase)
        .collect();
    // webpki checks the dates before the issuer, which does not matter here.
    let checked = certificate.verify_for_usage(
        provider().signature_verification_algorithms.all,
        &[],
        &[],
        UnixTime::now(),
        KeyUsage::server_auth(),
        None,
        None,
    );
    match checked.err() {
        Some(webpki::Error::CertExpired { .. }) => {
            log::warn!(
                "certificate {} has expired: clients will refuse it",
                files.certificate.display()
            );
        }
        Some(webpki::Error::CertNotValidYet { .. }) => {
            log::warn!(
                "certificate {} is not valid yet: clients will refuse it",
                files.certificate.display()
            );
        }
        _ => {}
    }
    Ok((Arc::new(pair), names))
}

fn has_expired(pair: &CertifiedKey) -> bool {
    let end = pair.cert.first().and_then(|first| not_after(first));
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
    end.is_some_and(|end| end < now)
}

fn digest(text: &PairText) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update((text.certificate.len() as u64).to_be_bytes());
    digest.update(&text.certificate);
    digest.update(text.key.as_slice());
    digest.finalize().into()
}
