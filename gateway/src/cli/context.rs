//! [`Context`]: what a command on the store works with.

use crate::cli::output::Streams;
use crate::keys::Prefix;
use crate::store::{Stamp, Store};

/// What a command on the store works with.
pub struct Context<'c> {
    /// The store.
    pub store: &'c Store,
    /// What keys begin with.
    pub prefix: &'c Prefix,
    /// Who runs the command, and when it began.
    pub stamp: &'c Stamp,
    /// Where it writes.
    pub streams: Streams<'c>,
}
