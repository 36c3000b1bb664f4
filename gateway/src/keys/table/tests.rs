use std::net::IpAddr;
use std::sync::atomic::AtomicUsize;
use std::thread;

use super::*;
use crate::keys::{AllowedIps, BucketName, KeyState, KeyStatus, Plan, Scopes, UnixMillis};

const NOW: UnixMillis = UnixMillis(1_000_000);

fn consumer(name: &str, scopes: &str) -> Consumer {
    Consumer {
        id: ConsumerId::generate().unwrap(),
        bucket: BucketName::default(),
        name: name.parse().unwrap(),
        custom_id: None,
        metadata: None,
        scopes: scopes.parse().unwrap(),
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
        restrictions: crate::keys::Restrictions::default(),
        chain: None,
    }
}

fn find(table: &KeyTable, text: &str) -> Option<KnownKey> {
    table.lookup(&KeyDigest::of(text.as_bytes()))
}

fn consumers(table: &KeyTable) -> Vec<Consumer> {
    let mut all = Vec::new();
    let shown: Result<(), ()> = table.each_consumer(|consumer| {
        all.push(consumer);
        Ok(())
    });
    shown.unwrap();
    all
}

/// Number of keys in the table, orphans included.
fn held(table: &KeyTable) -> usize {
    let mut held = 0;
    table.keys.for_each(|_| held += 1);
    held
}

/// A loaded table with consumer `acme` and its keys `one` and `two`.
fn acme() -> (KeyTable, Consumer, KeyEntry, KeyEntry) {
    let table = KeyTable::new();
    let acme = consumer("acme", "read write");
    let (one, two) = (key_of(&acme, "one"), key_of(&acme, "two"));
    load(&table, [&acme], [&one, &two]);
    (table, acme, one, two)
}

fn load<'a>(
    table: &KeyTable,
    consumers: impl IntoIterator<Item = &'a Consumer>,
    keys: impl IntoIterator<Item = &'a KeyEntry>,
) {
    let mut reload = table.reload();
    consumers
        .into_iter()
        .cloned()
        .for_each(|consumer| reload.consumer(consumer));
    keys.into_iter()
        .cloned()
        .for_each(|key| reload.key(key).unwrap());
    reload.finish();
}

#[test]
fn a_key_is_found_by_its_digest_and_no_other() {
    let (table, acme, one, _) = acme();
    let found = find(&table, "one").unwrap();
    assert_eq!(*found.id(), one.id);
    assert_eq!(found.consumer().id, &acme.id);
    assert_eq!(found.consumer().name, &acme.name);
    assert_eq!(consumers(&table), [acme]);
    assert_eq!(found.status(NOW), KeyStatus::Active);
    assert!(find(&table, "three").is_none());
    // Same hash, different digest.
    let mut near = *one.digest.as_bytes();
    near[31] ^= 1;
    assert!(table.lookup(&near.into()).is_none());
}

#[test]
fn the_table_counts_as_loaded_only_after_a_whole_load() {
    let table = KeyTable::new();
    assert!(!table.is_loaded());
    let mut reload = table.reload();
    reload.consumer(consumer("acme", ""));
    assert!(!table.is_loaded());
    reload.finish();
    assert!(table.is_loaded());
    assert!(table.is_empty());
}

#[test]
fn a_revoked_key_is_known_and_revoked() {
    let (table, _, one, _) = acme();
    let before = find(&table, "one").unwrap();
    table
        .apply(Change::Key(KeyEntry {
            state: KeyState::Revoked,
            ..one
        }))
        .unwrap();
    assert_eq!(find(&table, "one").unwrap().status(NOW), KeyStatus::Revoked);
    assert_eq!(
        before.status(NOW),
        KeyStatus::Active,
        "a request keeps what it looked up"
    );
    assert_eq!(find(&table, "two").unwrap().status(NOW), KeyStatus::Active);
    assert_eq!(table.len(), 2);
}

