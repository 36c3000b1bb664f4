//! The command line.

pub mod consumers;
pub mod error;
pub mod keys;
pub mod output;
