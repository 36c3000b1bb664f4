//! [`OriginTls`]: TLS to origins at `https://`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::tls::pem::{PairFiles, PemError, certificates};
use crate::tls::socket::TlsSocket;
use crate::tls::trust::Trust;
use crate::tls::{HTTP_1_1, provider, words};

/// Settings of TLS to origins.
#[derive(Debug, Clone, Default)]
pub struct OriginTlsFiles {
    /// CA certificates that replace the system's, or pinned certificates of origins.
    pub authorities: Option<PathBuf>,
    /// Client certificate for origins that request one.
    pub client: Option<PairFiles>,
    /// Server name (SNI) to send and to verify, instead of the host of the address.
    pub server_name: Option<ServerName<'static>>,
}

/// TLS connector for origins. Clones share its session cache.
#[derive(Clone)]
pub struct OriginTls {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
    /// Digest of everything that it was made of.
    made_of: [u8; 32],
}

/// Equal if made of the same trust, client certificate and server name.
impl PartialEq for OriginTls {
    fn eq(&self, other: &Self) -> bool {
        self.made_of == other.made_of
    }
}

impl OriginTls {
    /// Loads the files.
    ///
    /// # Errors
    /// The unusable file, and why.
    pub fn load(files: &OriginTlsFiles) -> Result<Self, PemError> {
        let provider = provider();
        let (roots, pinned) = match &files.authorities {
            Some(file) => {
                let named = certificates(file)?;
                (authorities(file, &named)?, named)
            }
            None => (authorities_of_the_system()?, Vec::new()),
        };
        let mut made_of = Sha256::new();
        // Each part with its length, so that no two lists of parts are the same text.
        let mut add = |part: &[u8]| {
            made_of.update((part.len() as u64).to_be_bytes());
            made_of.update(part);
        };
        for root in &roots.roots {
            add(&root.subject);
            add(&root.subject_public_key_info);
            add(root.name_constraints.as_deref().unwrap_or_default());
        }
        add(b"pinned");
        pinned.iter().for_each(|pinned| add(pinned));
        add(b"client");
        let trust = Trust::new(roots, pinned, Arc::clone(&provider))
            .map_err(|problem| PemError::new(Path::new("TLS"), problem))?;
        let client = match &files.client {
            Some(pair) => {
                let text = pair.read()?;
                add(&text.certificate);
                add(&text.key);
                Some(pair.parse(&text, &provider)?)
            }
            None => None,
        };
        add(format!("{:?}", files.server_name).as_bytes());
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        // Our provider supports both versions.
        let config = config
            .map_err(|error| PemError::new(Path::new("TLS"), words::of_tls(&error)))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(trust));
        let mut config = match client {
            Some(pair) => config
                .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(pair))),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        Ok(Self {
            config: Arc::new(config),
            server_name: files.server_name.clone(),
            made_of: made_of.finalize().into(),
        })
    }

    /// Configuration for clients that do their own input and output.
    pub(crate) fn client_config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// Performs the handshake over a connection to the origin at `host` and `port`.
    pub(crate) async fn handshake(
        &self,
        io: TcpStream,
        host: &str,
        port: u16,
    ) -> Result<TlsSocket, HandshakeFault> {
        let authority = format!("{host}:{port}");
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => match server_name(host) {
                Some(name) => name,
                None => {
                    return Err(HandshakeFault::Failed {
                        authority,
                        cause: "its host is no name for TLS".to_owned(),
                    });
                }
            },
        };
        match TlsConnector::from(Arc::clone(&self.config))
            .connect(name, io)
            .await
        {
            Ok(stream) => Ok(TlsSocket::new(stream)),
            Err(error) => Err(explain(authority, &error)),
        }
    }
}

/// Failed handshake with the origin at `authority`.
#[derive(Debug)]
pub(crate) enum HandshakeFault {
    /// The origin's certificate is not trusted.
    Untrusted { authority: String, cause: String },
    /// The handshake failed otherwise.
    Failed { authority: String, cause: String },
}

impl fmt::Debug for OriginTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginTls")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

/// Converts the host of an address to a TLS name, without the brackets of an IPv6 address.
pub(crate) fn server_name(host: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(
        host.trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned(),
    )
    .ok()
}

fn authorities(
    file: &Path,
    certificates: &[CertificateDer<'static>],
) -> Result<RootCertStore, PemError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone()).map_err(|error| {
            let why = words::of_tls(&error);
            PemError::new(
                file,
                format!("holds a certificate that cannot be read: {why}"),
            )
        })?;
    }
    Ok(roots)
}

/// Loads the system's CA certificates; one that cannot be parsed does not invalidate the others.
fn authorities_of_the_system() -> Result<RootCertStore, PemError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(PemError::new(
            Path::new("/etc/ssl/certs"),
            "the system has no certificate authorities: set ca_file",
        ));
    }
    Ok(roots)
}

fn explain(authority: String, error: &io::Error) -> HandshakeFault {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let cause = words::of_handshake(error);
    match tls {
        Some(rustls::Error::InvalidCertificate(_)) => {
            HandshakeFault::Untrusted { authority, cause }
        }
        _ => HandshakeFault::Failed { authority, cause },
    }
}
