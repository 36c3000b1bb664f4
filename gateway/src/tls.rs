//! TLS on both sides, with rustls: versions, certificates and trust. Opens no connection and
//! decides no request.

pub mod expiry;
pub mod origin;
pub mod pem;
pub mod socket;
mod trust;
pub mod words;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};

/// ALPN protocol of HTTP/1.1 (RFC 7301).
pub(crate) const HTTP_1_1: &[u8] = b"http/1.1";

/// Cryptography provider of the whole program.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Installs [`provider`] as the default of the process; libraries that look for a default panic
/// without one. Call it first in `main`.
pub fn install_provider() {
    // An error means that one is installed already.
    let _ = ring::default_provider().install_default();
}
