//! Numbers that one thread changes and any thread reads.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows. One thread adds to it, so a load and a store do, which the processor need not lock.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(more),
            Ordering::Relaxed,
        );
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that grows and shrinks; again one thread changes it.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicI64);

impl Gauge {
    pub(crate) fn change(&self, by: i64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(by),
            Ordering::Relaxed,
        );
    }

    pub(crate) fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the buckets of durations, in microseconds, and as they are written, in seconds. What is above the last one
/// is in a bucket of its own.
pub(crate) const BOUNDS: [(u64, &str); 15] = [
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (5_000_000, "5"),
    (10_000_000, "10"),
    (30_000_000, "30"),
];

/// How long something took, in buckets.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// Not cumulated, so that an observation is two additions.
    buckets: [Counter; BOUNDS.len() + 1],
    micros: Counter,
}

/// What several histograms hold together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) buckets: [u64; BOUNDS.len() + 1],
    pub(crate) micros: u64,
}

impl Histogram {
    pub(crate) fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self
            .buckets
            .get(BOUNDS.partition_point(|(bound, _)| *bound < micros))
        {
            bucket.add(1);
        }
        self.micros.add(micros);
    }

    pub(crate) fn add_to(&self, observed: &mut Observed) {
        for (sum, bucket) in observed.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.value();
        }
        observed.micros = observed.micros.wrapping_add(self.micros.value());
    }
}

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
            let histogram = Histogram::default();
            histogram.observe(Duration::from_micros(micros));
            let mut observed = Observed::default();
            histogram.add_to(&mut observed);
            histogram.add_to(&mut observed);
            assert_eq!(
                observed.buckets.iter().position(|count| *count == 2),
                Some(bucket),
                "{micros}"
            );
            assert_eq!(
                (observed.buckets.iter().sum::<u64>(), observed.micros),
                (2, 2 * micros)
            );
        }
    }

    #[test]
    fn bounds_are_written_as_they_are() {
        for (micros, text) in BOUNDS {
            assert_eq!(text.parse::<f64>().unwrap() * 1e6, micros as f64);
        }
    }
}
