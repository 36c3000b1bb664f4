//! Postern's gateway: authenticates API keys and proxies requests to the origin, with proof that
//! they came through.
//!
//! [`extend`] is the interface for programs that add rules of their own, and the only promise of
//! this crate: the other modules are public so that tests reach them, and change without notice.
//!
//! [`pipeline`] is the life of a request and the place to start reading; [`app`] wires the parts
//! together.

pub mod admin;
pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod control;
#[cfg(test)]
mod documents;
pub mod extend;
pub mod front;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod hash;
pub mod http;
pub mod import;
pub mod keys;
pub mod leaks;
pub mod limits;
mod memory;
pub mod panics;
pub mod pipeline;
pub mod proxy;
pub mod reload;
pub mod routes;
pub mod rules;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod usage;
pub mod views;
mod wire;
