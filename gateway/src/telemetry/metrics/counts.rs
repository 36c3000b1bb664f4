//! Counters with one writer and many readers, and the macro that declares them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counters of one family: one per label value, or a single one. A single thread adds, so a plain
/// load and store suffice without a locked instruction.
#[derive(Debug)]
pub(crate) struct Counts<const N: usize> {
    values: &'static [&'static str; N],
    numbers: [AtomicU64; N],
}

impl<const N: usize> Counts<N> {
    pub(crate) fn new(values: &'static [&'static str; N]) -> Self {
        Self {
            values,
            numbers: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Adds to the counter at `index`, if it exists.
    pub(crate) fn add_at(&self, index: usize, more: u64) {
        if let Some(number) = self.numbers.get(index) {
            let sum = number.load(Ordering::Relaxed).wrapping_add(more);
            number.store(sum, Ordering::Relaxed);
        }
    }

    /// Subtracts from a gauge.
    pub(crate) fn take_at(&self, index: usize, less: u64) {
        self.add_at(index, less.wrapping_neg());
    }

    /// Counts one event for the label value `value`, if it exists.
    pub(crate) fn count(&self, value: &str) {
        if let Some(index) = self.values.iter().position(|known| *known == value) {
            self.add_at(index, 1);
        }
    }

    /// Adds these counters to `sums`.
    pub(crate) fn add_to(&self, sums: &mut [u64; N]) {
        for (sum, number) in sums.iter_mut().zip(&self.numbers) {
            *sum = sum.wrapping_add(number.load(Ordering::Relaxed));
        }
    }
}

impl Counts<1> {
    /// Adds to the single counter.
    pub(crate) fn add(&self, more: u64) {
        self.add_at(0, more);
    }
}

/// Upper bounds of the duration buckets in microseconds. A further bucket holds what is above the
/// last.
const BOUNDS: [u64; 15] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000,
];
/// Cells of a histogram: the bounds as written in seconds, the overflow bucket, and the sum in
/// microseconds.
pub(crate) const BUCKETS: [&str; BOUNDS.len() + 2] = [
    "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1",
    "2.5", "5", "10", "30", "+Inf", "",
];

impl Counts<{ BUCKETS.len() }> {
    /// Counts a duration in its bucket. Buckets are not cumulative, so that an observation is two
    /// additions.
    pub(crate) fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.add_at(BOUNDS.partition_point(|bound| *bound < micros), 1);
        self.add_at(BUCKETS.len() - 1, micros);
    }
}

/// Generates a struct of counters, one line per family: field, kind, name, label with its values,
/// and help.
macro_rules! counts {
    ($(#[$meta:meta])* $Name:ident {
        $($field:ident: $kind:ident $name:literal $([$label:literal: $values:expr])? $help:literal;)+
    }) => {
        $(#[$meta])*
        #[derive(Debug)]
        // On cache lines that no other thread writes.
        #[repr(align(64))]
        pub(crate) struct $Name {
            $(pub(crate) $field: Counts<{ counts!(@values $($values)?).len() }>,)+
        }

        impl $Name {
            fn new() -> Self {
                Self {
                    $($field: Counts::new(&counts!(@values $($values)?)),)+
                }
            }

            /// Writes the families as sums per group, labelled with the group.
            fn write(page: &mut Page, groups: &[(Option<Label<'_>>, Vec<&Self>)]) {
                $(
                    let mut family = page.family($name, Kind::$kind, $help);
                    for (group, counts) in groups {
                        let mut sums = [0; counts!(@values $($values)?).len()];
                        for counts in counts {
                            counts.$field.add_to(&mut sums);
                        }
                        let label = None $(.or(Some($label)))?;
                        family.sums(*group, label, &counts!(@values $($values)?), &sums);
                    }
                )+
            }
        }
    };
    (@values) => { [""] };
    (@values $values:expr) => { $values };
}
pub(super) use counts;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_is_in_the_first_bucket_that_is_not_below_it() {
        for (micros, bucket) in [
            (0, 0),
            (500, 0),
            (501, 1),
            (1_000_000, 10),
            (30_000_000, 14),
            (30_000_001, 15),
        ] {
            let histogram = Counts::new(&BUCKETS);
            histogram.observe(Duration::from_micros(micros));
            let mut sums = [0; BUCKETS.len()];
            histogram.add_to(&mut sums);
            histogram.add_to(&mut sums);
            let mut wanted = [0; BUCKETS.len()];
            (wanted[bucket], wanted[BUCKETS.len() - 1]) = (2, 2 * micros);
            assert_eq!(sums, wanted, "{micros}");
        }
    }

    #[test]
    fn bounds_are_written_as_they_are() {
        for (micros, text) in BOUNDS.into_iter().zip(BUCKETS) {
            assert_eq!(text.parse::<f64>().unwrap() * 1e6, micros as f64);
        }
    }

    #[test]
    fn what_no_label_has_is_not_counted_and_what_is_taken_off_is_gone() {
        let counts = Counts::new(&["a", "b"]);
        for value in ["b", "c", "", "b"] {
            counts.count(value);
        }
        counts.add_at(2, 1);
        counts.add_at(0, 5);
        counts.take_at(0, 3);
        let mut sums = [0; 2];
        counts.add_to(&mut sums);
        assert_eq!(sums, [2, 2]);
    }
}
