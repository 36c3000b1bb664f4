//! The way to the origin.

pub mod origin_stream;
