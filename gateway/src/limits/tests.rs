use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::keys::allowance::Rates;
use crate::keys::{CallerAddress, ConsumerId, KeyId, PlanName, Tags};
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
        exact: false,
    }
}

fn from(address: impl Into<IpAddr>) -> Facts<'static> {
    Facts {
        holder: None,
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
        let limits = Limits::new(limits, Terms::default(), memory);
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
        assert_eq!(&*denied.name, "narrow");
        // Both slide out only with the next window.
        assert_eq!(denied.wait, Some(Duration::from_secs(90)));
    }
    // `wide` and `steady` have counted two.
    let others = |last: u8| from(Ipv4Addr::new(192, 0, 2, last));
    assert_eq!(bench.take(&others(2), 1, at(0)).denied, None);
    let denied = bench.take(&others(3), 1, at(0)).denied.unwrap();
    assert_eq!(&*denied.name, "steady");
    assert_eq!(denied.wait, Some(Duration::from_secs(1)));
    // Of two that deny, the one that ends later.
    let denied = bench.take(&somebody(), 1, at(0)).denied.unwrap();
    assert_eq!(&*denied.name, "narrow");
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
        // So has a bucket in place of a window, or a window in place of a bucket.
        let turned = with(10, burst.is_none().then_some(10));
        assert_eq!(turned.passing(20, at(0)), 10);
    }
}

