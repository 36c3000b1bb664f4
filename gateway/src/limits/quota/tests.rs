use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::tz::TimeZone;

use super::*;
use crate::keys::table::Change;
use crate::keys::{
    Allowance, AllowedIps, BucketName, Consumer, ConsumerId, KeyDigest, KeyEntry, KeyId, KeyState,
    KeyTable, KnownKey, QuotaAnchor, QuotaPeriod, Tag, Tags,
};
use crate::limits::period::Periods;

mod store;

const DAY: i64 = 24 * 3_600_000;
/// Noon of the 31st of January 2024, when consumers are created.
const CREATED: UnixMillis = UnixMillis(1_706_702_400_000);
/// Noon of the 10th of March 2024.
const NOON: UnixMillis = UnixMillis(1_710_072_000_000);

fn quota(name: &str, by: QuotaBy, limit: u64) -> Quota {
    Quota {
        name: name.into(),
        by,
        limit,
        periods: Periods {
            length: QuotaPeriod::Day,
            anchor: QuotaAnchor::Calendar,
            zone: TimeZone::UTC,
        },
        statuses: None,
        enforce: true,
    }
}

/// A key of a consumer, with numbers of their own.
fn key(of_consumer: &str, of_key: &str, tags: &[(&str, &str)]) -> KnownKey {
    let allowance = |quotas: &str| Allowance {
        quotas: quotas.parse().unwrap(),
        ..Allowance::default()
    };
    let consumer = Consumer {
        id: ConsumerId::generate().unwrap(),
        bucket: BucketName::default(),
        name: "acme".parse().unwrap(),
        custom_id: None,
        metadata: None,
        scopes: "read".parse().unwrap(),
        allowed_ips: AllowedIps::default(),
        plan: None,
        allowance: allowance(of_consumer),
        tags: Tags::new(
            tags.iter()
                .map(|(name, value)| Tag::new(name, value).unwrap()),
        )
        .unwrap(),
        created_at: CREATED,
    };
    let entry = KeyEntry {
        digest: KeyDigest::of(b"one"),
        id: KeyId::generate().unwrap(),
        consumer: consumer.id,
        state: KeyState::Active,
        expires_at: None,
        deprecated_at: None,
        scopes: None,
        allowance: allowance(of_key),
        restrictions: crate::keys::Restrictions::default(),
        chain: None,
    };
    let (table, digest) = (KeyTable::new(), entry.digest);
    table.apply(Change::Consumer(consumer)).unwrap();
    table.apply(Change::Key(entry)).unwrap();
    table.lookup(&digest).unwrap()
}

fn take(quotas: &Arc<Quotas>, key: &KnownKey, at: UnixMillis) -> Result<Reserved, QuotaDenied> {
    let verdict = quotas.reserve(key, 1, at, Purpose::Take);
    match verdict.denied {
        Some(denied) => Err(denied),
        None => Ok(verdict.reserved.unwrap_or_else(|| Reserved {
            quotas: Arc::clone(quotas),
            at,
            when: TakenAt::clock(at),
            units: 0,
        })),
    }
}

/// What a caller is told: name, units left and time until the period ends.
fn told(verdict: &QuotaVerdict) -> Vec<(&str, u64, Duration)> {
    let standings = verdict.standings.iter().flatten();
    standings
        .map(|one| (&*one.name, one.remaining, one.more_in.unwrap_or_default()))
        .collect()
}

fn used(quotas: &Arc<Quotas>, key: &KnownKey, at: UnixMillis) -> Vec<(String, i64)> {
    let states = quotas.of_caller(key, at).into_iter();
    states
        .map(|state| (state.cell.quota.to_string(), state.level.used))
        .collect()
}

#[test]
fn a_period_has_its_units_and_the_next_one_again() {
    let memory = Arc::default();
    let quotas = Quotas::new(vec![quota("daily", QuotaBy::Consumer, 3)], &memory);
    let one = key("", "", &[]);
    for _ in 0..3 {
        take(&quotas, &one, NOON).unwrap();
    }
    let denied = take(&quotas, &one, NOON).unwrap_err();
    assert_eq!(&*denied.quota, "daily");
    // To midnight, and five minutes more at most.
    let wait = denied.wait.unwrap().as_secs();
    assert!((43_200..=43_500).contains(&wait), "{wait}");
    assert!(
        take(&quotas, &key("", "", &[]), NOON).is_ok(),
        "another consumer"
    );
    let midnight = UnixMillis(NOON.0 + DAY / 2);
    assert!(take(&quotas, &one, UnixMillis(midnight.0 - 1)).is_err());
    assert!(take(&quotas, &one, midnight).is_ok());
    // A clock that is set back gives nothing back.
    take(&quotas, &one, NOON).unwrap();
    take(&quotas, &one, NOON).unwrap();
    assert!(take(&quotas, &one, NOON).is_err());
    assert_eq!(used(&quotas, &one, NOON), [("daily".to_owned(), 3)]);
}

