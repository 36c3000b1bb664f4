use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::keys::ConsumerId;

/// A key and its ordinal among things with this key.
#[derive(Clone, Debug)]
struct Thing(KeyDigest, u32);

impl Keyed for Thing {
    type Key = KeyDigest;

    fn key(&self) -> &KeyDigest {
        &self.0
    }
}

fn number_of(shards: &Shards<Thing>, key: KeyDigest) -> Option<u32> {
    let found = shards.find(&key, |thing| thing.1);
    assert_eq!(shards.hold(&key).map(|held| held.1), found);
    found
}

/// Replaces an item unless both ordinals fall into the same group of four.
fn takes_place(new: &Thing, old: u32) -> bool {
    new.1 / 4 != old / 4
}

/// Clustered keys: few values in the bytes that choose the shard and the position, and in the last
/// byte.
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
    PutAll(Vec<KeyDigest>),
    Remove(KeyDigest),
    Retain(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        crowded().prop_map(Step::Put),
        prop::collection::vec(crowded(), 0..40).prop_map(Step::PutAll),
        crowded().prop_map(Step::Remove),
        (0_u8..3).prop_map(Step::Retain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn things_are_those_of_an_ordinary_map(steps in prop::collection::vec(step(), 1..30), probes in prop::collection::vec(crowded(), 20)) {
        let shards = Shards::new();
        let mut expected: BTreeMap<[u8; 32], u32> = BTreeMap::new();
        let mut number = 0;
        for step in steps {
            let mut next = |key: KeyDigest| {
                number += 1;
                let new = Thing(key, number);
                let stands = expected.entry(*key.as_bytes()).or_insert(number);
                if takes_place(&new, *stands) {
                    *stands = number;
                }
                new
            };
            let replace = |new: &mut Thing, old: &Thing| {
                assert!(new.0 == old.0 && new.1 > old.1);
                takes_place(new, old.1)
            };
            match step {
                Step::Put(key) => shards.put(next(key), replace),
                Step::PutAll(keys) => {
                    let mut batch = Batch::default();
                    keys.into_iter().for_each(|key| batch.push(next(key)));
                    shards.put_all(&mut batch, replace);
                    prop_assert_eq!(batch.len(), 0);
                }
                Step::Remove(key) => {
                    let gone = shards.remove(&key).map(|thing| thing.1);
                    prop_assert_eq!(gone, expected.remove(key.as_bytes()));
                }
                Step::Retain(last) => {
                    shards.retain(|thing| thing.0.as_bytes()[31] != last);
                    expected.retain(|key, _| key[31] != last);
                }
            }
            prop_assert_eq!(shards.len(), expected.len());
            for key in expected.keys().copied().chain(probes.iter().map(|key| *key.as_bytes())) {
                prop_assert_eq!(number_of(&shards, key.into()), expected.get(&key).copied());
            }
        }
    }
}

#[test]
fn the_first_and_the_last_key_have_a_place() {
    let shards = Shards::new();
    for byte in [0, 0xff] {
        shards.put(Thing(KeyDigest::from([byte; 32]), byte.into()), |_, _| true);
    }
    assert_eq!(number_of(&shards, KeyDigest::from([0; 32])), Some(0));
    assert_eq!(number_of(&shards, KeyDigest::from([0xff; 32])), Some(255));
    assert_eq!(number_of(&shards, KeyDigest::from([0x80; 32])), None);
}

#[test]
fn what_is_held_stays_as_it_was() {
    let shards = Shards::new();
    let key = KeyDigest::of(b"one");
    shards.put(Thing(key, 1), |_, _| true);
    let held = shards.hold(&key).unwrap();
    shards.put(Thing(key, 2), |_, _| true);
    assert_eq!((held.1, number_of(&shards, key)), (1, Some(2)));
    shards.remove(&key);
    assert_eq!((held.clone().1, number_of(&shards, key)), (1, None));
}

/// An import generates ids in sorted runs with a common prefix; they must spread over all shards.
#[test]
fn ids_that_begin_alike_spread_over_all_shards() {
    const EACH: usize = 8;
    let ids = ConsumerId::generate_run(EACH * SHARDS).unwrap();
    // Ids counted up by hand, in their last or first characters.
    let counted = |number: usize| format!("csmr_{number:020}").parse::<ConsumerId>().unwrap();
    let reversed = |number: usize| {
        format!("csmr_{number:06}{:014}", 0)
            .parse::<ConsumerId>()
            .unwrap()
    };
    let numbers = 0..EACH * SHARDS;
    for ids in [
        ids,
        numbers.clone().map(counted).collect(),
        numbers.map(reversed).collect(),
    ] {
        let mut sizes = vec![0_usize; SHARDS];
        ids.iter().for_each(|id| sizes[shard_of(&id.pack())] += 1);
        // Of 16,384 shards with 8 each by chance, one in a million would have more than 35.
        assert!(
            sizes.iter().all(|size| *size <= 35),
            "{:?}",
            sizes.iter().max()
        );
    }
}
