use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::keys::{Consumer, ConsumerId, KeyEntry, KeyId, KeyState, UnixMillis};

fn cell() -> Arc<ConsumerCell> {
    Arc::new(ConsumerCell::new(Consumer {
        id: ConsumerId::generate().unwrap(),
        bucket: Default::default(),
        name: "acme".parse().unwrap(),
        custom_id: None,
        metadata: None,
        scopes: Default::default(),
        allowed_ips: Default::default(),
    }))
}

fn record(digest: KeyDigest, end: i64, cell: &Arc<ConsumerCell>) -> KeyRecord {
    let entry = KeyEntry {
        digest,
        id: "key_0123456789abcdefghij".parse::<KeyId>().unwrap(),
        consumer: "csmr_0123456789abcdefghij".parse().unwrap(),
        state: KeyState::Active,
        expires_at: Some(UnixMillis(end)),
        deprecated_at: None,
        scopes: None,
    };
    KeyRecord::new(entry, Arc::clone(cell))
}

fn end_of(records: &Records, digest: &KeyDigest) -> Option<i64> {
    records.find(digest, |record| record.expires_at().unwrap().0)
}

/// Digests that crowd: few values of the bytes that choose the shard and the place, and of the last.
fn crowded() -> impl Strategy<Value = KeyDigest> {
    (0_u8..3, 0_u8..4, any::<u8>(), 0_u8..3).prop_map(|(first, third, eighth, last)| {
        let mut bytes = [0; 32];
        bytes[0] = first * 0x7f;
        bytes[2] = third * 0x55;
        bytes[7] = eighth & 0x11;
        bytes[31] = last;
        KeyDigest::from(bytes)
    })
}

#[derive(Clone, Debug)]
enum Step {
    Put(KeyDigest),
    PutAll(Vec<KeyDigest>, Usage),
    Remove(KeyDigest),
    Retain(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        crowded().prop_map(Step::Put),
        (prop::collection::vec(crowded(), 0..40), prop_oneof![Just(Usage::Requests), Just(Usage::Nobody)])
            .prop_map(|(digests, usage)| Step::PutAll(digests, usage)),
        crowded().prop_map(Step::Remove),
        (0_u8..3).prop_map(Step::Retain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn records_are_those_of_an_ordinary_map(steps in prop::collection::vec(step(), 1..30), probes in prop::collection::vec(crowded(), 20)) {
        let (records, cell) = (Records::new(), cell());
        let mut expected: BTreeMap<[u8; 32], i64> = BTreeMap::new();
        let mut end = 0;
        for step in steps {
            match step {
                Step::Put(digest) => {
                    end += 1;
                    records.put(record(digest, end, &cell));
                    expected.insert(*digest.as_bytes(), end);
                }
                Step::PutAll(digests, usage) => {
                    let mut batch = Batch::default();
                    for digest in digests {
                        end += 1;
                        batch.push(record(digest, end, &cell));
                        expected.insert(*digest.as_bytes(), end);
                    }
                    records.put_all(&mut batch, usage);
                    prop_assert_eq!(batch.len(), 0);
                }
                Step::Remove(digest) => {
                    records.remove(&digest);
                    expected.remove(digest.as_bytes());
                }
                Step::Retain(last) => {
                    records.retain(|record| record.digest.as_bytes()[31] != last);
                    expected.retain(|digest, _| digest[31] != last);
                }
            }
            prop_assert_eq!(records.len(), expected.len());
            prop_assert_eq!(cell.keys.load(Ordering::Relaxed) as usize, expected.len());
            for digest in expected.keys().copied().chain(probes.iter().map(|digest| *digest.as_bytes())) {
                prop_assert_eq!(end_of(&records, &digest.into()), expected.get(&digest).copied());
            }
        }
    }
}

#[test]
fn the_first_and_the_last_digest_have_a_place() {
    let (records, cell) = (Records::new(), cell());
    for byte in [0, 0xff] {
        records.put(record(KeyDigest::from([byte; 32]), i64::from(byte), &cell));
    }
    assert_eq!(end_of(&records, &KeyDigest::from([0; 32])), Some(0));
    assert_eq!(end_of(&records, &KeyDigest::from([0xff; 32])), Some(255));
    assert_eq!(end_of(&records, &KeyDigest::from([0x80; 32])), None);
}

#[test]
fn orphans_are_swept_out_before_they_are_many() {
    let (records, stays) = (Records::new(), cell());
    for round in 0..40_u32 {
        let gone = cell();
        let mut batch = Batch::default();
        for number in 0..100_u32 {
            batch.push(record(KeyDigest::of(format!("gone {round} {number}").as_bytes()), 1, &gone));
        }
        batch.push(record(KeyDigest::of(format!("stays {round}").as_bytes()), 1, &stays));
        records.put_all(&mut batch, Usage::Nobody);
        gone.current.store(None);
        records.orphaned(&gone);
        let mut held = 0;
        records.for_each(|_| held += 1);
        let live = round as usize + 1;
        assert_eq!(records.len(), live);
        assert_eq!(held, live + records.orphans.load(Ordering::Relaxed));
        assert!(held <= live + MOST_ORPHANS, "{held}");
    }
}
