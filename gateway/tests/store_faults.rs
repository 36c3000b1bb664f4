//! What becomes of the store when its database fails: each fault is provoked on the real one.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on may say so by stopping"
)]

#[path = "store_contract/feed.rs"]
#[expect(
    dead_code,
    reason = "its cases run with the contract; only `Following` is needed here"
)]
mod feed;
#[path = "store_contract/making.rs"]
#[expect(dead_code, reason = "made for all suites")]
mod making;
#[path = "databases/postgres.rs"]
mod postgres;

mod store_faults {
    pub(crate) mod codes;
    pub(crate) mod connection;
    pub(crate) mod file;
    pub(crate) mod proxy;
    pub(crate) mod reads;
    pub(crate) mod server;
}