#[test]
fn a_key_expires_by_itself() {
    let (table, _, one, _) = acme();
    table
        .apply(Change::Key(KeyEntry {
            expires_at: Some(NOW),
            ..one
        }))
        .unwrap();
    let found = find(&table, "one").unwrap();
    assert_eq!(found.status(UnixMillis(NOW.0 - 1)), KeyStatus::Active);
    assert_eq!(found.status(NOW), KeyStatus::Expired);
    assert_eq!(found.expires_at(), Some(NOW));
}

#[test]
fn a_changed_consumer_changes_all_its_keys_at_once() {
    let (table, acme, ..) = acme();
    table
        .apply(Change::Consumer(Consumer {
            name: "acme 2".parse().unwrap(),
            scopes: Scopes::default(),
            ..acme
        }))
        .unwrap();
    for text in ["one", "two"] {
        let found = find(&table, text).unwrap();
        assert_eq!(found.consumer().name.as_str(), "acme 2");
        assert!(!found.allows("read"));
    }
}

#[test]
fn keys_of_a_removed_consumer_are_unknown() {
    let (table, acme, one, _) = acme();
    let other = consumer("other", "");
    table.apply(Change::Consumer(other.clone())).unwrap();
    table.apply(Change::Key(key_of(&other, "three"))).unwrap();

    table.apply(Change::ConsumerRemoved(acme.id)).unwrap();
    assert!(find(&table, "one").is_none());
    assert!(find(&table, "two").is_none());
    assert!(find(&table, "three").is_some());
    assert_eq!(table.len(), 1);

    // Once more, and a late key.
    table.apply(Change::ConsumerRemoved(acme.id)).unwrap();
    let late = table.apply(Change::Key(one.clone()));
    assert_eq!(
        late,
        Err(UnknownConsumer {
            key: one.id,
            consumer: acme.id
        })
    );
}

#[test]
fn a_removed_key_is_unknown() {
    let (table, _, one, _) = acme();
    table.apply(Change::KeyRemoved(one.digest)).unwrap();
    table.apply(Change::KeyRemoved(one.digest)).unwrap();
    assert!(find(&table, "one").is_none());
    assert!(find(&table, "two").is_some());
}

#[test]
fn a_key_may_do_less_than_its_consumer_and_never_more() {
    let (table, acme, one, two) = acme();
    let narrow = |entry: KeyEntry, scopes: &str| {
        Change::Key(KeyEntry {
            scopes: Some(scopes.parse().unwrap()),
            ..entry
        })
    };
    table.apply(narrow(one, "admin read")).unwrap();
    table.apply(narrow(two, "")).unwrap();
    table.apply(Change::Key(key_of(&acme, "three"))).unwrap();
    for (text, scopes) in [("one", "read"), ("two", ""), ("three", "read write")] {
        let found = find(&table, text).unwrap();
        assert_eq!(found.scopes().as_str(), scopes, "{text}");
        for scope in ["read", "write", "admin"] {
            assert_eq!(
                found.allows(scope),
                found.scopes().contains(scope),
                "{text} {scope}"
            );
        }
    }
}

#[test]
fn a_reload_removes_what_it_does_not_mention() {
    let (table, acme, one, _) = acme();
    let other = consumer("other", "");
    table.apply(Change::Consumer(other.clone())).unwrap();
    table.apply(Change::Key(key_of(&other, "three"))).unwrap();
    load(&table, [&acme], [&one]);
    assert_eq!(table.len(), 1);
    assert!(find(&table, "one").is_some());
    assert!(find(&table, "two").is_none());
    assert!(find(&table, "three").is_none());
}

#[test]
fn a_reload_that_stops_halfway_removes_nothing() {
    let (table, acme, ..) = acme();
    // Never finished.
    table.reload().consumer(acme);
    assert_eq!(table.len(), 2);
    assert!(find(&table, "two").is_some());
}

