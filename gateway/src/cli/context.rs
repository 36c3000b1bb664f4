//! [`Context`]: the environment of a command on the store.

use crate::cli::output::Streams;
use crate::keys::Prefix;
use crate::store::{Stamp, Store};

/// Environment of a command on the store.
pub struct Context<'c> {
    /// Store handle.
    pub store: &'c Store,
    /// Prefix of keys.
    pub prefix: &'c Prefix,
    /// Names of the routes of these settings; empty if they have none.
    pub routes: &'c [String],
    /// Actor and start time of the command.
    pub stamp: &'c Stamp,
    /// Output streams.
    pub streams: Streams<'c>,
}
