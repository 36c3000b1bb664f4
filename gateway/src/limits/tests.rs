use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::keys::CallerAddress;
use crate::limits::meter::{Algorithm, Level, Meter};
use crate::limits::subject::Subjects;

const SECOND: u64 = 1_000_000_000;
const MINUTE: Duration = Duration::from_secs(60);

/// The beginning of a minute.
const BEGIN: Moment = Moment(1_800_000_000 * SECOND);

fn at(millis: u64) -> Moment {
    BEGIN.after(Duration::from_millis(millis))
}

fn limit(name: &str, by: &[By], limit: u64, burst: Option<u64>) -> RateLimit {
    RateLimit {
        name: name.into(),
        by: by.to_vec(),
        number: Number { limit, burst },
        window: MINUTE,
        routes: None,
        enforce: true,
    }
}

fn from(address: impl Into<IpAddr>) -> Facts<'static> {
    Facts {
        key: None,
        address: address.into().into(),
        route: "default",
    }
}

fn somebody() -> Facts<'static> {
    from(Ipv4Addr::new(192, 0, 2, 1))
}

/// Limits over cells that nobody else has, with those of a route.
struct Bench(Limits, OfRoute);

impl Bench {
    fn of(limits: Vec<RateLimit>) -> Self {
        Self::over(limits, &Memory::new())
    }

    fn over(limits: Vec<RateLimit>, memory: &Arc<Memory>) -> Self {
        let limits = Limits::new(limits, 64, memory);
        let all = limits.of_route("default", None);
        Self(limits, all)
    }

    fn take(&self, facts: &Facts<'_>, cost: u64, now: Moment) -> Verdict {
        self.0.decide_at(&self.1, facts, cost, Purpose::Take, now)
    }

    /// How many of `attempts` at once pass.
    fn passing(&self, attempts: usize, now: Moment) -> usize {
        let passes = || self.take(&somebody(), 1, now).denied.is_none();
        (0..attempts).filter(|_| passes()).count()
    }

    fn name(&self, rule: u16) -> &str {
        &self.0.rule(rule).unwrap().limit.name
    }
}

