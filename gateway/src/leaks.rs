//! Reports of keys that leaked, as others send them.

pub mod github;
pub mod place;
pub mod public_keys;
