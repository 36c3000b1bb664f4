//! The way to the origin.

pub mod connect;
pub mod origin_stream;
pub mod pool;
