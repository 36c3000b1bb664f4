//! TLS on both sides, with rustls: what is spoken, with which certificates, and who is believed. It opens no connections and
//! decides no request.

pub mod expiry;
pub mod origin;
pub mod pem;
pub mod socket;
mod trust;
pub mod words;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};

/// The only application protocol here, named in the handshake (ALPN, RFC 7301).
pub(crate) const HTTP_1_1: &[u8] = b"http/1.1";

/// The one provider of cryptography of this program.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Makes [`provider`] that of the process, for libraries that look for one there and panic when they find none, or two. First
/// thing in `main`.
pub fn install_provider() {
    // An error means that there is one already.
    let _ = ring::default_provider().install_default();
}
