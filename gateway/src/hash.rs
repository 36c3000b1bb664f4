//! A hash for tables that only the configuration fills, so that nobody can provoke collisions.

/// FNV-1a with 64 bits.
#[must_use]
pub(crate) fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
