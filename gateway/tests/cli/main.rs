//! Commands against a real store: what they print, where, and how they end.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on may say so by stopping"
)]

mod buckets;
mod consumers;
mod history;
mod import;
mod keys;
#[path = "../gateway/library_text.rs"]
mod library_text;
mod plans;
mod programs;
mod rig;
