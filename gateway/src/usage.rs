//! Usage counts on their way to the store: workers count, the control plane collects and writes.
//!
//! A worker counts in its own memory and hands over several times a second; no request waits. While
//! the store is unreachable, counts accumulate by key and hour.

pub mod adoption;
pub mod ledger;
pub mod meter;
pub mod quota_use;

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use crate::hash::IdHasher;
use crate::keys::{Hour, KeyId, KeyUsage, UnixMillis, UsageCounts};

/// Usage by key and hour.
#[derive(Debug, Default)]
pub struct UsagePage(HashMap<(KeyId, Hour), Used, BuildHasherDefault<IdHasher>>);

/// Usage of one key in one hour.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    counts: UsageCounts,
    last_used_at: Option<UnixMillis>,
}

impl UsagePage {
    /// Adds usage. Allocates nothing for an existing key and hour.
    pub fn add(&mut self, more: &KeyUsage) {
        let used = self.0.entry((more.key, more.hour)).or_default();
        used.counts += more.counts;
        used.last_used_at = used.last_used_at.max(more.last_used_at);
    }

    /// Number of pairs of key and hour.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no usage.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this key and hour are present.
    #[must_use]
    pub fn has(&self, key: KeyId, hour: Hour) -> bool {
        self.0.contains_key(&(key, hour))
    }

    /// Returns all usage ordered by key and hour: a common lock order of all writers avoids
    /// deadlocks.
    #[must_use]
    pub fn into_sorted(self) -> Vec<KeyUsage> {
        let mut rows: Vec<KeyUsage> = self.into_iter().collect();
        rows.sort_unstable_by_key(|row| (row.key, row.hour));
        rows
    }

    /// Takes the page and leaves an empty one of the same capacity.
    fn take(&mut self) -> Self {
        let next = HashMap::with_capacity_and_hasher(self.0.len(), BuildHasherDefault::default());
        Self(std::mem::replace(&mut self.0, next))
    }

    fn into_iter(self) -> impl Iterator<Item = KeyUsage> {
        self.0.into_iter().map(
            |(
                (key, hour),
                Used {
                    counts,
                    last_used_at,
                },
            )| KeyUsage {
                key,
                hour,
                counts,
                last_used_at,
            },
        )
    }
}
