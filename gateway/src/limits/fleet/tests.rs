use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::limits::clock::Moment;
use crate::limits::table::leases::Grant;
use crate::limits::table::others::Heard;
use crate::limits::{
    By, Facts, Limits, Mode, Number, OfRoute, OnOutage, Purpose, RateLimit, Terms, Verdict,
};

/// The beginning of a minute.
const BEGIN: Moment = Moment(1_800_000_000_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);

fn at(millis: u64) -> Moment {
    BEGIN.after(Duration::from_millis(millis))
}

fn everybody() -> Facts<'static> {
    Facts {
        holder: None,
        address: IpAddr::V4(Ipv4Addr::LOCALHOST).into(),
        route: "default",
    }
}

/// A gateway that shares one limit by address, which a caller without a key is told of.
struct Gateway {
    memory: Arc<Memory>,
    limits: Limits,
    route: OfRoute,
}

impl Gateway {
    fn with(limit: u64, exact: bool, on_outage: OnOutage) -> Self {
        let memory = Memory::of_fleet(b"of the tests");
        memory.set_live_gateways(3);
        memory.link.set_up(true);
        let limit = RateLimit {
            name: "one".into(),
            by: vec![By::Address],
            number: Number { limit, burst: None },
            window: MINUTE,
            routes: None,
            enforce: true,
            exact,
        };
        let terms = Terms {
            mode: Mode::Shared,
            on_outage,
            ..Terms::default()
        };
        let limits = Limits::new(vec![limit], terms, &memory);
        let route = limits.of_route("default", None);
        Self {
            memory,
            limits,
            route,
        }
    }

    fn ask(&self, now: Moment) -> Verdict {
        let (route, facts) = (&self.route, everybody());
        self.limits.decide_at(route, &facts, 1, Purpose::Take, now)
    }

    /// How many of `attempts` at once pass.
    fn passing(&self, attempts: usize, now: Moment) -> usize {
        let passes = |_: &usize| {
            let verdict = self.ask(now);
            verdict.denied.is_none() && !verdict.is_pending
        };
        (0..attempts).filter(passes).count()
    }

    fn table(&self) -> Arc<crate::limits::table::Table> {
        Arc::clone(&self.memory.named_tables()[0].table)
    }

    /// Exchanges counts through `server`, which has them by window and gateway.
    fn exchange(&self, server: &mut Server, number: usize, now: Moment) {
        let (table, mut changed) = (self.table(), Vec::new());
        table.take_changed(now, &mut changed);
        for subject in changed.into_iter().map(|changed| changed.subject) {
            let news = table.news(subject, now).unwrap();
            let mut tell = |window: u64, own: u64| {
                let counts = server.entry(window).or_default();
                counts.insert(number, own);
                counts.values().sum::<u64>() - own
            };
            let heard = Heard {
                window: news.window,
                current: tell(news.window, news.current),
                previous: news.previous.map(|own| tell(news.window - 1, own)),
            };
            table.learn(subject, heard);
        }
    }
}

type Server = HashMap<u64, HashMap<usize, u64>>;

#[test]
fn an_outage_means_what_the_setting_says_and_what_was_heard_stays_in_force() {
    for (on_outage, passing) in [
        // Of 90, this gateway used 20 and the others 40.
        (OnOutage::Split, 10),
        (OnOutage::Local, 30),
        (OnOutage::Open, 100),
        (OnOutage::Closed, 0),
    ] {
        let gateway = Gateway::with(90, false, on_outage);
        let mut server = Server::new();
        let window = at(0).0 / 60_000_000_000;
        server.insert(window, HashMap::from([(1, 30), (2, 10)]));
        assert_eq!(gateway.passing(20, at(0)), 20);
        gateway.exchange(&mut server, 0, at(100));
        assert_eq!(server[&window][&0], 20);
        let told = gateway.ask(at(100)).standings[0].clone().unwrap();
        assert_eq!((told.limit, told.remaining), (90, 29), "{on_outage:?}");
        gateway.memory.link.set_up(false);
        let before = usize::from(on_outage != OnOutage::Closed);
        let passed = gateway.passing(200, at(200));
        let wanted = match on_outage {
            OnOutage::Open => 200,
            _ => passing - before,
        };
        assert_eq!(passed, wanted, "{on_outage:?}");
        if on_outage != OnOutage::Open {
            let denied = gateway.ask(at(200)).denied.unwrap();
            assert_eq!(denied.is_unknown, on_outage == OnOutage::Closed);
            assert!(denied.wait.is_some(), "{on_outage:?}");
        }
    }
}

#[test]
fn what_others_used_slides_out_like_ones_own() {
    let gateway = Gateway::with(100, false, OnOutage::Split);
    let mut server = Server::new();
    let window = at(0).0 / 60_000_000_000;
    server.insert(window, HashMap::from([(1, 60)]));
    assert_eq!(gateway.passing(10, at(0)), 10);
    gateway.exchange(&mut server, 0, at(100));
    assert_eq!(gateway.passing(100, at(200)), 30);
    // The others went on after this gateway heard of them.
    server.get_mut(&window).unwrap().insert(1, 70);
    assert_eq!(gateway.passing(100, at(75_000)), 25, "of 100, 75 count");
    gateway.exchange(&mut server, 0, at(75_100));
    assert_eq!(server[&(window + 1)][&0], 25);
    let denied = gateway.ask(at(75_100)).denied.unwrap();
    // Of 110, three quarters count until another unit is free.
    assert!(denied.wait.unwrap() > Duration::from_secs(4), "{denied:?}");
}

