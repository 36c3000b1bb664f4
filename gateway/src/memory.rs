//! What the allocator is asked for beyond memory.

use std::hint::black_box;

/// How long mimalloc keeps what was freed before it may give it back to the system, and something on top.
pub(crate) const KEPT_FOR: std::time::Duration = std::time::Duration::from_millis(1_500);

/// Larger than what mimalloc keeps at hand when it is freed.
const LARGE_BYTES: usize = 32 << 20;

/// Has memory that was freed [`KEPT_FOR`] ago go back to the system. mimalloc does that only when it is next asked for, or
/// gets back, a piece of some size; a process without requests would keep what it needed for a while for ever.
pub(crate) fn give_back() {
    // Nothing is written to it, so it takes none itself.
    drop(black_box(Vec::<u8>::with_capacity(LARGE_BYTES)));
}
