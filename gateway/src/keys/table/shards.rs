//! [`Shards`]: a great many small things in memory, found by their keys without a lock.
//!
//! They are cut into shards by the first bits of their keys' places. A shard is an array, sorted by place and never
//! changed: a writer puts a new one in its stead. Places are uniform, so a thing is near the position where its place
//! would have it be, and no room stays empty. Of a million, a shard has 61, and a change copies some 5 kB.

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

/// What things are found by.
pub(super) trait Key: PartialEq {
    /// Where it belongs: a number that is as likely as any other.
    fn place(&self) -> u64;

    /// The key itself, to bring those of one place into an order.
    fn as_bytes(&self) -> &[u8];
}

/// Something that has its key in itself.
pub(super) trait Keyed: Clone {
    /// What it is found by.
    type Key: Key;

    fn key(&self) -> &Self::Key;
}

/// Things by key. Changes come from one writer at a time, which the caller sees to.
#[derive(Debug)]
pub(super) struct Shards<T> {
    shards: Box<[ArcSwapOption<Shard<T>>]>,
    len: AtomicUsize,
}

/// Things on their way into [`Shards`], roughly sorted: each part is gone before the shards of the next are made, so
/// that they lie where it was.
#[derive(Debug)]
pub(super) struct Batch<T> {
    parts: Vec<Vec<T>>,
    len: usize,
}

/// A thing that was found, as it was then. It keeps its shard in memory, and costs no copy.
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

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// What `read` makes of the thing with this key. Takes no lock, waits for nobody.
    pub(super) fn find<R>(&self, key: &T::Key, read: impl FnOnce(&T) -> R) -> Option<R> {
        let shard = self.shards.get(shard_of(key))?.load();
        shard.as_deref()?.get(key).map(read)
    }

    /// The thing with this key, to keep.
    pub(super) fn hold(&self, key: &T::Key) -> Option<Held<T>> {
        let shard = self.shards.get(shard_of(key))?.load();
        let position = shard.as_ref()?.position(key)?;
        Some(Held {
            shard: Guard::into_inner(shard)?,
            position,
        })
    }

    /// Shows everything to `look`.
    pub(super) fn for_each(&self, mut look: impl FnMut(&T)) {
        for shard in &self.shards {
            if let Some(shard) = shard.load().as_deref() {
                shard.0.iter().for_each(&mut look);
            }
        }
    }

    /// Takes `thing` in. Where one with its key is there, `replace` is shown both, and says whether the new one takes the
    /// place of the old.
    pub(super) fn put(&self, thing: T, mut replace: impl FnMut(&mut T, &T) -> bool) {
        self.put_into(shard_of(thing.key()), vec![thing], &mut replace);
    }

    /// Takes all of `batch` in, as [`put`](Self::put) does. Of those with one key, the first meet each other before one of
    /// them meets what is there.
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

    /// Removes the thing with this key, and returns it.
    pub(super) fn remove(&self, key: &T::Key) -> Option<T> {
        let gone = self.find(key, T::clone)?;
        self.retain_in(shard_of(key), |thing| thing.key() != key);
        Some(gone)
    }

    /// Removes the things for which `keep` says no. Looks at all of them, and copies the shards that lose one.
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
        // The new ones last: sorting keeps the order of equals.
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
    fn place(&self) -> u64 {
        self.leading_bits()
    }

    fn as_bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Key for PackedId {
    fn place(&self) -> u64 {
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
        // It was found there, and a shard never changes.
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

    /// Where the thing with this key is. Nothing but the key's place decides how long it takes; how the key itself is
    /// compared is its own business.
    fn position(&self, key: &T::Key) -> Option<usize> {
        let (things, wanted) = (&self.0, key.place());
        let precedes = |position: &usize| {
            things
                .get(*position)
                .is_some_and(|thing| thing.key().place() < wanted)
        };
        // From where it would be if all were evenly apart, back to the first that is not before it, or on to that.
        let mut position = expected_position(wanted, things.len());
        while let Some(previous) = position.checked_sub(1)
            && !precedes(&previous)
        {
            position = previous;
        }
        while precedes(&position) {
            position += 1;
        }
        let alike = things
            .iter()
            .enumerate()
            .skip(position)
            .take_while(|(_, thing)| thing.key().place() == wanted);
        alike
            .into_iter()
            .find_map(|(position, thing)| (thing.key() == key).then_some(position))
    }
}

fn shard_of(key: &impl Key) -> usize {
    // Fewer bits than a `usize` has.
    (key.place() >> (u64::BITS - SHARD_BITS)) as usize
}

/// Where the thing is expected among `count` of its shard: the bits after those of the shard, as a part of the whole.
fn expected_position(place: u64, count: usize) -> usize {
    let part = u128::from(place << SHARD_BITS);
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
    one.place()
        .cmp(&other.place())
        .then_with(|| one.as_bytes().cmp(other.as_bytes()))
}

#[cfg(test)]
mod tests;
