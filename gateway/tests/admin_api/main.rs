//! The admin API as its users meet it: a real gateway with a real store, and real sockets.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on says so by stopping"
)]

mod bad_input;
mod brake;
#[path = "../gateway/client.rs"]
#[allow(
    dead_code,
    reason = "shared with the gateway's tests, which use all of it"
)]
mod client;
mod crash;
mod creation;
mod document;
mod every_kind;
mod forward_auth;
mod guards;
mod history;
mod key_restrictions;
mod key_rules;
mod leaks;
#[path = "../gateway/library_text.rs"]
mod library_text;
mod life;
mod limits;
mod lists;
mod one_rule;
mod plans;
mod quotas;
mod rig;
mod roll;
#[path = "../gateway/running.rs"]
mod running;
mod verify;
