//! The guarded client side.
