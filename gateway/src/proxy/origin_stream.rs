//! The guarded origin side.
