//! Logs and metrics.

pub mod access_log;
pub mod log_writer;
pub mod metrics;
pub mod process_log;
pub mod tally;
