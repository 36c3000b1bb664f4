//! Limits on what callers may do. Decides in memory; knows keys and time, but neither HTTP nor
//! settings.

pub mod brake;
pub mod network;
pub mod period;