#[test]
fn gateways_that_split_a_limit_together_allow_it() {
    for burst in [None, Some(100)] {
        let limit = || vec![limit("one", &[By::Gateway], 100, burst)];
        let memories: Vec<_> = (0..3).map(|_| Memory::new()).collect();
        let fleet: Vec<_> = memories
            .iter()
            .map(|memory| {
                memory.set_live_gateways(3);
                Bench::over(limit(), memory)
            })
            .collect();
        let passed: usize = fleet.iter().map(|bench| bench.passing(200, at(0))).sum();
        assert_eq!(passed, 99, "{burst:?}");
        // One leaves: the others take over its part at once.
        memories[0].set_live_gateways(2);
        assert_eq!(fleet[0].passing(200, at(0)), 17);
        let terms = Terms {
            mode: Mode::Local,
            ..Terms::default()
        };
        let local = Limits::new(limit(), terms, &memories[1]);
        let all = local.of_route("default", None);
        assert_eq!(Bench(local, all).passing(200, at(0)), 67);
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
fn a_limit_that_took_nothing_is_given_nothing_back() {
    for burst in [None, Some(2)] {
        let shadow = RateLimit {
            enforce: false,
            ..limit("shadow", &[By::Gateway], 2, burst)
        };
        let spare = RateLimit {
            enforce: false,
            ..limit("spare", &[By::Gateway], 4, None)
        };
        let bench = Bench::of(vec![shadow, spare, limit("real", &[By::Gateway], 9, None)]);
        assert_eq!(bench.passing(2, at(0)), 2);
        // `shadow` is full; the others take and are given back.
        for _ in 0..8 {
            let verdict = bench.take(&somebody(), 1, at(0));
            assert_eq!(verdict.shadow.as_deref(), Some("shadow"), "{burst:?}");
            let charge = verdict.charge.unwrap();
            bench.0.give_back_at(&bench.1, &somebody(), charge, at(0));
        }
        let levels = ["shadow", "spare", "real"].map(|name| {
            let (limits, facts) = (&bench.0, somebody());
            let rule = limits.rules().find(|rule| &*rule.limit.name == name);
            let check = limits.check(rule.unwrap(), &facts, 1).unwrap();
            check.level(at(0)).unwrap().remaining()
        });
        assert_eq!(levels, [0, 2, 7], "{burst:?}");
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
            holder: None,
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
        (&["tag:org".parse().unwrap()], false),
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

/// A consumer with numbers and a tag, and one of its keys.
struct Party {
    ids: (KeyId, ConsumerId),
    key: Rates,
    consumer: Rates,
    plan: Option<(PlanName, Rates)>,
    tags: Tags,
}

impl Party {
    fn with(key: &str, consumer: &str) -> Self {
        Self {
            ids: (KeyId::generate().unwrap(), ConsumerId::generate().unwrap()),
            key: key.parse().unwrap(),
            consumer: consumer.parse().unwrap(),
            plan: None,
            tags: Tags::new(["org=acme".parse().unwrap()]).unwrap(),
        }
    }

    /// Another key of the same consumer.
    fn sibling(&self, key: &str) -> Self {
        Self {
            ids: (KeyId::generate().unwrap(), self.ids.1),
            key: key.parse().unwrap(),
            consumer: self.consumer.clone(),
            plan: self.plan.clone(),
            tags: self.tags.clone(),
        }
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            holder: Some(Holder::Stored(StoredHolder {
                key: Some((self.ids.0, &self.key)),
                consumer: self.ids.1,
                rates: &self.consumer,
                plan: self.plan.as_ref().map(|(name, rates)| (name, rates)),
                tags: &self.tags,
            })),
            ..somebody()
        }
    }

    fn passing(&self, bench: &Bench) -> usize {
        let passes = || bench.take(&self.facts(), 1, at(0)).denied.is_none();
        (0..2_000).filter(|_| passes()).count()
    }
}

#[test]
fn numbers_of_keys_and_consumers_take_the_place_of_the_configurations() {
    for (by, key, consumer, of_key, of_sibling) in [
        // The number of the consumer, or of the key, in place of the configuration's.
        (By::Key, "", "", 100, 100),
        (By::Key, "", "one=500", 500, 500),
        (By::Key, "one=50", "", 50, 100),
        (By::Key, "one=50", "one=500/1m", 50, 500),
        // What a consumer has since been granted less of, its key has not.
        (By::Key, "one=500", "one=20", 20, 20),
        (By::Key, "", "one=unlimited", 2_000, 2_000),
        (By::Key, "one=50", "one=unlimited", 50, 2_000),
        (By::Consumer, "", "one=500", 500, 0),
        (By::Consumer, "", "one=unlimited", 2_000, 2_000),
        // A key narrows its consumer.
        (By::Consumer, "one=50", "", 50, 50),
        (By::Consumer, "one=50", "one=500", 50, 450),
        (By::Consumer, "one=500", "", 100, 0),
        // Another window is another limit.
        (By::Key, "", "one=70/10s", 70, 70),
        (By::Key, "one=7/10s", "", 7, 100),
        (By::Key, "one=7/10s", "one=70/10s", 7, 70),
        (By::Consumer, "", "one=70/10s", 70, 0),
        // Limits of their own.
        (By::Key, "own=7/10s", "", 7, 100),
        (By::Key, "", "own=70/1h", 70, 0),
        (By::Key, "own=7/10s", "own=10/10s", 7, 3),
        (By::Key, "own=7", "own=8", 100, 100),
        // Of a subject that is not theirs, they change nothing for others.
        (By::Gateway, "", "one=30", 30, 0),
    ] {
        let bench = Bench::of(vec![limit("one", std::slice::from_ref(&by), 100, None)]);
        let party = Party::with(key, consumer);
        let case = format!("{by} {key:?} {consumer:?}");
        assert_eq!(party.passing(&bench), of_key, "{case}");
        assert_eq!(party.sibling("").passing(&bench), of_sibling, "{case}");
        let stranger = Party::with("", "").passing(&bench);
        let wanted = if by == By::Gateway { 70 } else { 100 };
        assert_eq!(stranger, wanted, "{case}");
    }
}

#[test]
fn numbers_of_a_plan_hold_where_the_consumer_has_none() {
    for (consumer, plan, wanted) in [
        ("", "one=500", 500),
        ("one=50", "one=500", 50),
        ("one=unlimited", "one=500", 2_000),
        ("", "own=7/1m", 7),
        ("own=9/1m", "own=7/1m", 9),
        ("a=9/1m", "own=7/1m", 7),
    ] {
        let bench = Bench::of(vec![limit("one", &[By::Consumer], 100, None)]);
        let mut party = Party::with("", consumer);
        party.plan = Some(("gold".parse().unwrap(), plan.parse().unwrap()));
        assert_eq!(party.passing(&bench), wanted, "{consumer:?} {plan:?}");
    }
}

#[test]
fn consumers_of_one_plan_share_a_limit() {
    let bench = Bench::of(vec![limit("pool", &[By::Plan], 100, None)]);
    let with = |plan: &str| {
        let mut party = Party::with("", "");
        party.plan = Some((plan.parse().unwrap(), Rates::default()));
        party.passing(&bench)
    };
    assert_eq!([with("gold"), with("gold"), with("iron")], [100, 0, 100]);
    assert_eq!(Party::with("", "").passing(&bench), 2_000);
}

#[test]
fn a_bucket_changes_its_burst_with_its_limit() {
    let bench = Bench::of(vec![limit("one", &[By::Key], 100, Some(20))]);
    for (numbers, wanted) in [
        ("", 20),
        ("one=500", 100),
        ("one=10", 2),
        ("one=1", 1),
        ("one=12", 3),
    ] {
        assert_eq!(
            Party::with("", numbers).passing(&bench),
            wanted,
            "{numbers}"
        );
    }
}

#[test]
fn limits_that_a_route_leaves_out_hold_for_nobody_there() {
    let memory = Memory::new();
    let limits = vec![RateLimit {
        routes: Some(vec!["other".to_owned()]),
        ..limit("one", &[By::Key], 100, None)
    }];
    let limits = Limits::new(limits, Terms::default(), &memory);
    let everywhere = limits.of_route("default", None);
    let chosen = limits.of_route("default", Some(&["one".into()]));
    let party = Party::with("one=7/10s", "own=70/1m");
    let bench = Bench(limits, everywhere);
    assert_eq!(party.passing(&bench), 70);
    let bench = Bench(bench.0, chosen);
    assert_eq!(party.passing(&bench), 2_000);
}

#[test]
fn limits_of_their_own_are_given_back_and_forgotten() {
    let bench = Bench::of(Vec::new());
    let party = Party::with("", "own=5/1m");
    let facts = party.facts();
    let charge = bench.take(&facts, 5, at(0)).charge.unwrap();
    assert!(bench.take(&facts, 1, at(0)).denied.is_some());
    bench.0.give_back_at(&bench.1, &facts, charge, at(0));
    assert_eq!(party.passing(&bench), 5);
    assert_eq!(bench.0.memory.own_tables(), 1);
    // By its own clock, all of this was long ago.
    let _ = bench.0.memory.sweep();
    assert_eq!(bench.0.memory.own_tables(), 0);
}

#[test]
fn limits_of_their_own_are_counted_under_one_name_also_once_they_are_forgotten() {
    let bench = Bench::of(vec![limit("one", &[By::Key], 100, None)]);
    // The last one stands in place of the configuration's.
    let party = Party::with("", "mine=5/1m other=9/1m one=3/30s");
    assert_eq!(party.passing(&bench), 3);
    for subjects in [(2, 1), (0, 0)] {
        let counts = bench.0.memory.counts();
        let names: Vec<&str> = counts.keys().map(|name| &**name).collect();
        assert_eq!(names, ["_own", "one"]);
        let (own, one) = (counts["_own"], counts["one"]);
        assert_eq!((own.subjects, one.subjects), subjects);
        assert_eq!((own.decided[1].allowed, own.decided[1].denied), (6, 0));
        assert_eq!(one.decided[1].allowed, 3);
        assert!(one.decided[1].denied > 0);
        // By its own clock, all of this was long ago.
        let _ = bench.0.memory.sweep();
    }
}

#[test]
fn callers_are_told_of_limits_of_their_own_alone() {
    let tag: By = "tag:org".parse().unwrap();
    for (by, with_key, without) in [
        (&[By::Key][..], true, false),
        (&[By::Consumer], true, false),
        (&[By::Consumer, By::Route], true, false),
        (&[By::Key, By::Address], true, false),
        (&[By::Plan], false, false),
        (std::slice::from_ref(&tag), false, false),
        (&[tag.clone(), By::Address], false, false),
        (&[By::Address], false, true),
        (&[By::Anonymous, By::Address], false, true),
        (&[By::Anonymous], false, false),
        (&[By::Route], false, false),
        (&[By::Gateway], false, false),
    ] {
        let bench = Bench::of(vec![limit("one", by, 1, None)]);
        let party = Party::with("", "");
        for (facts, wanted) in [(party.facts(), with_key), (somebody(), without)] {
            let verdict = bench.take(&facts, 1, at(0));
            assert_eq!(verdict.standings[0].is_some(), wanted, "{by:?}");
        }
        // Another window. A denial names its limit in any case.
        let facts = party.facts();
        let _ = bench.take(&facts, 1, at(300_000));
        if let Some(denied) = bench.take(&facts, 1, at(300_000)).denied {
            assert_eq!((&*denied.name, denied.wait.is_some()), ("one", true));
        }
    }
}

#[test]
fn consumers_with_one_tag_share_a_limit() {
    let bench = Bench::of(vec![limit("org", &["tag:org".parse().unwrap()], 100, None)]);
    assert_eq!(Party::with("", "").passing(&bench), 100);
    let mut other = Party::with("", "");
    assert_eq!(other.passing(&bench), 0);
    other.tags = Tags::new(["org=umbrella".parse().unwrap()]).unwrap();
    assert_eq!(other.passing(&bench), 100);
    other.tags = Tags::default();
    assert_eq!(other.passing(&bench), 2_000);
}

#[test]
fn threads_with_limits_of_their_own_do_not_block_each_other() {
    let bench = Bench::of(vec![limit("one", &[By::Consumer], 1_000, None)]);
    let bench = Arc::new(bench);
    let party = Arc::new(Party::with(
        "a=900/1m b=800/1m one=950",
        "c=850/1m b=700/1m",
    ));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (bench, party) = (Arc::clone(&bench), Arc::clone(&party));
            std::thread::spawn(move || party.passing(&bench))
        })
        .collect();
    let passed: usize = threads.into_iter().map(|one| one.join().unwrap()).sum();
    assert_eq!(passed, 700);
}
