//! Certificates for one test, and relays that put TLS on either end of a plain connection.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use postern_gateway::tls::provider;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::client::DEADLINE;

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        // No two of one name: who issued a certificate is found by that first.
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(
            DnType::CommonName,
            format!("authority {}", COUNT.fetch_add(1, Ordering::SeqCst)),
        );
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names and addresses, of servers and of clients.
    pub(crate) fn issue(&self, names: &[&str]) -> Pair {
        self.issue_until(names, 2100)
    }

    /// One that ends with the beginning of `year`.
    pub(crate) fn issue_until(&self, names: &[&str], year: i32) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        Pair {
            certificate: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// A certificate of an authority's own, as `openssl req -x509` makes one (CA:TRUE), until the beginning of `year`.
    pub(crate) fn self_signed(names: &[&str], year: i32) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        Pair {
            certificate: params.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// A certificate that ends `seconds` from now.
    pub(crate) fn issue_for_seconds(&self, name: &str, seconds: i64) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = time::OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
        let key = KeyPair::generate().unwrap();
        Pair {
            certificate: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    /// A client that believes this authority.
    pub(crate) fn client(&self) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap();
        builder
            .with_root_certificates(self.roots())
            .with_no_client_auth()
    }

    /// A server with `pair` that asks its clients for a certificate of this authority.
    pub(crate) fn demanding_server(&self, pair: &Pair) -> ServerConfig {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()), provider())
                .build()
                .unwrap();
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap();
        let (chain, key) = pair.parsed();
        builder
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .unwrap()
    }
}

impl Pair {
    /// Writes `name.crt` and `name.key`.
    pub(crate) fn write(&self, directory: &Path, name: &str) {
        std::fs::write(directory.join(format!("{name}.crt")), &self.certificate).unwrap();
        std::fs::write(directory.join(format!("{name}.key")), &self.key).unwrap();
    }

    pub(crate) fn server(&self) -> ServerConfig {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap();
        let (chain, key) = self.parsed();
        builder
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap()
    }

    fn parsed(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes())
            .map(Result::unwrap)
            .collect();
        (
            chain,
            PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap(),
        )
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        self.parsed().0[0].to_vec()
    }
}

/// A relay that runs until the test ends.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    handshakes: Arc<AtomicUsize>,
    names: Arc<Mutex<Vec<Option<String>>>>,
}

impl Relay {
    /// TLS outside, plain inside: an HTTPS origin made of the plain one at `inside`.
    pub(crate) fn tls_server(config: ServerConfig, inside: SocketAddr) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::start(async move |io, handshakes, names| {
            let Ok(mut outer) = acceptor.accept(io).await else {
                return;
            };
            handshakes.fetch_add(1, Ordering::SeqCst);
            names
                .lock()
                .unwrap()
                .push(outer.get_ref().1.server_name().map(str::to_owned));
            let mut inner = TcpStream::connect(inside).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
            let _ = outer.shutdown().await;
        })
    }

    /// Plain outside, TLS inside: for a plain client of the TLS listener at `inside`.
    pub(crate) fn tls_client(config: ClientConfig, name: &'static str, inside: SocketAddr) -> Self {
        let connector = TlsConnector::from(Arc::new(config));
        Self::start(async move |mut io: TcpStream, handshakes, _| {
            let tcp = TcpStream::connect(inside).await.unwrap();
            let Ok(mut inner) = connector
                .connect(ServerName::try_from(name).unwrap(), tcp)
                .await
            else {
                return;
            };
            handshakes.fetch_add(1, Ordering::SeqCst);
            let _ = tokio::io::copy_bidirectional(&mut io, &mut inner).await;
        })
    }

    pub(crate) fn handshakes(&self) -> usize {
        self.handshakes.load(Ordering::SeqCst)
    }

    /// The names that clients asked for.
    pub(crate) fn names(&self) -> Vec<Option<String>> {
        self.names.lock().unwrap().clone()
    }

    fn start<F>(serve: F) -> Self
    where
        F: AsyncFn(TcpStream, &AtomicUsize, &Mutex<Vec<Option<String>>>) + Send + 'static,
    {
        let (handshakes, names) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(Mutex::new(Vec::new())),
        );
        let (count, seen) = (Arc::clone(&handshakes), Arc::clone(&names));
        let (bound, address) = mpsc::channel();
        std::thread::spawn(move || {
            let serve = std::rc::Rc::new(serve);
            actix_rt::System::new().block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                bound.send(listener.local_addr().unwrap()).unwrap();
                while let Ok((io, _)) = listener.accept().await {
                    let (serve, count, seen) =
                        (serve.clone(), Arc::clone(&count), Arc::clone(&seen));
                    actix_rt::spawn(async move { serve(io, &count, &seen).await });
                }
            });
        });
        Self {
            address: address.recv_timeout(DEADLINE).unwrap(),
            handshakes,
            names,
        }
    }
}

/// The certificate that the listener at `address` shows to who asks for `name`.
pub(crate) fn shown(
    authority: &Authority,
    address: SocketAddr,
    name: &'static str,
) -> Result<Vec<u8>, String> {
    let name = ServerName::try_from(name).unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(authority.client()), name).unwrap();
    let mut socket = std::net::TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    while connection.is_handshaking() {
        connection
            .complete_io(&mut socket)
            .map_err(|error| error.to_string())?;
    }
    Ok(connection.peer_certificates().unwrap()[0].to_vec())
}
