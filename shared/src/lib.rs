//! What gateway and origin must agree on: the names of the headers between them, the secret that proves a request
//! came through the gateway, and how that secret is compared.
//!
//! Pure code: it knows no HTTP server and no runtime and does no I/O, so a backend in any framework can use it.

pub mod compare;
pub mod headers;
pub mod secret;
#[cfg(feature = "signals")]
pub mod signals;
pub mod source;

pub use compare::AcceptedSecrets;
pub use secret::{Secret, SecretError};