#[test]
fn look_ups_go_on_while_the_table_is_loaded_again() {
    let (table, acme, ..) = acme();
    let keys: Vec<KeyEntry> = (0..2_000)
        .map(|number| key_of(&acme, &format!("key {number}")))
        .collect();
    load(&table, [&acme], &keys);
    let found = AtomicUsize::new(0);
    let writing = AtomicBool::new(true);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while writing.load(Ordering::Relaxed) {
                    for key in &keys {
                        assert!(table.lookup(&key.digest).is_some());
                        found.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for round in 0..20 {
            let end = Some(UnixMillis(NOW.0 + round));
            let moved: Vec<KeyEntry> = keys
                .iter()
                .map(|key| KeyEntry {
                    expires_at: end,
                    ..key.clone()
                })
                .collect();
            load(&table, [&acme], &moved);
        }
        writing.store(false, Ordering::Relaxed);
    });
    assert!(found.into_inner() >= keys.len());
    assert_eq!(table.len(), keys.len());
}

#[test]
fn a_load_that_began_before_another_removes_nothing() {
    let (table, acme, one, _) = acme();
    let earlier = table.reload();
    let mut later = table.reload();
    earlier.finish();
    assert_eq!(table.len(), 2);
    later.consumer(acme);
    later.key(one).unwrap();
    later.finish();
    assert_eq!(table.len(), 1);
}

#[test]
fn what_is_applied_while_a_load_goes_on_stays() {
    let (table, acme, one, _) = acme();
    let mut reload = table.reload();
    reload.consumer(acme.clone());
    reload
        .key(KeyEntry {
            expires_at: Some(NOW),
            ..one.clone()
        })
        .unwrap();
    table
        .apply(Change::Key(KeyEntry {
            state: KeyState::Revoked,
            ..one
        }))
        .unwrap();
    table.apply(Change::Key(key_of(&acme, "three"))).unwrap();
    reload.finish();
    assert_eq!(find(&table, "one").unwrap().status(NOW), KeyStatus::Revoked);
    assert!(find(&table, "two").is_none());
    assert!(find(&table, "three").is_some());
    assert_eq!(table.len(), 2);
}

#[test]
fn a_load_that_says_nothing_new_takes_no_memory() {
    let (table, acme, one, two) = acme();
    let places = || {
        let key = table
            .keys
            .find(&one.digest, |record| std::ptr::from_ref(record).addr());
        let consumer = table
            .consumers
            .find(&acme.id.pack(), |record| std::ptr::from_ref(record).addr());
        (key.unwrap(), consumer.unwrap())
    };
    let before = places();
    load(&table, [&acme], [&one, &two]);
    assert_eq!(places(), before);
}

#[test]
fn what_is_removed_is_freed() {
    let (table, acme, ..) = acme();
    let many: Vec<KeyEntry> = (0..100)
        .map(|number| key_of(&acme, &format!("key {number}")))
        .collect();
    load(&table, [&acme], &many);
    assert_eq!(held(&table), 100);
    table.apply(Change::KeyRemoved(many[0].digest)).unwrap();
    assert_eq!(held(&table), 99);
    table.apply(Change::ConsumerRemoved(acme.id)).unwrap();
    assert!(consumers(&table).is_empty());
    load(&table, [], []);
    assert_eq!((held(&table), table.len(), table.orphans()), (0, 0, 0));
}

#[test]
fn keys_of_removed_consumers_are_swept_out_before_they_are_many() {
    let (table, acme, ..) = acme();
    for round in 0..40_usize {
        let gone = consumer(&format!("gone {round}"), "");
        table.apply(Change::Consumer(gone.clone())).unwrap();
        for number in 0..100 {
            table
                .apply(Change::Key(key_of(
                    &gone,
                    &format!("gone {round} {number}"),
                )))
                .unwrap();
        }
        table
            .apply(Change::Key(key_of(&acme, &format!("stays {round}"))))
            .unwrap();
        table.apply(Change::ConsumerRemoved(gone.id)).unwrap();
        assert_eq!(table.len(), 2 + round + 1);
        assert_eq!(held(&table), table.len() + table.orphans());
        assert!(table.orphans() <= 1024, "{}", table.orphans());
    }
}

