//! The domain of keys: pure, without I/O and without HTTP.
