//! Hashes for tables whose keys no client chooses, so that nobody can provoke collisions: what only
//! the configuration fills, and random ids.

use std::hash::Hasher;

/// FNV-1a with 64 bits.
#[must_use]
pub(crate) fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Hashes random ids and what stands beside them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IdHasher(u64);

impl IdHasher {
    /// Bits of the golden ratio.
    const MASK: u64 = 0x9e37_79b9_7f4a_7c15;

    fn add(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * u128::from(Self::MASK);
        self.0 = (product ^ (product >> u64::BITS)) as u64;
    }
}

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.add(u64::from_le_bytes(*word));
        }
        for byte in rest {
            self.add((*byte).into());
        }
    }

    fn write_i64(&mut self, number: i64) {
        self.add(number.cast_unsigned());
    }

    fn write_usize(&mut self, number: usize) {
        self.add(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{BuildHasher as _, BuildHasherDefault};

    use super::*;
    use crate::keys::{Hour, KeyId, UnixMillis};

    #[test]
    fn ids_and_hours_are_spread_over_the_bits_that_tables_use() {
        let hasher = BuildHasherDefault::<IdHasher>::default();
        let ids = KeyId::generate_run(1000).unwrap();
        let hours = (0..4).map(|hour| Hour::of(UnixMillis(hour * Hour::MILLIS)));
        let pairs: Vec<_> = hours
            .flat_map(|hour| ids.iter().map(move |id| (*id, hour)))
            .collect();
        let hashes: Vec<u64> = pairs.iter().map(|pair| hasher.hash_one(pair)).collect();
        for (low, high) in [(0, 16), (48, 64)] {
            let part = |hash: &u64| hash >> low & ((1 << (high - low)) - 1);
            let distinct: HashSet<u64> = hashes.iter().map(part).collect();
            // 4,000 random numbers of 16 bits have some 3,880 values.
            assert!(
                distinct.len() > 3700,
                "{} of bits {low}..{high}",
                distinct.len()
            );
        }
    }
}
