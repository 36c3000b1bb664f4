use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

const RULES: BrakeRules = BrakeRules {
    failures: 20,
    window: Duration::from_mins(1),
    block: Block::Failures,
    exempt: Vec::new(),
    enforce: true,
};

fn at(text: &str) -> CallerAddress {
    CallerAddress::Known(text.parse().unwrap())
}

/// How many of `tries` failures are counted before the first that is braked.
fn passes(brake: &Brake, address: CallerAddress, failure: Failure<'_>, now: Instant) -> usize {
    (0..2_000)
        .take_while(|_| brake.fail(&RULES, address, failure, now).is_ok())
        .count()
}

#[test]
fn spellings_of_one_address_are_one_subject_and_neighbours_are_others() {
    let now = Instant::now();
    for (first, same, other) in [
        ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
        ("192.0.2.1", "64:ff9b::192.0.2.1", "64:ff9b::192.0.2.2"),
        ("2001:db8::1", "2001:db8::2:3:4:5", "2001:db8:0:1::1"),
    ] {
        let brake = Brake::new();
        assert_eq!(passes(&brake, at(first), Failure::UnknownKey, now), 20);
        let again = brake.fail(&RULES, at(same), Failure::UnknownKey, now);
        assert_eq!(again.unwrap_err().wait, Duration::from_secs(3), "{same}");
        assert_eq!(passes(&brake, at(other), Failure::UnknownKey, now), 20);
    }
    let brake = Brake::new();
    let unknown = CallerAddress::Unknown;
    assert_eq!(passes(&brake, unknown, Failure::UnknownKey, now), 20);
}

#[test]
fn whoever_walks_a_network_is_braked_at_sixteen_times_the_allowance() {
    let brake = Brake::new();
    let now = brake.begun;
    // Each /64 of a /48, once.
    let walk = (0..1_000u128).map(|site| {
        let bits = u128::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
        CallerAddress::Known(Ipv6Addr::from_bits(bits | site << 64).into())
    });
    let passed = walk
        .filter(|address| {
            brake
                .fail(&RULES, *address, Failure::UnknownKey, now)
                .is_ok()
        })
        .count();
    assert_eq!(passed, 320);
    let over = brake.over(100, now);
    let shown: Vec<String> = over.iter().map(|over| over.subject.to_string()).collect();
    assert_eq!(shown, ["2001:db8::/48"]);
    assert_eq!(over[0].requests, 680);
    assert_eq!(
        passes(&brake, at("2001:db8:1::1"), Failure::UnknownKey, now),
        20
    );
}

#[test]
fn what_is_refused_for_a_neighbourhood_costs_the_address_nothing_and_waits_for_both() {
    let brake = Brake::new();
    let now = brake.begun;
    let site = |number: u128| {
        let bits = u128::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
        CallerAddress::Known(Ipv6Addr::from_bits(bits | number << 64).into())
    };
    let fail = |number, at| brake.fail(&RULES, site(number), Failure::UnknownKey, at);
    assert!((0..320).all(|number| fail(number, now).is_ok()));
    let wait = |braked: Result<(), Braked>| braked.unwrap_err().wait.as_millis();
    for _ in 0..10 {
        assert_eq!(wait(fail(400, now)), 187);
    }
    // Once the neighbourhood has room for twenty, they all fit.
    let later = now + Duration::from_millis(20 * 188);
    assert_eq!(passes(&brake, site(400), Failure::UnknownKey, later), 20);
    // Both refuse, and the address for longer.
    let told = wait(fail(400, later));
    assert!((2_900..=3_000).contains(&told), "{told}");
    let all = BrakeRules {
        block: Block::All,
        ..RULES
    };
    let told = wait(brake.check(&all, site(400), later));
    assert!((59_000..=60_000).contains(&told), "{told}");
}

#[test]
fn an_ended_key_brakes_itself_at_its_address_and_nobody_else() {
    let brake = Brake::new();
    let now = brake.begun;
    let (key, other) = (KeyId::generate().unwrap(), KeyId::generate().unwrap());
    let (office, elsewhere) = (at("192.0.2.1"), at("198.51.100.1"));
    assert_eq!(passes(&brake, office, Failure::EndedKey(&key), now), 20);
    for (address, failure) in [
        (office, Failure::UnknownKey),
        (office, Failure::EndedKey(&other)),
        (elsewhere, Failure::EndedKey(&key)),
    ] {
        assert_eq!(passes(&brake, address, failure, now), 20, "{failure:?}");
    }
}

#[test]
fn what_is_exempt_is_never_braked() {
    let brake = Brake::new();
    let now = brake.begun;
    let rules = BrakeRules {
        exempt: vec!["10.1.0.0/16".parse().unwrap()],
        block: Block::All,
        ..RULES
    };
    for _ in 0..1_000 {
        let address = at("10.1.2.3");
        assert!(
            brake
                .fail(&rules, address, Failure::UnknownKey, now)
                .is_ok()
        );
        assert!(brake.check(&rules, address, now).is_ok());
    }
    assert_eq!(brake.count_over(now), 0);
}

#[test]
fn a_stricter_rule_holds_for_what_was_counted_under_another() {
    let brake = Brake::new();
    let mut now = brake.begun;
    let (address, neighbour) = (at("192.0.2.1"), at("192.0.2.2"));
    let all = BrakeRules {
        block: Block::All,
        ..RULES
    };
    assert_eq!(passes(&brake, address, Failure::UnknownKey, now), 20);
    assert!(brake.check(&RULES, address, now).is_ok());
    let blocked = brake.check(&all, address, now).unwrap_err();
    assert_eq!(blocked.wait.as_secs(), 60);
    assert!(brake.check(&all, neighbour, now).is_ok());
    // Until everything is forgiven, not until one more failure fits.
    now += Duration::from_secs(59);
    assert!(brake.check(&all, address, now).is_err());
    now += Duration::from_secs(1);
    assert!(brake.check(&all, address, now).is_ok());
}

