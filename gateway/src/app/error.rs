//! Start-up errors.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

use crate::control::ControlError;

/// The gateway did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Binding an address failed.
    #[error("cannot listen on {address} ({setting}): {cause}")]
    Listen {
        /// Address.
        address: SocketAddr,
        /// Setting that names it.
        setting: &'static str,
        /// System error.
        cause: io::Error,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The shared secret does not fit a header; its type rules this out.
    #[error("the shared secret does not fit a header")]
    Secret,
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The system has no thread or no randomness.
    #[error("the system refused a thread or randomness: {0}")]
    System(#[from] io::Error),
}
