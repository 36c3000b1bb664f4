//! Certificates and keys in PEM files. Errors name the file and the problem, never the content.

use std::path::{Path, PathBuf};

use memchr::memmem;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::tls::words;

/// A file, or a pair of files, cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}: {problem}", file.display())]
pub struct PemError {
    /// File.
    pub file: PathBuf,
    /// Problem with it.
    pub problem: String,
}

impl PemError {
    /// Combines `problem` with `file`.
    pub(crate) fn new(file: &Path, problem: impl Into<String>) -> Self {
        Self {
            file: file.to_path_buf(),
            problem: problem.into(),
        }
    }
}

/// Paths of a certificate with its chain, and of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairFiles {
    /// Certificate followed by its intermediates, in PEM.
    pub certificate: PathBuf,
    /// Private key, in PEM.
    pub key: PathBuf,
}

/// Content of both files.
pub struct PairText {
    /// Certificates.
    pub certificate: Vec<u8>,
    /// Private key.
    pub key: Zeroizing<Vec<u8>>,
}

impl PairFiles {
    /// Reads both files.
    ///
    /// # Errors
    /// The file that cannot be read.
    pub fn read(&self) -> Result<PairText, PemError> {
        Ok(PairText {
            certificate: read(&self.certificate)?,
            key: Zeroizing::new(read(&self.key)?),
        })
    }

    /// Parses the content of both files.
    ///
    /// # Errors
    /// The malformed file, or a mismatch of certificate and key.
    pub fn parse(
        &self,
        text: &PairText,
        provider: &CryptoProvider,
    ) -> Result<CertifiedKey, PemError> {
        let chain = certificates_in(&self.certificate, &text.certificate)?;
        if is_encrypted(&text.key) {
            let decrypt = "its key is encrypted, and there is nobody to ask for the passphrase: \
                           decrypt it (openssl pkey -in FILE -out DECRYPTED) and keep it readable \
                           for its owner only";
            return Err(PemError::new(&self.key, decrypt));
        }
        let key = PrivateKeyDer::from_pem_slice(&text.key).map_err(|error| {
            let why = instead(&text.key).unwrap_or(problem(&error));
            PemError::new(&self.key, format!("holds no private key in PEM: {why}"))
        })?;
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(|error| {
                PemError::new(
                    &self.key,
                    format!(
                        "holds a key that is not supported: {}",
                        words::of_tls(&error)
                    ),
                )
            })?;
        let pair = CertifiedKey::new(chain, key);
        match pair.keys_match() {
            Ok(()) => Ok(pair),
            Err(rustls::Error::InconsistentKeys(_)) => Err(PemError::new(
                &self.key,
                format!(
                    "this key does not match the certificate in {}",
                    self.certificate.display()
                ),
            )),
            Err(error) => Err(PemError::new(
                &self.certificate,
                format!(
                    "its first certificate cannot be read: {}",
                    words::of_tls(&error)
                ),
            )),
        }
    }
}

/// Reads the certificates in a file, at least one.
///
/// # Errors
/// The problem with the file.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    certificates_in(file, &read(file)?)
}

fn certificates_in(file: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match chain {
        Ok(chain) if chain.is_empty() => {
            let why = instead(text).map_or(String::new(), |found| format!(": {found}"));
            Err(PemError::new(
                file,
                format!("holds no certificate in PEM{why}"),
            ))
        }
        Ok(chain) => Ok(chain),
        Err(error) => Err(PemError::new(
            file,
            format!("is not PEM: {}", problem(&error)),
        )),
    }
}

/// Omits the text around the error, which may be part of a key.
fn problem(error: &rustls::pki_types::pem::Error) -> &'static str {
    use rustls::pki_types::pem::Error;
    match error {
        Error::MissingSectionEnd { .. } => "a section has no end",
        Error::IllegalSectionStart { .. } => "a section begins wrongly",
        Error::Base64Decode(_) => "its base64 is damaged",
        Error::NoItemsFound => "there is none",
        _ => "it cannot be read",
    }
}

/// Whether a key is encrypted: in PKCS #8 (RFC 7468, section 11), or in OpenSSL's older format (RFC
/// 1421, section 4.6.1.1).
fn is_encrypted(text: &[u8]) -> bool {
    let holds = |words: &[u8]| memmem::find(text, words).is_some();
    holds(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || holds(b"Proc-Type: 4,ENCRYPTED")
}

/// Describes what a file holds instead of the expected type, if that is clear.
fn instead(text: &[u8]) -> Option<&'static str> {
    let holds = |words: &[u8]| memmem::find(text, words).is_some();
    if text.is_empty() {
        Some("the file is empty")
    } else if holds(b" PRIVATE KEY-----") {
        Some("it is a private key")
    } else if holds(b"-----BEGIN CERTIFICATE-----") {
        Some("it is a certificate")
    } else if holds(b"-----BEGIN CERTIFICATE REQUEST-----") {
        Some("it is a request for a certificate")
    } else if text.starts_with(&[0x30, 0x80]) || text.starts_with(&[0x30, 0x82]) {
        Some("it is DER, or PKCS #12: convert it with openssl")
    } else {
        None
    }
}

fn read(file: &Path) -> Result<Vec<u8>, PemError> {
    std::fs::read(file).map_err(|error| PemError::new(file, format!("cannot be read: {error}")))
}
