//! The edge towards clients.

pub mod client_stream;