#[test]
fn threads_pass_exactly_as_many_as_the_limit() {
    for burst in [None, Some(100)] {
        let bench = Arc::new(Bench::of(vec![limit("one", &[By::Gateway], 100, burst)]));
        let passed = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..64)
            .map(|_| {
                let (bench, passed) = (Arc::clone(&bench), Arc::clone(&passed));
                std::thread::spawn(move || {
                    for _ in 0..16 {
                        let verdict = bench.take(&somebody(), 1, at(500));
                        passed.fetch_add(verdict.denied.is_none().into(), Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(passed.load(Ordering::Relaxed), 100, "{burst:?}");
    }
}

#[test]
fn threads_that_check_several_limits_in_two_generations_do_not_block_each_other() {
    let names = ["a", "b", "c"];
    let memory = Memory::new();
    let made = |names: [&str; 3]| {
        let limits = names.map(|name| limit(name, &[By::Gateway], 1_000, None));
        Arc::new(Bench::over(limits.to_vec(), &memory))
    };
    let (one, other) = (made(names), made(["c", "a", "b"]));
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let bench = Arc::clone(if thread % 2 == 0 { &one } else { &other });
            std::thread::spawn(move || bench.passing(1_000, at(0)))
        })
        .collect();
    let passed: usize = threads.into_iter().map(|one| one.join().unwrap()).sum();
    assert_eq!(passed, 1_000, "both generations count in the same cells");
}

#[test]
fn a_denial_takes_from_no_limit_and_names_the_one_that_ends_latest() {
    let limits = vec![
        limit("wide", &[By::Gateway], 10, None),
        limit("narrow", &[By::Address], 2, None),
        limit("steady", &[By::Anonymous], 60, Some(3)),
    ];
    let bench = Bench::of(limits);
    assert_eq!(bench.passing(2, at(0)), 2);
    for _ in 0..100 {
        let denied = bench.take(&somebody(), 1, at(0)).denied.unwrap();
        assert_eq!(bench.name(denied.rule), "narrow");
        // Both slide out only with the next window.
        assert_eq!(denied.wait, Some(Duration::from_secs(90)));
    }
    // `wide` and `steady` have counted two.
    let others = |last: u8| from(Ipv4Addr::new(192, 0, 2, last));
    assert_eq!(bench.take(&others(2), 1, at(0)).denied, None);
    let denied = bench.take(&others(3), 1, at(0)).denied.unwrap();
    assert_eq!(bench.name(denied.rule), "steady");
    assert_eq!(denied.wait, Some(Duration::from_secs(1)));
    // Of two that deny, the one that ends later.
    let denied = bench.take(&somebody(), 1, at(0)).denied.unwrap();
    assert_eq!(bench.name(denied.rule), "narrow");
}

#[test]
fn a_limit_that_is_not_enforced_denies_nothing_and_counts_as_if_it_did() {
    let shadow = RateLimit {
        enforce: false,
        ..limit("shadow", &[By::Gateway], 2, None)
    };
    let bench = Bench::of(vec![shadow, limit("real", &[By::Gateway], 5, None)]);
    let verdicts: Vec<Verdict> = (0..6).map(|_| bench.take(&somebody(), 1, at(0))).collect();
    let shadowed = verdicts.iter().map(|verdict| verdict.shadow.is_some());
    assert_eq!(
        shadowed.collect::<Vec<_>>(),
        [false, false, true, true, true, true]
    );
    let passed = verdicts.iter().map(|verdict| verdict.denied.is_none());
    assert_eq!(passed.filter(|passed| *passed).count(), 5);
}

#[test]
fn a_client_that_tries_again_while_denied_is_let_in_when_it_was_told() {
    for burst in [None, Some(20)] {
        let bench = Bench::of(vec![limit("one", &[By::Gateway], 20, burst)]);
        assert_eq!(bench.passing(20, at(0)), 20);
        let wait = bench.take(&somebody(), 1, at(1)).denied.unwrap().wait;
        let told = wait.unwrap().as_millis() as u64 + 1;
        // The last unit of a window is the first to slide out: one twentieth of the next one later.
        let first = if burst.is_none() { 63_000 } else { 3_000 };
        assert_eq!(told.div_ceil(1000) * 1000, first, "{burst:?}");
        for millis in (1..first).step_by(100) {
            assert_eq!(bench.passing(1, at(millis)), 0, "{millis} {burst:?}");
        }
        assert_eq!(bench.passing(2, at(first)), 1, "{burst:?}");
    }
}

#[test]
fn two_full_windows_do_not_meet_at_their_boundary() {
    let bench = Bench::of(vec![limit("one", &[By::Gateway], 100, None)]);
    assert_eq!(bench.passing(200, at(59_900)), 100);
    assert_eq!(bench.passing(200, at(60_000)), 0);
    assert_eq!(
        bench.passing(200, at(60_600)),
        1,
        "one hundredth has slid out"
    );
    assert_eq!(bench.passing(200, at(90_000)), 49, "half, and one is there");
    assert_eq!(bench.passing(200, at(119_999)), 49);
}

#[test]
fn a_number_that_changes_applies_to_what_is_used() {
    for burst in [None, Some(100)] {
        let memory = Memory::new();
        let with =
            |number, burst| Bench::over(vec![limit("one", &[By::Gateway], number, burst)], &memory);
        let before = with(100, burst);
        assert_eq!(before.passing(200, at(0)), 100);
        let lowered = with(50, burst.map(|_| 50));
        assert_eq!(lowered.passing(1, at(0)), 0);
        let raised = with(150, burst.map(|_| 150));
        assert_eq!(raised.passing(200, at(0)), 50);
        // Another window, or another name, has cells of its own.
        let other = RateLimit {
            window: Duration::from_secs(30),
            ..limit("one", &[By::Gateway], 10, burst.map(|_| 10))
        };
        assert_eq!(Bench::over(vec![other], &memory).passing(20, at(0)), 10);
    }
}

#[test]
fn cost_is_taken_at_once_given_back_and_never_split() {
    for burst in [None, Some(10)] {
        let bench = Bench::of(vec![limit("one", &[By::Gateway], 10, burst)]);
        let charge = bench.take(&somebody(), 7, at(0)).charge.unwrap();
        assert!(bench.take(&somebody(), 4, at(0)).denied.is_some());
        assert_eq!(bench.passing(9, at(0)), 3);
        // What costs nothing needs a free unit and takes none.
        assert!(bench.take(&somebody(), 0, at(0)).denied.is_some());
        bench.0.give_back_at(&bench.1, &somebody(), charge, at(0));
        assert!(bench.take(&somebody(), 0, at(0)).denied.is_none());
        assert_eq!(bench.passing(9, at(0)), 7, "{burst:?}");
        let never = bench.take(&somebody(), 11, at(0)).denied.unwrap();
        assert_eq!(never.wait, None);
    }
}

#[test]
fn what_is_given_back_late_is_no_credit() {
    for burst in [None, Some(10)] {
        let bench = Bench::of(vec![limit("one", &[By::Gateway], 10, burst)]);
        let charge = bench.take(&somebody(), 10, at(0)).charge.unwrap();
        assert_eq!(bench.passing(20, at(150_000)), 10);
        bench
            .0
            .give_back_at(&bench.1, &somebody(), charge, at(150_000));
        assert_eq!(bench.passing(1, at(150_000)), 0, "{burst:?}");
    }
}

#[test]
fn spellings_of_an_address_are_one_subject_and_so_is_a_site_of_ipv6() {
    let subjects = Subjects::default();
    let subject = |address: CallerAddress, prefix| {
        let facts = Facts {
            key: None,
            address,
            route: "default",
        };
        subjects.of(&[By::Address], &facts, prefix).unwrap()
    };
    let read = |text: &str, prefix| {
        let address: IpAddr = text.parse().unwrap();
        // Not through From, which already maps.
        subject(CallerAddress::Known(address), prefix)
    };
    for (one, other, prefix, same) in [
        ("192.0.2.1", "::ffff:192.0.2.1", 64, true),
        ("192.0.2.1", "64:ff9b::192.0.2.1", 64, true),
        ("192.0.2.1", "64:ff9b::192.0.2.2", 64, false),
        ("192.0.2.1", "192.0.2.2", 64, false),
        ("192.0.2.1", "::192.0.2.1", 64, false),
        ("2001:db8::1", "2001:db8::ffff:0:1", 64, true),
        ("2001:db8::1", "2001:db8:0:1::1", 64, false),
        ("2001:db8::1", "2001:db8:0:1::1", 48, true),
        ("2001:db8::1", "2001:db8::2", 128, false),
        ("64:ff9b:1::1", "64:ff9b:1::2", 64, true),
    ] {
        assert_eq!(
            read(one, prefix) == read(other, prefix),
            same,
            "{one} {other}"
        );
    }
    let unknown = subject(CallerAddress::Unknown, 64);
    assert_eq!(unknown, subject(CallerAddress::Unknown, 64));
    assert_ne!(unknown, read("0.0.0.0", 64));
}

#[test]
fn a_limit_by_something_that_a_request_lacks_does_not_apply() {
    let anonymous = somebody();
    for (by, applies) in [
        (&[By::Key][..], false),
        (&[By::Consumer], false),
        (&[By::Key, By::Route], false),
        (&[By::Anonymous], true),
        (&[By::Anonymous, By::Address], true),
        (&[By::Address], true),
        (&[By::Route], true),
        (&[By::Gateway], true),
    ] {
        let subject = Subjects::default().of(by, &anonymous, 64);
        assert_eq!(subject.is_some(), applies, "{by:?}");
    }
}

#[test]
fn made_up_addresses_fill_a_table_up_to_its_cap_and_newcomers_are_still_limited() {
    const ADDRESSES: u32 = 1 << 21;
    let bench = Bench::of(vec![limit("one", &[By::Address], 2, None)]);
    let site = |number: u32| {
        from(Ipv6Addr::from_bits(
            0x2001 << 112 | u128::from(number) << 64,
        ))
    };
    let passing = |number| bench.take(&site(number), 1, at(0)).denied.is_none();
    let passed = (0..ADDRESSES).filter(|number| passing(*number)).count();
    let cells = bench.0.rules().next().unwrap().table.len();
    // Shards fill up unevenly.
    assert!((1_000_000..=1 << 20).contains(&cells), "{cells} cells");
    assert!(passed <= (1 << 20) + 2 * 1_024, "{passed} passed");
    assert!((0..100).all(|number| !passing(ADDRESSES - 100 + number)));
    // The first ones still have cells of their own.
    assert!((0..100).all(|number| passing(number) && !passing(number)));
    let table = &bench.0.rules().next().unwrap().table;
    table.sweep(at(60_000));
    assert_eq!(table.len(), cells, "the window before still counts");
    table.sweep(at(120_000));
    assert_eq!(table.len(), 0);
    assert_eq!(bench.passing(3, at(120_000)), 2);
}

#[test]
fn a_million_subjects_take_40_bytes_each() {
    let (most, entry) = (1_000_000_f64, 17.0);
    // A map grows when it is 7/8 full, and doubles.
    let shard = (most / 256.0 * 8.0 / 7.0).log2().ceil().exp2();
    let bytes = shard * entry * 256.0 / most;
    assert!(bytes <= 40.0, "{bytes} bytes");
}

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
                    cell = level.taken(cost);
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
                cell = level.taken(cost);
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
        let full = meter.read(0, number, at(begin + behind)).taken(10);
        prop_assert!(meter.read(full, number, at(begin)).wait_for(1) != Some(Duration::ZERO));
        prop_assert!(!meter.is_idle(full, at(begin)));
        prop_assert!(!meter.is_idle(full, at(begin + 59_000)));
        for windows in [2, 3, 100, 1_000] {
            let later = at(begin + behind + windows * 60_000);
            prop_assert!(meter.is_idle(full, later));
            prop_assert_eq!(meter.read(full, number, later).wait_for(10), Some(Duration::ZERO));
        }
    }
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
