//! Limits with numbers of their own.

use super::*;
use crate::keys::allowance::Rates;
use crate::keys::{ConsumerId, KeyId, PlanName, Tags};

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