#[test]
fn what_is_taken_while_the_clock_is_set_back_is_given_back_too() {
    let hourly = Quota {
        periods: Periods {
            length: QuotaPeriod::Hour,
            ..quota("", QuotaBy::Key, 1).periods
        },
        ..quota("hourly", QuotaBy::Key, 3)
    };
    let all = vec![hourly, quota("daily", QuotaBy::Consumer, 9)];
    // Hours that the clock is set back by, and after which the request ends: in the same hour and
    // day, in the next hour, in the next day.
    for (set_back, ended) in [(0, 0), (1, 0), (30, 0), (0, 1), (1, 1), (0, 24), (30, 24)] {
        let memory = Arc::default();
        let quotas = Quotas::new(all.clone(), &memory);
        let one = key("", "", &[]);
        let hours = |hours: i64| UnixMillis(NOON.0 + hours * 3_600_000);
        take(&quotas, &one, NOON)
            .unwrap()
            .settle(&one, Outcome::NotAnswered);
        let running = take(&quotas, &one, hours(-set_back)).unwrap();
        // Rolls the periods over.
        let _ = used(&quotas, &one, hours(ended));
        let kept = take(&quotas, &one, hours(ended)).unwrap();
        running.settle(&one, Outcome::NotAnswered);
        let left = used(&quotas, &one, hours(ended));
        let left: Vec<i64> = left.iter().map(|(_, used)| *used).collect();
        // The one that is kept.
        assert_eq!(left, [1, 1], "{set_back} {ended}");
        kept.settle(&one, Outcome::NotAnswered);
        let left = used(&quotas, &one, hours(ended));
        assert!(left.iter().all(|(_, used)| *used == 0), "{left:?}");
    }
}

#[test]
fn a_request_that_no_period_admits_is_told_of_no_time() {
    let memory = Arc::default();
    let quotas = vec![
        quota("daily", QuotaBy::Consumer, 5),
        quota("wide", QuotaBy::Key, 9),
    ];
    let quotas = Quotas::new(quotas, &memory);
    let one = key("", "", &[]);
    for (cost, wanted) in [
        (6, Some(("daily", false))),
        (5, None),
        (1, Some(("daily", true))),
        // Neither admits it: the first of them is named.
        (10, Some(("daily", false))),
        (6, Some(("daily", false))),
    ] {
        let verdict = quotas.reserve(&one, cost, NOON, Purpose::Take);
        let denied = verdict.denied.as_ref();
        let denied = denied.map(|denied| (&*denied.quota, denied.wait.is_some()));
        assert_eq!(denied, wanted, "{cost}");
    }
}

#[test]
fn fifty_at_once_on_the_last_ten_units_are_ten_at_the_origin_and_all_given_back() {
    let memory = Arc::default();
    let successes = Quota {
        statuses: Statuses::parse(&["2xx"]),
        ..quota("daily", QuotaBy::Key, 10)
    };
    let quotas = Quotas::new(vec![successes], &memory);
    let one = key("", "", &[]);
    let inside = AtomicUsize::new(0);
    let most = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                if let Ok(reserved) = take(&quotas, &one, NOON) {
                    let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    reserved.settle(&one, Outcome::Answered(500));
                }
            });
        }
    });
    assert!((1..=10).contains(&most.into_inner()));
    assert_eq!(used(&quotas, &one, NOON), [("daily".to_owned(), 0)]);
    // What ends in the next period is not given back there.
    let reserved = take(&quotas, &one, NOON).unwrap();
    let tomorrow = UnixMillis(NOON.0 + DAY);
    take(&quotas, &one, tomorrow).unwrap();
    reserved.settle(&one, Outcome::NotAnswered);
    assert_eq!(used(&quotas, &one, tomorrow), [("daily".to_owned(), 1)]);
}

