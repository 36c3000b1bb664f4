//! Parsers of import files (CSV, JSON lines, Kong's declarative file, nginx maps), line by line.
//! Never writes to the store.

pub(crate) mod column;
pub(crate) mod csv;
pub mod fields;
pub mod format;
pub(crate) mod jsonl;
pub(crate) mod kong;
pub(crate) mod line;
pub(crate) mod nginx_map;
pub(crate) mod plans;
pub(crate) mod reading;
pub(crate) mod seen;
pub(crate) mod spool;
