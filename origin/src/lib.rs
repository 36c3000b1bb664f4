//! The origin side.
