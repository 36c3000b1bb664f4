//! The gateway as its users meet it: real sockets, a real store, and an origin that records what arrives.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so by stopping")]

mod bad_input;
mod certificates;
mod client;
mod commands;
mod documentation;
mod failures;
mod headers;
mod lifecycle;
mod origin;
mod rig;
mod story;
mod streaming;
mod tls;
mod upstreams;
mod websocket;
mod wire;
