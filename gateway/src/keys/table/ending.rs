//! [`Ending`]: the number of keys that expire soon, counted periodically and read at any time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::keys::table::key_record::KeyRecord;
use crate::keys::{KeyState, KeyTable, UnixMillis};

/// Time windows for keys that expire soon, with their names.
pub const ENDING_WITHIN: [(&str, Duration); 3] = [
    ("1d", Duration::from_hours(24)),
    ("7d", Duration::from_hours(7 * 24)),
    ("30d", Duration::from_hours(30 * 24)),
];

/// Placeholder for a number not counted yet.
const UNKNOWN: usize = usize::MAX;

/// Results of the last count.
#[derive(Debug)]
pub(super) struct Ending([AtomicUsize; ENDING_WITHIN.len()]);

impl Default for Ending {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicUsize::new(UNKNOWN)))
    }
}

impl KeyTable {
    /// Counts the active keys that expire soon at `now`. Scans every key, so only the control plane
    /// calls it; nothing waits for the result.
    pub fn count_ending(&self, now: UnixMillis) {
        let ends = ENDING_WITHIN.map(|(_, within)| now.after(within));
        let mut counts = [0; ENDING_WITHIN.len()];
        self.keys.for_each(|key: &KeyRecord| {
            let Some(end) = key.expires_at().filter(|end| *end > now) else {
                return;
            };
            if key.state() != KeyState::Active
                || self.consumers.find(key.consumer(), |_| ()).is_none()
            {
                return;
            }
            for (count, until) in counts.iter_mut().zip(ends) {
                *count += usize::from(end <= until);
            }
        });
        for (number, count) in self.ending.0.iter().zip(counts) {
            number.store(count, Ordering::Relaxed);
        }
    }

    /// Returns the last count of active keys that expire within each of [`ENDING_WITHIN`]; empty
    /// before the first count.
    pub fn ending(&self) -> impl Iterator<Item = (&'static str, usize)> {
        ENDING_WITHIN
            .iter()
            .zip(&self.ending.0)
            .map(|((name, _), number)| (*name, number.load(Ordering::Relaxed)))
            .filter(|(_, number)| *number != UNKNOWN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::table::Change;
    use crate::keys::{Consumer, ConsumerId, KeyDigest, KeyEntry, KeyId, UnixMillis};

    #[test]
    fn good_keys_that_end_within_a_time_are_counted() {
        let table = KeyTable::new();
        assert_eq!(table.ending().count(), 0, "they were not counted yet");
        let consumer = Consumer {
            id: ConsumerId::generate().unwrap(),
            bucket: "default".parse().unwrap(),
            name: "acme".parse().unwrap(),
            custom_id: None,
            metadata: None,
            scopes: "".parse().unwrap(),
            allowed_ips: "".parse().unwrap(),
            plan: None,
            allowance: crate::keys::Allowance::default(),
            tags: crate::keys::Tags::default(),
            created_at: UnixMillis(0),
        };
        table.apply(Change::Consumer(consumer.clone())).unwrap();
        let day = 86_400_000;
        let now = UnixMillis(1_000 * day);
        for (index, (state, days)) in [
            (KeyState::Active, Some(-1)),
            (KeyState::Active, Some(0)),
            (KeyState::Active, Some(1)),
            (KeyState::Active, Some(7)),
            (KeyState::Active, Some(8)),
            (KeyState::Active, Some(31)),
            (KeyState::Active, None),
            (KeyState::Disabled, Some(1)),
            (KeyState::Revoked, Some(1)),
        ]
        .into_iter()
        .enumerate()
        {
            let entry = KeyEntry {
                digest: KeyDigest::of(&[u8::try_from(index).unwrap()]),
                id: KeyId::generate().unwrap(),
                consumer: consumer.id,
                state,
                expires_at: days.map(|days| UnixMillis(now.0 + days * day)),
                deprecated_at: None,
                scopes: None,
                allowance: crate::keys::Allowance::default(),
                restrictions: crate::keys::Restrictions::default(),
                chain: None,
            };
            table.apply(Change::Key(entry)).unwrap();
        }
        table.count_ending(now);
        let counted: Vec<_> = table.ending().collect();
        assert_eq!(counted, [("1d", 1), ("7d", 2), ("30d", 3)]);
        table.apply(Change::ConsumerRemoved(consumer.id)).unwrap();
        table.count_ending(now);
        assert!(table.ending().all(|(_, count)| count == 0));
    }
}