#[test]
fn what_counts_is_what_the_settings_say_and_whoever_leaves_early() {
    use Outcome::{Answered, ClientLeft, NotAnswered};
    for (statuses, outcome, counts) in [
        (None, Answered(200), 1),
        (None, Answered(500), 1),
        (None, Answered(101), 1),
        (None, ClientLeft, 1),
        (None, NotAnswered, 0),
        (Some("2xx"), Answered(204), 1),
        (Some("2xx"), Answered(101), 0),
        (Some("1xx"), Answered(101), 1),
        (Some("2xx"), Answered(304), 0),
        (Some("2xx"), Answered(404), 0),
        (Some("2xx"), ClientLeft, 1),
        (Some("2xx"), NotAnswered, 0),
    ] {
        let memory = Arc::default();
        let one = Quota {
            statuses: statuses.and_then(|word| Statuses::parse(&[word])),
            ..quota("daily", QuotaBy::Key, 10)
        };
        let quotas = Quotas::new(vec![one], &memory);
        let one = key("", "", &[]);
        take(&quotas, &one, NOON).unwrap().settle(&one, outcome);
        let wanted = [("daily".to_owned(), counts)];
        assert_eq!(
            used(&quotas, &one, NOON),
            wanted,
            "{statuses:?} {outcome:?}"
        );
    }
}

#[test]
fn one_denial_takes_from_none_and_names_what_ends_latest() {
    let memory = Arc::default();
    let hourly = Quota {
        periods: Periods {
            length: QuotaPeriod::Hour,
            ..quota("", QuotaBy::Key, 1).periods
        },
        ..quota("hourly", QuotaBy::Key, 2)
    };
    let soft = Quota {
        enforce: false,
        ..quota("soft", QuotaBy::Key, 1)
    };
    let daily = quota("daily", QuotaBy::Consumer, 2);
    let quotas = Quotas::new(vec![hourly, soft, daily], &memory);
    let one = key("", "", &[]);
    take(&quotas, &one, NOON).unwrap();
    let verdict = quotas.reserve(&one, 1, NOON, Purpose::Take);
    assert_eq!(verdict.shadow.as_deref(), Some("soft"));
    // Nothing is told of one that is not enforced.
    let (hour, half) = (Duration::from_hours(1), Duration::from_hours(12));
    assert_eq!(told(&verdict), [("hourly", 0, hour), ("daily", 0, half)]);
    for _ in 0..3 {
        assert_eq!(&*take(&quotas, &one, NOON).unwrap_err().quota, "daily");
    }
    let wider = vec![
        quota("hourly", QuotaBy::Key, 5),
        quota("daily", QuotaBy::Consumer, 2),
    ];
    let wider = Quotas::new(wider, &memory);
    let denied = wider.reserve(&one, 1, NOON, Purpose::Take);
    assert_eq!(told(&denied), [("daily", 0, half), ("hourly", 5, half)]);
    let wanted = [("hourly", 2), ("soft", 2), ("daily", 2)];
    let wanted = wanted.map(|(name, used)| (name.to_owned(), used));
    assert_eq!(used(&quotas, &one, NOON), wanted);
    // A look takes nothing.
    let later = UnixMillis(NOON.0 + DAY);
    assert!(
        quotas
            .reserve(&one, 1, later, Purpose::Look)
            .denied
            .is_none()
    );
    assert!(
        used(&quotas, &one, later)
            .iter()
            .all(|(_, used)| *used == 0)
    );
}

#[test]
fn numbers_of_keys_consumers_and_tags_apply() {
    // Quotas of the settings: by consumer 5, by key 5, by tag 4.
    for (of_consumer, of_key, passes) in [
        ("", "", 4),
        ("c=2", "", 2),
        ("c=9 t=9", "", 5),
        ("", "c=1", 1),
        ("", "k=3", 3),
        ("k=2", "", 2),
        ("t=unlimited c=unlimited", "", 5),
        ("mine=1/day", "", 1),
        ("", "mine=2/day", 2),
        // Without a period, and no quota has the name.
        ("mine=1", "", 4),
    ] {
        let memory = Arc::default();
        let quotas = vec![
            quota("c", QuotaBy::Consumer, 5),
            quota("k", QuotaBy::Key, 5),
            quota("t", QuotaBy::Tag("org".into()), 4),
            quota("u", QuotaBy::Tag("other".into()), 1),
        ];
        let quotas = Quotas::new(quotas, &memory);
        let one = key(of_consumer, of_key, &[("org", "acme")]);
        let passed = (0..20).take_while(|_| take(&quotas, &one, NOON).is_ok());
        assert_eq!(passed.count(), passes, "{of_consumer:?} {of_key:?}");
    }
    // Consumers with the same value of a tag share.
    let memory = Arc::default();
    let quotas = Quotas::new(vec![quota("t", QuotaBy::Tag("org".into()), 2)], &memory);
    let [one, two] = [(); 2].map(|()| key("", "", &[("org", "acme")]));
    take(&quotas, &one, NOON).unwrap();
    take(&quotas, &two, NOON).unwrap();
    let denied = quotas.reserve(&one, 1, NOON, Purpose::Take);
    assert_eq!(&*denied.denied.as_ref().unwrap().quota, "t");
    assert_eq!(told(&denied), [], "how busy the others are");
    assert!(take(&quotas, &key("", "", &[("org", "other")]), NOON).is_ok());
    assert!(take(&quotas, &key("", "", &[]), NOON).is_ok());
}

