//! [`OriginTls`]: how origins at `https://` are spoken to.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::tls::pem::{PairFiles, PemError, certificates};
use crate::tls::socket::TlsSocket;
use crate::tls::trust::Trust;
use crate::tls::{HTTP_1_1, provider, words};

/// What the settings say of TLS to origins.
#[derive(Debug, Clone, Default)]
pub struct OriginTlsFiles {
    /// The authorities to believe in place of the system's, and certificates of origins to believe themselves.
    pub authorities: Option<PathBuf>,
    /// What the gateway shows when an origin asks for a certificate.
    pub client: Option<PairFiles>,
    /// The name to ask for, and to find in the certificate, in place of the host of the address.
    pub server_name: Option<ServerName<'static>>,
}

/// Speaks TLS to origins. Clones share it, with its memory of sessions to resume.
#[derive(Clone)]
pub struct OriginTls {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

impl OriginTls {
    /// Reads the files.
    ///
    /// # Errors
    /// The file that cannot be used, and why.
    pub fn load(files: &OriginTlsFiles) -> Result<Self, PemError> {
        let provider = provider();
        let (roots, pinned) = match &files.authorities {
            Some(file) => {
                let named = certificates(file)?;
                (authorities(file, &named)?, named)
            }
            None => (authorities_of_the_system()?, Vec::new()),
        };
        let trust = Trust::new(roots, pinned, Arc::clone(&provider))
            .map_err(|problem| PemError::new(Path::new("TLS"), problem))?;
        let client = match &files.client {
            Some(pair) => Some(pair.parse(&pair.read()?, &provider)?),
            None => None,
        };
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        // The provider is ours, and it has what both versions need.
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
        })
    }

    /// The handshake with the origin at `host` and `port`, over a connection to it.
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

/// Why there is no TLS with the origin at `authority`.
#[derive(Debug)]
pub(crate) enum HandshakeFault {
    /// It showed a certificate that is not believed.
    Untrusted { authority: String, cause: String },
    /// There was no agreement.
    Failed { authority: String, cause: String },
}

impl fmt::Debug for OriginTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginTls")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

/// The host of an address as TLS names it; brackets around an IPv6 address are the address's, not the name's.
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

/// One certificate that cannot be read does not make the others less right.
fn authorities_of_the_system() -> Result<RootCertStore, PemError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(PemError::new(
            Path::new("/etc/ssl/certs"),
            "the system has no certificate authorities: set origin.tls.ca_file",
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