#[test]
fn an_episode_ends_when_all_is_paid_and_is_told_once() {
    let brake = Brake::new();
    let mut now = brake.begun;
    let address = at("192.0.2.1");
    passes(&brake, address, Failure::UnknownKey, now);
    for _ in 0..4 {
        assert!(
            brake
                .fail(&RULES, address, Failure::UnknownKey, now)
                .is_err()
        );
    }
    now += Duration::from_secs(30);
    assert!(brake.ended(now).paid.is_empty());
    // One that fits again keeps it open for longer.
    assert!(
        brake
            .fail(&RULES, address, Failure::UnknownKey, now)
            .is_ok()
    );
    now += Duration::from_secs(31);
    assert!(brake.ended(now).paid.is_empty());
    now += Duration::from_secs(3);
    let ended = brake.ended(now);
    assert_eq!(ended.paid.len(), 1);
    assert_eq!(ended.paid[0].requests, 5);
    assert_eq!(ended.paid[0].since.as_secs(), 64);
    assert!(brake.ended(now).paid.is_empty());
    assert!(brake.over(100, now).is_empty());
}

#[test]
fn memory_is_fixed_and_the_one_who_fails_most_stays_braked() {
    let brake = Brake::new();
    let now = brake.begun;
    let heavy = at("203.0.113.7");
    passes(&brake, heavy, Failure::UnknownKey, now);
    for bits in 0..1_000_000u32 {
        let address = CallerAddress::Known(Ipv4Addr::from_bits(bits << 8 | 1).into());
        assert!(
            brake
                .fail(&RULES, address, Failure::UnknownKey, now)
                .is_ok()
        );
    }
    assert!(brake.fail(&RULES, heavy, Failure::UnknownKey, now).is_err());
}

#[test]
fn only_so_many_are_named_and_the_others_are_braked_too() {
    let brake = Brake::new();
    let now = brake.begun;
    let one = BrakeRules {
        failures: 1,
        ..RULES
    };
    for bits in 0..5_000u32 {
        let address = CallerAddress::Known(Ipv4Addr::from_bits(bits << 8 | 1).into());
        let fail = || brake.fail(&one, address, Failure::UnknownKey, now);
        assert!(fail().is_ok());
        assert!(fail().is_err());
    }
    let named = brake.count_over(now);
    assert!((1_900..=EPISODES).contains(&named), "{named}");
    assert_eq!(brake.ended(now).untold, 5_000 - named as u64);
    assert_eq!(brake.over(100, now).len(), 100);
}

#[test]
fn what_is_forgiven_begins_anew() {
    let brake = Brake::new();
    let now = brake.begun;
    let key = KeyId::generate().unwrap();
    let address = at("192.0.2.1");
    let unknown = Failure::UnknownKey;
    assert!(!brake.forgive(address, now).1);
    for failure in [unknown, Failure::EndedKey(&key)] {
        passes(&brake, address, failure, now);
    }
    passes(&brake, at("192.0.2.2"), unknown, now);
    let (over, any) = brake.forgive(address, now);
    assert_eq!((over.len(), any), (2, true));
    for failure in [unknown, Failure::EndedKey(&key)] {
        assert_eq!(passes(&brake, address, failure, now), 20);
    }
    assert_eq!(passes(&brake, at("192.0.2.2"), unknown, now), 0);
}

#[test]
fn threads_count_every_failure_once() {
    let brake = Brake::new();
    let now = brake.begun;
    let address = at("192.0.2.1");
    let passed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..64)
            .map(|_| scope.spawn(|| passes(&brake, address, Failure::UnknownKey, now)))
            .collect();
        threads.into_iter().map(|it| it.join().unwrap()).sum()
    });
    assert_eq!(passed, 20);
}

#[test]
fn forged_tokens_count_double_and_few_signatures_are_computed_from_then_on() {
    let brake = Brake::new();
    let now = brake.begun;
    let (one, other) = (at("192.0.2.1"), at("198.51.100.1"));
    assert!((0..100).all(|_| brake.may_verify(&RULES, one, now)));
    assert_eq!(passes(&brake, one, Failure::ForgedToken, now), 10);
    let computed = (0..100)
        .filter(|_| brake.may_verify(&RULES, one, now))
        .count();
    assert_eq!(computed, 10);
    assert!((0..100).all(|_| brake.may_verify(&RULES, other, now)));
    let later = now + Duration::from_millis(100);
    let computed = (0..100)
        .filter(|_| brake.may_verify(&RULES, one, later))
        .count();
    assert_eq!(computed, 1, "one more each 100 ms");
    for rules in [
        BrakeRules {
            enforce: false,
            ..RULES
        },
        BrakeRules {
            exempt: vec!["192.0.2.0/24".parse().unwrap()],
            ..RULES
        },
    ] {
        assert!((0..100).all(|_| brake.may_verify(&rules, one, now)));
    }
    let one_failure = BrakeRules {
        failures: 1,
        ..RULES
    };
    let first = brake.fail(&one_failure, at("203.0.113.1"), Failure::ForgedToken, now);
    assert!(first.is_ok(), "the first one is always counted");
}
