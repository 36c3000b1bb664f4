//! [`Shards`]: a sorted in-memory map of many small items with lock-free reads.
//!
//! Items are split into shards by the first bits of their keys' hashes. A shard is an immutable
//! array sorted by hash: a writer replaces the whole shard. Hashes are uniform, so an item is close
//! to its interpolated position and no slot stays empty. With a million items a shard holds 61, and
//! a change copies some 5 kB.

use std::cmp::Ordering;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use arc_swap::{ArcSwapOption, Guard};

use crate::keys::KeyDigest;
use crate::keys::id::PackedId;

const SHARD_BITS: u32 = 14;
const SHARDS: usize = 1 << SHARD_BITS;

/// Key of an item.
pub(super) trait Key: PartialEq {
    /// Returns the hash, which must be uniform.
    fn hash(&self) -> u64;

    /// Returns the key itself, which orders keys with equal hashes.
    fn as_bytes(&self) -> &[u8];
}

/// An item that contains its key.
pub(super) trait Keyed: Clone {
    /// Type of the key.
    type Key: Key;

    fn key(&self) -> &Self::Key;
}

/// Items by key. The caller must serialize writes.
#[derive(Debug)]
pub(super) struct Shards<T> {
    shards: Box<[ArcSwapOption<Shard<T>>]>,
    len: AtomicUsize,
}

/// Items to be added to [`Shards`], roughly sorted: each part is freed before the next shards are
/// allocated, so they reuse its memory.
#[derive(Debug)]
pub(super) struct Batch<T> {
    parts: Vec<Vec<T>>,
    len: usize,
}

/// An item as of its look-up. Keeps its shard in memory instead of copying.
#[derive(Debug)]
pub(super) struct Held<T> {
    shard: Arc<Shard<T>>,
    position: usize,
}

#[derive(Debug)]
struct Shard<T>(Box<[T]>);

impl<T: Keyed> Shards<T> {
    pub(super) fn new() -> Self {
        Self {
            shards: std::iter::repeat_with(ArcSwapOption::empty)
                .take(SHARDS)
                .collect(),
            len: AtomicUsize::new(0),
        }
    }

    /// Returns the number of items.
    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// Applies `read` to the item with this key. Takes no lock and never waits.
    pub(super) fn find<R>(&self, key: &T::Key, read: impl FnOnce(&T) -> R) -> Option<R> {
        let shard = self.shards.get(shard_of(key))?.load();
        shard.as_deref()?.get(key).map(read)
    }

    /// Returns the item with this key, to keep.
    pub(super) fn hold(&self, key: &T::Key) -> Option<Held<T>> {
        let shard = self.shards.get(shard_of(key))?.load();
        let position = shard.as_ref()?.position(key)?;
        Some(Held {
            shard: Guard::into_inner(shard)?,
            position,
        })
    }

    /// Calls `look` for every item whose key has this hash.
    pub(super) fn for_each_of_hash(&self, hash: u64, mut look: impl FnMut(&T)) {
        let shard = self
            .shards
            .get(shard_of_hash(hash))
            .map(ArcSwapOption::load);
        if let Some(shard) = shard.as_ref().and_then(|shard| shard.as_deref()) {
            shard.of_hash(hash).for_each(|(_, thing)| look(thing));
        }
    }

    /// Calls `look` for every item.
    pub(super) fn for_each(&self, mut look: impl FnMut(&T)) {
        for shard in &self.shards {
            if let Some(shard) = shard.load().as_deref() {
                shard.0.iter().for_each(&mut look);
            }
        }
    }

    /// Inserts `thing`. For an existing key, `replace` compares both and decides whether the new
    /// item wins.
    pub(super) fn put(&self, thing: T, mut replace: impl FnMut(&mut T, &T) -> bool) {
        self.put_into(shard_of(thing.key()), vec![thing], &mut replace);
    }

    /// Inserts all of `batch`, as [`put`](Self::put) does. Duplicates within the batch are merged
    /// first.
    pub(super) fn put_all(
        &self,
        batch: &mut Batch<T>,
        mut replace: impl FnMut(&mut T, &T) -> bool,
    ) {
        for mut part in std::mem::take(batch).parts {
            part.sort_by_key(|thing| shard_of(thing.key()));
            while let Some(shard) = part.last().map(|thing| shard_of(thing.key())) {
                let first = part.partition_point(|thing| shard_of(thing.key()) < shard);
                self.put_into(shard, part.split_off(first), &mut replace);
            }
        }
    }

    /// Removes and returns the item with this key.
    pub(super) fn remove(&self, key: &T::Key) -> Option<T> {
        let gone = self.find(key, T::clone)?;
        self.retain_in(shard_of(key), |thing| thing.key() != key);
        Some(gone)
    }

    /// Removes the items that `keep` rejects. Scans all items and copies each shard that loses one.
    pub(super) fn retain(&self, mut keep: impl FnMut(&T) -> bool) {
        for shard in 0..SHARDS {
            self.retain_in(shard, &mut keep);
        }
    }

