use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use super::*;
use crate::auth::demand::{Demand, MissingKey};
use crate::keys::table::Change;
use crate::keys::{
    AllowedIps, BucketName, Consumer, ConsumerId, KeyEntry, KeyId, KeyState, Restrictions,
};
use crate::proxy::{OriginUrl, Upstream};
use crate::routes::PathPrefix;

#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn consumer() -> Consumer {
    Consumer {
        id: ConsumerId::generate().unwrap(),
        bucket: BucketName::default(),
        name: "acme".parse().unwrap(),
        custom_id: None,
        metadata: None,
        scopes: "read write".parse().unwrap(),
        allowed_ips: AllowedIps::default(),
        plan: None,
        allowance: crate::keys::Allowance::default(),
        tags: crate::keys::Tags::default(),
        created_at: UnixMillis(0),
    }
}

fn key_of(consumer: &Consumer, text: &str) -> KeyEntry {
    KeyEntry {
        digest: KeyDigest::of(text.as_bytes()),
        id: KeyId::generate().unwrap(),
        consumer: consumer.id,
        state: KeyState::Active,
        expires_at: None,
        deprecated_at: None,
        scopes: None,
        allowance: crate::keys::Allowance::default(),
        restrictions: Restrictions::default(),
        chain: None,
    }
}

/// A table with consumer `acme` (scopes read and write) and its keys `mine` and `other`.
fn table() -> (Arc<KeyTable>, Consumer, KeyEntry) {
    let (table, acme) = (Arc::new(KeyTable::new()), consumer());
    let (mine, other) = (key_of(&acme, "mine"), key_of(&acme, "other"));
    for change in [
        Change::Consumer(acme.clone()),
        Change::Key(mine.clone()),
        Change::Key(other),
    ] {
        table.apply(change).unwrap();
    }
    (table, acme, mine)
}

/// A change that restricts `key`.
fn restricted(key: &KeyEntry, ips: &str, methods: &str, routes: &str) -> Change {
    let restrictions = Restrictions {
        ips: ips.parse().unwrap(),
        methods: methods.parse().unwrap(),
        routes: routes.parse().unwrap(),
    };
    Change::Key(KeyEntry {
        restrictions,
        ..key.clone()
    })
}

/// Admission of a request with `key` from 192.0.2.1 on a route that demands `read`.
fn admission(key: &str) -> Admission {
    let upstream = Upstream::single("test", OriginUrl::parse("http://127.0.0.1:9000").unwrap());
    let route = Route {
        demand: Demand {
            on_missing_key: MissingKey::Reject,
            buckets: vec![BucketName::default()],
            scopes: vec!["read".parse().unwrap()],
        },
        ..Route::new("test", PathPrefix::default(), Arc::new(upstream))
    };
    let address = IpAddr::from([192, 0, 2, 1]).into();
    Admission {
        caller: Admitted::Key(KeyDigest::of(key.as_bytes())),
        observed: None,
        address,
        method: Method::GET,
        route: Arc::new(route),
        routing: None,
    }
}

#[test]
fn only_the_requests_of_the_key_end_and_are_woken() {
    let (table, _, mine) = table();
    let streams = Rc::new(OpenStreams::new(Arc::clone(&table)));
    let wakers: Vec<Arc<Counter>> = (0..3).map(|_| Arc::default()).collect();
    let waker = |number: usize| Waker::from(Arc::clone(&wakers[number]));
    let entered = ["mine", "other", "mine"].into_iter().enumerate();
    let entered: Vec<OpenStream> = entered
        .map(|(number, key)| streams.enter(admission(key), streams.generation(), waker(number)))
        .collect();
    streams.sweep();
    assert_eq!(entered[0].withdrawn(&waker(0)), None);
    table
        .apply(Change::Key(KeyEntry {
            state: KeyState::Revoked,
            ..mine
        }))
        .unwrap();
    streams.sweep();
    let ended: Vec<_> = entered
        .iter()
        .enumerate()
        .map(|(number, stream)| stream.withdrawn(&waker(number)))
        .collect();
    let revoked = Some(Withdrawal::Denied(Denial::Revoked));
    assert_eq!(ended, [revoked, None, revoked]);
    let woken: Vec<_> = wakers
        .iter()
        .map(|counter| counter.0.load(Ordering::Relaxed))
        .collect();
    assert_eq!(woken, [1, 0, 1]);
}

