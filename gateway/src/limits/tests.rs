use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::keys::CallerAddress;
use crate::limits::subject::Subjects;

mod oracles;
mod own;

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
