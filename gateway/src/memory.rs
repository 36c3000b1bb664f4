//! Requests to the allocator beyond memory.

use std::hint::black_box;

/// Time that mimalloc keeps freed memory before it may return it to the system, with a margin.
pub(crate) const PURGE_DELAY: std::time::Duration = std::time::Duration::from_millis(1_500);

/// Larger than any freed block that mimalloc keeps for reuse.
const LARGE_BYTES: usize = 32 << 20;

/// Returns memory freed before [`PURGE_DELAY`] to the system. mimalloc does so only at the next
/// allocation or free of a certain size; an idle process would keep its peak memory for ever.
pub(crate) fn purge() {
    // Never written to, so it takes no memory itself.
    drop(black_box(Vec::<u8>::with_capacity(LARGE_BYTES)));
}
