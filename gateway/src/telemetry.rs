//! What operators see of the requests.

pub mod access_log;
pub mod metrics;
pub mod tally;