#[test]
fn counts_go_on_when_the_number_changes() {
    let memory = Arc::default();
    let of = |limit| Quotas::new(vec![quota("daily", QuotaBy::Key, limit)], &memory);
    let one = key("", "", &[]);
    let quotas = of(10);
    for _ in 0..8 {
        take(&quotas, &one, NOON).unwrap();
    }
    let lowered = of(5);
    assert!(take(&lowered, &one, NOON).is_err());
    let raised = of(9);
    take(&raised, &one, NOON).unwrap();
    assert!(take(&raised, &one, NOON).is_err());
}

#[test]
fn shares_are_told_once_in_a_period() {
    let memory = Arc::default();
    let quotas = Quotas::new(vec![quota("daily", QuotaBy::Key, 10)], &memory);
    let one = key("", "", &[]);
    let mut told = Vec::new();
    let mut last = None;
    for number in 1..=10 {
        let verdict = quotas.reserve(&one, 1, NOON, Purpose::Take);
        told.extend(verdict.notices.iter().map(|notice| (number, notice.share)));
        last = verdict.reserved;
    }
    // Given back and taken again.
    last.unwrap().settle(&one, Outcome::NotAnswered);
    let again = quotas.reserve(&one, 1, NOON, Purpose::Take);
    assert!(again.notices.is_empty());
    assert_eq!(told, [(8, 80), (10, 100)]);
    let tomorrow = UnixMillis(NOON.0 + DAY);
    let told = (0..10).filter(|_| {
        let verdict = quotas.reserve(&one, 1, tomorrow, Purpose::Take);
        !verdict.notices.is_empty()
    });
    assert_eq!(told.count(), 2);
}

#[test]
fn periods_begin_with_the_day_on_which_the_consumer_was_created() {
    let february_29th = UnixMillis(1_709_164_800_000);
    let march_31st = UnixMillis(1_711_843_200_000);
    let memory = Arc::default();
    let mut monthly = quota("monthly", QuotaBy::Consumer, 10);
    monthly.periods.length = QuotaPeriod::Month;
    monthly.periods.anchor = QuotaAnchor::Created;
    let quotas = Quotas::new(vec![monthly], &memory);
    let own = "monthly=10/month@created";
    for (quotas, one) in [
        (quotas, key("", "", &[])),
        (Quotas::new(Vec::new(), &memory), key(own, "", &[])),
        (Quotas::new(Vec::new(), &memory), key("", own, &[])),
    ] {
        let states = quotas.of_caller(&one, NOON);
        let [state] = states.as_slice() else {
            panic!("{states:?}");
        };
        assert_eq!(state.level.period.start, february_29th);
        assert_eq!(state.level.period.end, Some(march_31st));
    }
}

#[test]
fn sixty_four_threads_use_exactly_the_units_that_there_are() {
    let memory: Arc<QuotaMemory> = Arc::default();
    let quotas = Quotas::new(vec![quota("daily", QuotaBy::Consumer, 100)], &memory);
    let one = key("", "", &[]);
    let passed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..64)
            .map(|_| {
                scope.spawn(|| {
                    (0..1_000)
                        .filter(|_| take(&quotas, &one, NOON).is_ok())
                        .count()
                })
            })
            .collect();
        threads.into_iter().map(|it| it.join().unwrap()).sum()
    });
    assert_eq!(passed, 100);
    assert_eq!(memory.take_deltas(10)[0].units, 100);
}