#[test]
fn whatever_would_keep_a_new_request_out_ends_an_open_one() {
    type Changed = fn(&Consumer, &KeyEntry) -> Change;
    let cases: [(Changed, Option<Denial>); 14] = [
        (
            |_, key| {
                Change::Key(KeyEntry {
                    state: KeyState::Disabled,
                    ..key.clone()
                })
            },
            Some(Denial::Disabled),
        ),
        (
            |_, key| {
                Change::Key(KeyEntry {
                    expires_at: Some(UnixMillis(1)),
                    ..key.clone()
                })
            },
            Some(Denial::Expired),
        ),
        (
            |_, key| Change::KeyRemoved(key.digest),
            Some(Denial::Unknown),
        ),
        (
            |consumer, _| Change::ConsumerRemoved(consumer.id),
            Some(Denial::Unknown),
        ),
        (
            |consumer, _| {
                Change::Consumer(Consumer {
                    allowed_ips: "198.51.100.0/24".parse().unwrap(),
                    ..consumer.clone()
                })
            },
            Some(Denial::Address),
        ),
        (
            |consumer, _| {
                Change::Consumer(Consumer {
                    scopes: "write".parse().unwrap(),
                    ..consumer.clone()
                })
            },
            Some(Denial::Scope),
        ),
        (
            |_, key| {
                Change::Key(KeyEntry {
                    scopes: Some("write".parse().unwrap()),
                    ..key.clone()
                })
            },
            Some(Denial::Scope),
        ),
        (
            |consumer, _| {
                Change::Consumer(Consumer {
                    bucket: "elsewhere".parse().unwrap(),
                    ..consumer.clone()
                })
            },
            Some(Denial::Bucket),
        ),
        (
            |_, key| restricted(key, "192.0.3.0/24", "", ""),
            Some(Denial::Address),
        ),
        (
            |_, key| restricted(key, "192.0.2.0/24", "POST", ""),
            Some(Denial::Method),
        ),
        (
            |_, key| restricted(key, "", "", r#"["other"]"#),
            Some(Denial::Route),
        ),
        (
            |_, key| restricted(key, "192.0.2.0/24", "GET", r#"["other","test"]"#),
            None,
        ),
        (
            |_, key| {
                Change::Key(KeyEntry {
                    scopes: Some("read".parse().unwrap()),
                    ..key.clone()
                })
            },
            None,
        ),
        (
            |consumer, _| {
                Change::Consumer(Consumer {
                    allowed_ips: "192.0.2.0/24".parse().unwrap(),
                    ..consumer.clone()
                })
            },
            None,
        ),
    ];
    for (number, (change, ended)) in cases.into_iter().enumerate() {
        let (table, acme, mine) = table();
        let streams = Rc::new(OpenStreams::new(Arc::clone(&table)));
        let open = streams.enter(
            admission("mine"),
            streams.generation(),
            Waker::noop().clone(),
        );
        table.apply(change(&acme, &mine)).unwrap();
        streams.sweep();
        assert_eq!(
            open.withdrawn(Waker::noop()),
            ended.map(Withdrawal::Denied),
            "{number}"
        );
        let Admission {
            address,
            method,
            route,
            ..
        } = admission("mine");
        let new = table
            .lookup(&KeyDigest::of(b"mine"))
            .map_or(Err(Denial::Unknown), |key| {
                let attempt = Attempt {
                    address: Some(address),
                    method: Some(method.as_str()),
                    route: Some(&route.name),
                };
                route.demand.admits(&key, UnixMillis::now(), &attempt)
            });
        assert_eq!(new.err(), ended, "{number}: a new request");
    }
}

#[test]
fn what_changed_before_a_request_is_entered_is_noticed_at_once() {
    let (table, _, mine) = table();
    let streams = Rc::new(OpenStreams::new(Arc::clone(&table)));
    let since = streams.generation();
    table
        .apply(Change::Key(KeyEntry {
            state: KeyState::Revoked,
            ..mine
        }))
        .unwrap();
    streams.sweep();
    let entered = streams.enter(admission("mine"), since, Waker::noop().clone());
    let revoked = Some(Withdrawal::Denied(Denial::Revoked));
    assert_eq!(entered.withdrawn(Waker::noop()), revoked);
}

#[test]
fn a_place_is_used_again() {
    let (table, ..) = table();
    let streams = Rc::new(OpenStreams::new(table));
    let enter =
        |key: &str| streams.enter(admission(key), streams.generation(), Waker::noop().clone());
    for _ in 0..100 {
        let (first, second) = (enter("mine"), enter("other"));
        drop(first);
        drop(second);
    }
    assert_eq!(streams.slots.borrow().entries.len(), 2);
    streams.sweep();
    assert_eq!(enter("mine").withdrawn(Waker::noop()), None);
}