    fn put_into(
        &self,
        number: usize,
        mut new: Vec<T>,
        replace: &mut impl FnMut(&mut T, &T) -> bool,
    ) {
        let Some(shard) = self.shards.get(number) else {
            return;
        };
        let before = shard.load();
        let old = before.as_deref().map_or(&[][..], |old| &old.0);
        sort(&mut new);
        new.dedup_by(|later, earlier| {
            let is_same = is_same(later, earlier);
            if is_same && replace(later, earlier) {
                std::mem::swap(later, earlier);
            }
            is_same
        });
        new.retain_mut(|thing| {
            before
                .as_deref()
                .and_then(|old| old.get(thing.key()))
                .is_none_or(|old| replace(thing, old))
        });
        if new.is_empty() {
            return;
        }
        let mut things = Vec::with_capacity(old.len() + new.len());
        things.extend_from_slice(old);
        // New items last: the sort is stable.
        things.extend(new);
        sort(&mut things);
        things.dedup_by(|later, earlier| {
            let is_same = is_same(later, earlier);
            if is_same {
                std::mem::swap(later, earlier);
            }
            is_same
        });
        self.len.fetch_add(things.len() - old.len(), Relaxed);
        shard.store(Some(Arc::new(Shard(things.into_boxed_slice()))));
    }

    fn retain_in(&self, number: usize, mut keep: impl FnMut(&T) -> bool) {
        let Some(shard) = self.shards.get(number) else {
            return;
        };
        let Some(before) = shard.load_full() else {
            return;
        };
        let kept: Vec<&T> = before.0.iter().filter(|thing| keep(thing)).collect();
        if kept.len() == before.0.len() {
            return;
        }
        self.len.fetch_sub(before.0.len() - kept.len(), Relaxed);
        let after: Box<[T]> = kept.into_iter().cloned().collect();
        shard.store((!after.is_empty()).then(|| Arc::new(Shard(after))));
    }
}

impl Key for KeyDigest {
    fn hash(&self) -> u64 {
        self.leading_bits()
    }

    fn as_bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Key for PackedId {
    fn hash(&self) -> u64 {
        self.mixed()
    }

    fn as_bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl<T: Keyed> Batch<T> {
    const PART_BITS: u32 = 8;

    pub(super) fn push(&mut self, thing: T) {
        if self.parts.is_empty() {
            self.parts.resize_with(1 << Self::PART_BITS, Vec::new);
        }
        let part = shard_of(thing.key()) >> (SHARD_BITS - Self::PART_BITS);
        if let Some(part) = self.parts.get_mut(part) {
            part.push(thing);
            self.len += 1;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self {
            parts: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // Found at this position, and a shard is immutable.
        &self.shard.0[self.position]
    }
}

impl<T> Clone for Held<T> {
    fn clone(&self) -> Self {
        Self {
            shard: Arc::clone(&self.shard),
            position: self.position,
        }
    }
}

impl<T: Keyed> Shard<T> {
    fn get(&self, key: &T::Key) -> Option<&T> {
        self.0.get(self.position(key)?)
    }

    /// Returns the position of the item with this key. Its duration depends on the hash alone; the
    /// key type decides how keys are compared.
    fn position(&self, key: &T::Key) -> Option<usize> {
        let mut alike = self.of_hash(key.hash());
        alike.find_map(|(position, thing)| (thing.key() == key).then_some(position))
    }

    /// Returns the items with this hash, with their positions.
    fn of_hash(&self, wanted: u64) -> impl Iterator<Item = (usize, &T)> {
        let things = &self.0;
        let precedes = |position: &usize| {
            things
                .get(*position)
                .is_some_and(|thing| thing.key().hash() < wanted)
        };
        // Interpolation search: from the expected position back or forward to the first item whose
        // hash is not smaller.
        let mut position = expected_position(wanted, things.len());
        while let Some(previous) = position.checked_sub(1)
            && !precedes(&previous)
        {
            position = previous;
        }
        while precedes(&position) {
            position += 1;
        }
        let later = things.iter().enumerate().skip(position);
        later.take_while(move |(_, thing)| thing.key().hash() == wanted)
    }
}

fn shard_of(key: &impl Key) -> usize {
    shard_of_hash(key.hash())
}

fn shard_of_hash(hash: u64) -> usize {
    // Fits into a `usize`.
    (hash >> (u64::BITS - SHARD_BITS)) as usize
}

/// Expected position among `count` items of a shard: the hash bits after those of the shard, as a
/// fraction of the whole.
fn expected_position(hash: u64, count: usize) -> usize {
    let part = u128::from(hash << SHARD_BITS);
    // Less than `count`.
    ((part * count as u128) >> u64::BITS) as usize
}

fn sort<T: Keyed>(things: &mut [T]) {
    things.sort_by(|one, other| order(one.key(), other.key()));
}

fn is_same<T: Keyed>(one: &T, other: &T) -> bool {
    order(one.key(), other.key()).is_eq()
}

fn order<K: Key>(one: &K, other: &K) -> Ordering {
    one.hash()
        .cmp(&other.hash())
        .then_with(|| one.as_bytes().cmp(other.as_bytes()))
}

#[cfg(test)]
mod tests;
