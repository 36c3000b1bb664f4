//! Cells against plain models of what they admit.

use proptest::prelude::*;

use super::*;
use crate::limits::meter::{Algorithm, Level, Meter};

proptest! {
    /// The counter never admits what the exact sum over the previous and the current window, as
    /// promised, does not have room for; and denies only when it has none.
    #[test]
    fn the_sliding_counter_admits_what_its_oracle_admits(
        steps in proptest::collection::vec((0_u64..40_000, 1_u64..8), 1..200),
        most in 1_u64..40,
    ) {
        let meter = Meter::new(Algorithm::Sliding, MINUTE);
        let number = Number { limit: most, burst: None };
        let (mut cell, mut now) = (0, 0);
        let mut windows = std::collections::HashMap::<u64, u64>::new();
        for (pause, cost) in steps {
            now += pause;
            let window = now / 60_000;
            let count = |of: u64| u128::from(windows.get(&of).copied().unwrap_or_default());
            // In sixtieths of a millisecond's share: no rounding.
            let left = u128::from(60_000 - now % 60_000);
            let previous = window.checked_sub(1).map_or(0, count);
            let used = previous * left + count(window) * 60_000;
            let oracle = used + u128::from(cost) * 60_000 <= u128::from(most) * 60_000;
            let level = meter.read(cell, number, at(now));
            let wait = level.wait_for(cost);
            prop_assert_eq!(wait == Some(Duration::ZERO), oracle, "at {}", now);
            match wait {
                Some(Duration::ZERO) => {
                    cell = taken(level, cost);
                    *windows.entry(window).or_default() += cost;
                }
                Some(wait) => check_wait(&meter, cell, number, at(now), wait, cost)?,
                None => prop_assert!(cost > most),
            }
        }
    }

    /// GCRA with exact fractions.
    #[test]
    fn the_bucket_admits_what_gcra_admits(
        steps in proptest::collection::vec((0_u64..40_000, 1_u64..8), 1..200),
        most in 1_u64..40,
        burst in 1_u64..40,
    ) {
        let burst = burst.min(most);
        let meter = Meter::new(Algorithm::Bucket, MINUTE);
        let number = Number { limit: most, burst: Some(burst) };
        let (mut cell, mut now) = (0, 0);
        // The theoretical arrival time, in milliseconds times the limit.
        let mut arrival = 0_u64;
        for (pause, cost) in steps {
            now += pause;
            let (interval, at_now) = (60_000, now * most);
            let after = arrival.max(at_now) + cost * interval;
            let oracle = after - at_now <= burst * interval;
            let level = meter.read(cell, number, at(now));
            let wait = level.wait_for(cost);
            if wait == Some(Duration::ZERO) {
                prop_assert!(oracle, "at {}", now);
                cell = taken(level, cost);
                arrival = after;
            } else if let Some(wait) = wait {
                // Stamps are rounded against the caller, by less than a microsecond here.
                prop_assert!(!oracle || wait < Duration::from_micros(1), "at {}: {:?}", now, wait);
                check_wait(&meter, cell, number, at(now), wait, cost)?;
                if oracle {
                    break;
                }
            } else {
                prop_assert!(cost > burst);
            }
        }
    }

    /// Cells say the same after any number of windows, and in threads whose clocks differ.
    #[test]
    fn a_cell_that_another_thread_wrote_later_still_counts(
        begin in 0_u64..10_000_000,
        behind in 0_u64..50,
        burst in proptest::option::of(10_u64..=10),
    ) {
        let algorithm = if burst.is_some() { Algorithm::Bucket } else { Algorithm::Sliding };
        let meter = Meter::new(algorithm, MINUTE);
        let number = Number { limit: 10, burst };
        let full = taken(meter.read(0, number, at(begin + behind)), 10);
        prop_assert!(meter.read(full, number, at(begin)).wait_for(1) != Some(Duration::ZERO));
        prop_assert!(!meter.idle(at(begin))(full));
        prop_assert!(!meter.idle(at(begin + 59_000))(full));
        for windows in [2, 3, 100, 1_000] {
            let later = at(begin + behind + windows * 60_000);
            prop_assert!(meter.idle(later)(full));
            prop_assert_eq!(meter.read(full, number, later).wait_for(10), Some(Duration::ZERO));
        }
    }
}

fn taken(mut level: Level, cost: u64) -> u64 {
    level.take(cost);
    level.cell()
}

/// `wait` is exact: a microsecond earlier, the request is denied.
fn check_wait(
    meter: &Meter,
    cell: u64,
    number: Number,
    now: Moment,
    wait: Duration,
    cost: u64,
) -> Result<(), TestCaseError> {
    let after = |span: Duration| -> Level { meter.read(cell, number, now.after(span)) };
    prop_assert_eq!(after(wait).wait_for(cost), Some(Duration::ZERO));
    let earlier = wait.saturating_sub(Duration::from_micros(1));
    prop_assert_ne!(after(earlier).wait_for(cost), Some(Duration::ZERO));
    Ok(())
}