#[test]
fn deleted_consumers_are_forgotten_with_their_last_key() {
    let (table, ..) = acme();
    for round in 0..100 {
        let gone = consumer(&format!("gone {round}"), "");
        let key = key_of(&gone, "three");
        table.apply(Change::Consumer(gone.clone())).unwrap();
        table.apply(Change::Key(key.clone())).unwrap();
        table.apply(Change::ConsumerRemoved(gone.id)).unwrap();
        table.apply(Change::KeyRemoved(key.digest)).unwrap();
        assert_eq!((table.len(), table.orphans()), (2, 0));
        assert!(table.writer.lock().unwrap().deleted.len() <= 1);
    }
}

#[test]
fn a_consumer_that_comes_back_does_not_bring_its_former_keys() {
    let (table, acme, one, two) = acme();
    table.apply(Change::ConsumerRemoved(acme.id)).unwrap();
    assert_eq!((table.len(), held(&table)), (0, 2));
    table.apply(Change::Consumer(acme.clone())).unwrap();
    assert!(find(&table, "one").is_none());
    table.apply(Change::Key(one.clone())).unwrap();
    assert!(find(&table, "one").is_some());
    assert!(find(&table, "two").is_none());
    assert_eq!((table.len(), held(&table)), (1, 1));

    // The same by a load.
    table.apply(Change::Key(two)).unwrap();
    table.apply(Change::ConsumerRemoved(acme.id)).unwrap();
    load(&table, [&acme], [&one]);
    assert!(find(&table, "one").is_some());
    assert!(find(&table, "two").is_none());
    assert_eq!((table.len(), held(&table)), (1, 1));
}

#[test]
fn a_key_that_is_given_to_another_consumer_counts_as_its_own() {
    let (table, acme, one, _) = acme();
    let other = consumer("other", "");
    table.apply(Change::Consumer(other.clone())).unwrap();
    table
        .apply(Change::Key(KeyEntry {
            consumer: other.id,
            ..one
        }))
        .unwrap();
    assert_eq!(find(&table, "one").unwrap().consumer().id, &other.id);
    table.apply(Change::ConsumerRemoved(acme.id)).unwrap();
    assert_eq!(table.len(), 1);
    table.apply(Change::ConsumerRemoved(other.id)).unwrap();
    assert_eq!(table.len(), 0);
}

#[test]
fn a_changed_consumer_still_has_its_keys() {
    let (table, acme, ..) = acme();
    let renamed = Consumer {
        name: "acme 2".parse().unwrap(),
        ..acme
    };
    table.apply(Change::Consumer(renamed.clone())).unwrap();
    table.apply(Change::ConsumerRemoved(renamed.id)).unwrap();
    assert_eq!(table.len(), 0);
}

/// Consumers and keys interleaved in one load, some of them twice.
#[test]
fn a_load_in_any_order_counts_right() {
    let table = KeyTable::new();
    let all: Vec<Consumer> = (0..50)
        .map(|number| consumer(&format!("consumer {number}"), "read"))
        .collect();
    for _ in 0..2 {
        let mut reload = table.reload();
        for (number, consumer) in all.iter().enumerate() {
            let key = key_of(consumer, &format!("key {number}"));
            reload.consumer(consumer.clone());
            reload.key(key.clone()).unwrap();
            reload.consumer(Consumer {
                scopes: Scopes::default(),
                ..consumer.clone()
            });
            reload
                .key(KeyEntry {
                    state: KeyState::Disabled,
                    ..key
                })
                .unwrap();
        }
        reload.finish();
        assert_eq!(table.len(), all.len());
        assert_eq!(
            find(&table, "key 7").unwrap().status(NOW),
            KeyStatus::Disabled
        );
        assert!(!find(&table, "key 7").unwrap().allows("read"));
    }
    for (number, consumer) in all.iter().enumerate() {
        table.apply(Change::ConsumerRemoved(consumer.id)).unwrap();
        assert_eq!(table.len(), all.len() - number - 1);
    }
}

