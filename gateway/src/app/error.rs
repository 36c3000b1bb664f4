//! Why the gateway did not start.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

use crate::control::ControlError;

/// Why the gateway did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({setting}): {cause}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The setting that names it.
        setting: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The shared secret does not fit a header; its type rules this out.
    #[error("the shared secret does not fit a header")]
    Secret,
    /// TLS cannot be set up.
    #[error("cannot set TLS up: {0}")]
    Tls(#[from] rustls::Error),
    /// The system has no thread or no randomness to give.
    #[error("the system refused what every process needs: {0}")]
    System(#[from] io::Error),
}
