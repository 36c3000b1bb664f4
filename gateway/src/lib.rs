//! Postern's gateway: authenticates API keys and proxies to the origin with a proof that the request came through.

pub mod cli;
pub mod http;
pub mod keys;
pub mod proxy;
pub mod store;
mod wire;
