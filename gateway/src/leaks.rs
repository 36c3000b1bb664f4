//! Reports of keys that leaked, as others send them.

pub mod github;
pub mod notice;
pub mod place;
pub mod public_keys;
