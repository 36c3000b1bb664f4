use std::net::IpAddr;

use super::*;
use crate::keys::CallerAddress;

fn limit(name: &str, by: By, limit: u32) -> ConcurrencyLimit {
    ConcurrencyLimit {
        name: name.into(),
        by: vec![by],
        limit,
        routes: None,
        enforce: true,
    }
}

fn from(address: &str) -> Facts<'static> {
    Facts {
        holder: None,
        address: CallerAddress::from(address.parse::<IpAddr>().unwrap()),
        route: "orders",
    }
}

fn in_force(limits: Vec<ConcurrencyLimit>, in_flight: &Arc<InFlight>) -> Concurrency {
    Concurrency::new(limits, 64, &Memory::new(), in_flight)
}

/// The requests that are counted, over all subjects.
fn enter(limits: &Concurrency, address: &str) -> Result<Option<Held>, Arc<str>> {
    let entered = limits.enter(limits.of_route("orders"), &from(address));
    entered.denied.map_or(Ok(entered.held), Err)
}

#[test]
fn each_subject_has_its_number_until_one_of_its_requests_ends() {
    let limits = in_force(
        vec![limit("site", By::Address, 2)],
        &InFlight::for_requests(8),
    );
    let mut held: Vec<_> = (0..2)
        .map(|_| enter(&limits, "192.0.2.1").unwrap())
        .collect();
    assert_eq!(&*enter(&limits, "192.0.2.1").unwrap_err(), "site");
    assert!(enter(&limits, "192.0.2.2").is_ok());
    held.pop();
    let third = enter(&limits, "192.0.2.1");
    assert!(third.is_ok());
    assert!(enter(&limits, "192.0.2.1").is_err());
}

#[test]
fn a_request_that_one_limit_denies_counts_for_none() {
    let in_flight = InFlight::for_requests(8);
    let both = vec![limit("all", By::Gateway, 2), limit("site", By::Address, 1)];
    let limits = in_force(both, &in_flight);
    let first = enter(&limits, "192.0.2.1").unwrap();
    for _ in 0..10 {
        assert_eq!(&*enter(&limits, "192.0.2.1").unwrap_err(), "site");
    }
    let second = enter(&limits, "192.0.2.2").unwrap();
    assert_eq!(&*enter(&limits, "192.0.2.3").unwrap_err(), "all");
    drop((first, second));
    let again = enter(&limits, "192.0.2.3").unwrap();
    assert!(again.is_some());
}

#[test]
fn a_limit_holds_on_its_routes_only_and_costs_nothing_elsewhere() {
    let orders = ConcurrencyLimit {
        routes: Some(vec!["orders".to_owned()]),
        ..limit("one", By::Gateway, 1)
    };
    let limits = in_force(vec![orders], &InFlight::for_requests(8));
    let facts = from("192.0.2.1");
    let _held = enter(&limits, "192.0.2.1").unwrap();
    let elsewhere = limits.enter(limits.of_route("other"), &facts);
    assert!(elsewhere.denied.is_none() && elsewhere.held.is_none());
}

#[test]
fn what_is_not_enforced_counts_and_tells() {
    let in_flight = InFlight::for_requests(8);
    let shadow = ConcurrencyLimit {
        enforce: false,
        ..limit("one", By::Gateway, 1)
    };
    let memory = Memory::new();
    let limits = Concurrency::new(vec![shadow], 64, &memory, &in_flight);
    let holding = limits.of_route("orders");
    let facts = from("192.0.2.1");
    let entered: Vec<_> = (0..3).map(|_| limits.enter(holding, &facts)).collect();
    let would: Vec<bool> = entered.iter().map(|entered| entered.would_deny).collect();
    assert_eq!(would, [false, true, true]);
    // Once it is enforced, those count.
    let enforced = Concurrency::new(vec![limit("one", By::Gateway, 3)], 64, &memory, &in_flight);
    assert!(
        enforced
            .enter(enforced.of_route("orders"), &facts)
            .denied
            .is_some()
    );
    drop(entered);
    assert!(
        enforced
            .enter(enforced.of_route("orders"), &facts)
            .denied
            .is_none()
    );
}

#[test]
fn sixty_four_threads_have_exactly_the_limit_and_leave_nothing() {
    const LIMIT: u32 = 10;
    let limits = in_force(
        vec![limit("all", By::Gateway, LIMIT)],
        &InFlight::for_requests(64),
    );
    let now = std::sync::atomic::AtomicU32::new(0);
    let entered = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                for _ in 0..1_000 {
                    if let Ok(held) = enter(&limits, "192.0.2.1") {
                        let before = now.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        assert!(before < LIMIT, "{before}");
                        entered.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        std::thread::yield_now();
                        now.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(held);
                    }
                }
            });
        }
    });
    assert!(entered.into_inner() > LIMIT);
    let held: Vec<_> = (0..LIMIT)
        .map(|_| enter(&limits, "192.0.2.1").unwrap())
        .collect();
    assert!(enter(&limits, "192.0.2.1").is_err());
    drop(held);
}
