//! Common ground of gateway and origin: the header names between them, the shared secret, and its
//! comparison.
//!
//! Pure code without HTTP server, runtime or I/O, so a backend in any framework can use it.

pub mod compare;
pub mod headers;
pub mod secret;
#[cfg(feature = "signals")]
pub mod signals;
pub mod source;

pub use compare::AcceptedSecrets;
pub use secret::{Secret, SecretError};
