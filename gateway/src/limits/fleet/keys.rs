//! Names in the server: a hash for each limit, subject and window, with a field for each gateway.

use std::fmt::Write as _;
use std::time::Duration;

use crate::limits::memory::NamedTable;

/// Beginning of every key, with the version of what is stored.
const PREFIX: &str = "postern:1:";

/// Time that a key outlives the windows that it counts for: clocks differ.
const SLACK: Duration = Duration::from_secs(10);

/// Key of the count of `subject` by the limit of `table` in a window. The part in braces, by which
/// a cluster chooses the node, is the same for all counts of a subject.
pub(super) fn count(table: &NamedTable, subject: u64, window: u64) -> String {
    let mut key = String::with_capacity(80);
    let seconds = table.window.as_secs();
    // Writing to a text does not fail.
    let _ = write!(
        key,
        "{PREFIX}{{{subject:016x}}}:{}:{seconds}:{window}",
        table.name
    );
    key
}

/// Key of what is granted of the exact limit of `table` to `subject`.
pub(super) fn exact(table: &NamedTable, subject: u64) -> String {
    let seconds = table.window.as_secs();
    format!("{PREFIX}{{{subject:016x}}}:{}:{seconds}:exact", table.name)
}

/// Key that `gateway` writes to find out whether the server takes writes.
pub(super) fn probe(gateway: &str) -> String {
    format!("{PREFIX}probe:{gateway}")
}

/// Lifetime of the count of a window, in milliseconds: it matters until the next one ends.
pub(super) fn lifetime(window: Duration) -> u64 {
    let lifetime = window * 2 + SLACK;
    u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX)
}
