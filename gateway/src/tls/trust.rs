//! [`Trust`]: verification of origin certificates, by a CA in the file or by a pinned certificate.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use webpki::{EndEntityCert, KeyUsage};

/// Verifies the certificate of an origin.
///
/// webpki rejects a server certificate with CA:TRUE, the default of `openssl req -x509`, and
/// demands an issuer even for a certificate that the operator named. Like curl, Go and OpenSSL,
/// this accepts a certificate that is byte for byte in the file: its issuer is ignored, its dates
/// and names are checked.
#[derive(Debug)]
pub(crate) struct Trust {
    issued: Arc<WebPkiServerVerifier>,
    pinned: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Trust {
    /// Trusts what `roots` issued, and each of `pinned`.
    ///
    /// # Errors
    /// No root is given.
    pub(crate) fn new(
        roots: RootCertStore,
        pinned: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let issued =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| error.to_string())?;
        Ok(Self {
            issued,
            pinned,
            provider,
        })
    }

    /// Checks dates and names of a pinned certificate.
    fn verify_pinned(
        &self,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = EndEntityCert::try_from(certificate).map_err(other)?;
        // webpki checks the dates before the issuer, which is expected to be unknown.
        let checked = parsed.verify_for_usage(
            self.provider.signature_verification_algorithms.all,
            &[],
            &[],
            now,
            KeyUsage::server_auth(),
            None,
            None,
        );
        match checked.err() {
            None | Some(webpki::Error::UnknownIssuer | webpki::Error::CaUsedAsEndEntity) => {}
            Some(webpki::Error::CertExpired { time, not_after }) => {
                return Err(CertificateError::ExpiredContext { time, not_after }.into());
            }
            Some(webpki::Error::CertNotValidYet { time, not_before }) => {
                return Err(CertificateError::NotValidYetContext { time, not_before }.into());
            }
            Some(why) => return Err(other(why)),
        }
        verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        Ok(ServerCertVerified::assertion())
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.pinned.iter().any(|pinned| pinned == end_entity) {
            return self.verify_pinned(end_entity, server_name, now);
        }
        self.issued
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.issued.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.issued.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.issued.supported_verify_schemes()
    }
}

fn other(why: webpki::Error) -> Error {
    CertificateError::Other(OtherError(Arc::new(why))).into()
}