proptest! {
    /// Whatever the gateways are asked for, and whenever they exchange: the bound of
    /// `docs/LIMITS.md`.
    #[test]
    fn gateways_together_stay_within_the_bound(
        demand in prop::collection::vec([0_usize..12, 0_usize..12, 0_usize..12], 60..300),
        phases in [0_u64..10, 0_u64..10, 0_u64..10],
        limit in 10_u64..400,
    ) {
        let gateways = [(); 3].map(|()| Gateway::with(limit, false, OnOutage::Split));
        let mut server = Server::new();
        let mut admitted: [Vec<usize>; 3] = Default::default();
        for (step, wanted) in (0_u64..).zip(&demand) {
            let now = at(step * 10);
            for (number, gateway) in gateways.iter().enumerate() {
                admitted[number].push(gateway.passing(wanted[number], now));
                if step % 10 == phases[number] {
                    gateway.exchange(&mut server, number, now);
                }
            }
        }
        // Two intervals of ten steps, and the step in which an exchange is made.
        let unheard = |admitted: &Vec<usize>| {
            let spans = admitted.windows(21.min(admitted.len()));
            spans.map(|span| span.iter().sum::<usize>()).max().unwrap_or_default()
        };
        let total: usize = admitted.iter().flatten().sum();
        let untold = (limit / 10).max(3);
        let bound = usize::try_from(limit + untold).unwrap() + admitted.iter().map(unheard).sum::<usize>();
        prop_assert!(total <= bound, "{} of {}", total, bound);
        // And nobody is denied too early.
        let demanded: usize = demand.iter().flatten().sum();
        prop_assert!(total >= demanded.min(usize::try_from(limit).unwrap()), "{}", total);
    }
}

#[test]
fn an_exact_limit_is_decided_once_its_units_are_there() {
    let gateway = Gateway::with(100, true, OnOutage::Closed);
    let first = gateway.ask(at(0));
    assert!(first.is_pending && first.charge.is_none() && first.denied.is_none());
    assert!(gateway.ask(at(0)).is_pending);
    let table = gateway.table();
    let wanted = table.take_wanted();
    assert_eq!(wanted.len(), 1, "one question for both");
    assert_eq!(
        (wanted[0].need, wanted[0].want, wanted[0].limit),
        (1, 2, 100)
    );
    let grant = |units, none_until| Grant {
        units,
        window: 7,
        ends: at(60_000),
        none_until: at(none_until),
        granted: (0, 10),
    };
    table.leased(wanted[0].subject, Some(grant(2, 0)));
    assert_eq!(gateway.passing(5, at(10)), 2);
    let wanted = table.take_wanted();
    assert_eq!(wanted.len(), 1);
    table.leased(wanted[0].subject, Some(grant(0, 30_000)));
    let denied = gateway.ask(at(10_000)).denied.unwrap();
    assert_eq!(denied.wait, Some(Duration::from_secs(20)));
    assert!(gateway.ask(at(30_000)).is_pending);
    gateway.memory.link.set_up(false);
    assert!(gateway.ask(at(30_000)).denied.unwrap().is_unknown);
    gateway.memory.link.set_up(true);
    assert!(gateway.ask(at(30_000)).is_pending);
    let wanted = table.take_wanted();
    table.leased(wanted[0].subject, Some(grant(3, 0)));
    gateway.memory.link.set_up(false);
    assert_eq!(gateway.passing(5, at(30_100)), 3, "what is held");
}

#[test]
fn a_lease_gets_back_only_what_was_taken_of_it() {
    for (is_leased, passing) in [(true, 1), (false, 0)] {
        let gateway = Gateway::with(100, true, OnOutage::Open);
        assert!(gateway.ask(at(0)).is_pending);
        let table = gateway.table();
        let grant = Grant {
            units: 1,
            window: 7,
            ends: at(60_000),
            none_until: at(0),
            granted: (0, 1),
        };
        table.leased(table.take_wanted()[0].subject, Some(grant));
        let mut charge = gateway.ask(at(10)).charge.unwrap();
        if !is_leased {
            gateway.memory.link.set_up(false);
            charge = gateway.ask(at(20)).charge.unwrap();
            gateway.memory.link.set_up(true);
        }
        let (limits, route) = (&gateway.limits, &gateway.route);
        limits.give_back_at(route, &everybody(), charge, at(30));
        assert_eq!(gateway.passing(5, at(40)), passing, "leased: {is_leased}");
    }
}

#[test]
fn gateways_of_one_secret_name_a_subject_alike() {
    let key = |secret: &[u8]| {
        let memory = Memory::of_fleet(secret);
        memory.subjects.of(&[By::Gateway], &everybody(), 64)
    };
    assert_eq!(key(b"one"), key(b"one"));
    assert_ne!(key(b"one"), key(b"other"));
}
