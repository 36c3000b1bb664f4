//! Reports of leaked keys from other parties.

pub mod github;
pub mod notice;
pub mod place;
pub mod public_keys;