#[test]
fn a_key_may_be_used_from_where_its_consumer_may() {
    let (table, acme, ..) = acme();
    let inside: IpAddr = "192.0.2.7".parse().unwrap();
    let outside: IpAddr = "198.51.100.1".parse().unwrap();
    assert!(find(&table, "one").unwrap().allows_address(outside));
    table
        .apply(Change::Consumer(Consumer {
            allowed_ips: "192.0.2.0/24".parse().unwrap(),
            ..acme
        }))
        .unwrap();
    assert!(find(&table, "one").unwrap().allows_address(inside));
    assert!(!find(&table, "one").unwrap().allows_address(outside));
}

fn plan(name: &str, scopes: &str, limits: &str) -> Plan {
    Plan {
        name: name.parse().unwrap(),
        scopes: scopes.parse().unwrap(),
        allowance: crate::keys::Allowance {
            rates: limits.parse().unwrap(),
            ..crate::keys::Allowance::default()
        },
    }
}

#[test]
fn a_plan_is_in_force_for_all_its_consumers_at_once() {
    let table = KeyTable::new();
    let of_plan = |name: &str| Consumer {
        plan: Some("gold".parse().unwrap()),
        ..consumer(name, "own")
    };
    let (one, two, other) = (of_plan("one"), of_plan("two"), consumer("other", "own"));
    let narrow = KeyEntry {
        scopes: Some("own write".parse().unwrap()),
        ..key_of(&two, "narrow")
    };
    // A consumer before its plan: its keys are unknown, as their bounds are.
    load(
        &table,
        [&one, &two, &other],
        [&key_of(&one, "1"), &narrow, &key_of(&other, "3")],
    );
    assert!(find(&table, "1").is_none() && find(&table, "narrow").is_none());
    assert!(find(&table, "3").unwrap().plan().is_none());

    let gold = plan("gold", "read write", "burst=5/1m");
    table.apply(Change::Plan(gold.clone())).unwrap();
    let known = find(&table, "1").unwrap();
    assert_eq!(known.plan(), Some(&gold));
    assert_eq!(known.scopes().as_str(), "own read write");
    let narrow = find(&table, "narrow").unwrap();
    assert_eq!(narrow.scopes().as_str(), "own write");
    for (scope, of_one, of_narrow) in [
        ("own", true, true),
        ("read", true, false),
        ("write", true, true),
        ("admin", false, false),
    ] {
        assert_eq!(
            (known.allows(scope), narrow.allows(scope)),
            (of_one, of_narrow),
            "{scope}"
        );
    }
    assert!(!find(&table, "3").unwrap().allows("read"));

    table.apply(Change::Plan(plan("gold", "", ""))).unwrap();
    assert!(!find(&table, "1").unwrap().allows("read"));
    assert_eq!(find(&table, "1").unwrap().scopes().as_str(), "own");
    assert!(
        known.allows("read"),
        "what was looked up before stays as it was"
    );

    table.apply(Change::PlanRemoved(gold.name.clone())).unwrap();
    assert!(find(&table, "1").is_none());
    assert!(table.plans().is_empty());
    // It comes back, also for those that referred to it all the time.
    table.apply(Change::Plan(gold.clone())).unwrap();
    assert!(find(&table, "1").unwrap().allows("read"));
    // A load without it removes it; consumers that no longer refer to it are not touched.
    let free = Consumer {
        plan: None,
        ..one.clone()
    };
    load(
        &table,
        [&free, &two],
        [&key_of(&free, "1"), &key_of(&two, "2")],
    );
    assert!(find(&table, "1").is_some() && find(&table, "2").is_none());
    assert!(consumers(&table).contains(&two), "the plan's name is kept");
}
