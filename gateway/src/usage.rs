//! Usage on its way to the store: counted by the workers, collected and written by the control plane.
//!
//! A worker counts in memory of its own and hands the counts over some times a second; no request waits for anything.
//! While the store is away, counts add up by key and hour.

pub mod ledger;
pub mod meter;

use std::collections::HashMap;

use crate::keys::{Hour, KeyId, KeyUsage, UnixMillis, UsageCounts};

/// Usage by key and hour.
#[derive(Debug, Default)]
pub struct UsagePage(HashMap<(KeyId, Hour), Used>);

/// What came together for one key in one hour.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    counts: UsageCounts,
    last_used_at: Option<UnixMillis>,
}

impl UsagePage {
    /// Adds up. Allocates nothing for a key and an hour that are there.
    pub fn add(&mut self, more: &KeyUsage) {
        let used = self.0.entry((more.key, more.hour)).or_default();
        used.counts += more.counts;
        used.last_used_at = used.last_used_at.max(more.last_used_at);
    }

    /// How many pairs of key and hour there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this key and hour are there.
    #[must_use]
    pub fn has(&self, key: KeyId, hour: Hour) -> bool {
        self.0.contains_key(&(key, hour))
    }

    /// Everything, by key and hour: who writes in the same order does not lock another out.
    #[must_use]
    pub fn into_sorted(self) -> Vec<KeyUsage> {
        let mut rows: Vec<KeyUsage> = self.into_iter().collect();
        rows.sort_unstable_by_key(|row| (row.key, row.hour));
        rows
    }

    /// The page, leaving an empty one with room for as much.
    fn take(&mut self) -> Self {
        let next = HashMap::with_capacity(self.0.len());
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
