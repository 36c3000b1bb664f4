//! [`Records`]: the key records in memory, found by digest without a lock.
//!
//! They are cut into shards by the first bits of the digest. A shard is an array, sorted by digest and never changed: a
//! writer puts a new one in its place. Digests are uniform, so a record is near the place where its digest would have it
//! be, and no place stays empty. At a million keys a shard has 61, and a
//! change copies 4 kB.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;

use crate::keys::KeyDigest;
use crate::keys::key::{ConsumerCell, KeyRecord};

const SHARD_BITS: u32 = 14;
const SHARDS: usize = 1 << SHARD_BITS;
/// Records of deleted consumers are swept out once there are this many, or an eighth of all: one sweep looks at every key.
const MOST_ORPHANS: usize = 1024;

/// All records. Changes come from one writer at a time, which the caller sees to.
#[derive(Debug)]
pub(super) struct Records {
    shards: Box<[ArcSwapOption<Shard>]>,
    /// How many have a consumer.
    live: AtomicUsize,
    /// How many have lost it, and wait to be swept out. No look-up finds them.
    orphans: AtomicUsize,
}

/// Records on their way into [`Records`], roughly sorted: each part is gone before the shards of the next are made, so
/// that they lie where it was.
#[derive(Debug, Default)]
pub(super) struct Batch {
    parts: Vec<Vec<KeyRecord>>,
    len: usize,
}

/// Who looks records up while they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usage {
    /// Requests: every record is found at every moment.
    Requests,
    /// Nobody, before the first load is finished: a shard may be missing while it is made anew, which spares copying what
    /// it holds.
    Nobody,
}

#[derive(Debug, Default)]
struct Shard(Box<[KeyRecord]>);

impl Records {
    pub(super) fn new() -> Self {
        let shards = std::iter::repeat_with(ArcSwapOption::empty).take(SHARDS).collect();
        Self { shards, live: AtomicUsize::new(0), orphans: AtomicUsize::new(0) }
    }

    pub(super) fn len(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// What `read` makes of the record with this digest. Takes no lock, waits for nobody.
    pub(super) fn find<T>(&self, digest: &KeyDigest, read: impl FnOnce(&KeyRecord) -> T) -> Option<T> {
        let shard = self.shard(shard_of(digest))?.load();
        let shard = shard.as_deref()?;
        shard.position(digest).and_then(|position| shard.0.get(position)).map(read)
    }

    /// Takes all of `batch` in. Of several records with one digest the last stands, and all take the place of an older one.
    pub(super) fn put_all(&self, batch: &mut Batch, usage: Usage) {
        for mut part in std::mem::take(batch).parts {
            part.sort_by_key(|record| shard_of(&record.digest));
            while let Some(shard) = part.last().map(|record| shard_of(&record.digest)) {
                let first = part.partition_point(|record| shard_of(&record.digest) < shard);
                self.put_into(shard, part.split_off(first), usage);
            }
        }
    }

    pub(super) fn put(&self, record: KeyRecord) {
        self.put_into(shard_of(&record.digest), vec![record], Usage::Requests);
    }

    pub(super) fn remove(&self, digest: &KeyDigest) {
        if self.find(digest, |_| ()).is_some() {
            self.retain_in(shard_of(digest), |record| record.digest != *digest);
        }
    }

    /// Removes the records for which `keep` says no. Looks at all of them, and copies the shards that lose one.
    pub(super) fn retain(&self, mut keep: impl FnMut(&KeyRecord) -> bool) {
        for shard in 0..SHARDS {
            self.retain_in(shard, &mut keep);
        }
    }

    /// Takes notice that the keys of this cell have lost their consumer.
    pub(super) fn orphaned(&self, cell: &ConsumerCell) {
        let keys = cell.keys.load(Ordering::Relaxed) as usize;
        self.live.fetch_sub(keys, Ordering::Relaxed);
        let orphans = self.orphans.fetch_add(keys, Ordering::Relaxed) + keys;
        if orphans > MOST_ORPHANS.max(self.len() / 8) {
            self.retain(|record| !record.consumer.is_empty());
        }
    }

    /// Shows every record to `look`.
    pub(super) fn for_each(&self, mut look: impl FnMut(&KeyRecord)) {
        for shard in &self.shards {
            if let Some(shard) = shard.load().as_deref() {
                shard.0.iter().for_each(&mut look);
            }
        }
    }

    fn shard(&self, number: usize) -> Option<&ArcSwapOption<Shard>> {
        self.shards.get(number)
    }

    fn put_into(&self, number: usize, new: Vec<KeyRecord>, usage: Usage) {
        let Some(shard) = self.shard(number) else { return };
        for record in &new {
            record.consumer.keys.fetch_add(1, Ordering::Relaxed);
        }
        self.live.fetch_add(new.len(), Ordering::Relaxed);
        let mut records = match usage {
            Usage::Requests => shard.load().as_ref().map_or_else(Vec::new, |old| old.with_room_for(new.len())),
            Usage::Nobody => shard.swap(None).map_or_else(Vec::new, |old| Shard::into_records(old, new.len())),
        };
        // The newest last: sorting keeps the order of equals, and of equals the last stays.
        records.reserve_exact(new.len());
        records.extend(new);
        records.sort_by(|one, other| one.digest.as_bytes().cmp(other.digest.as_bytes()));
        records.dedup_by(|later, earlier| {
            let is_replaced = later.digest == earlier.digest;
            if is_replaced {
                std::mem::swap(later, earlier);
                self.forget(later);
            }
            is_replaced
        });
        shard.store(Some(Arc::new(Shard(records.into_boxed_slice()))));
    }

    fn retain_in(&self, number: usize, mut keep: impl FnMut(&KeyRecord) -> bool) {
        let Some(shard) = self.shard(number) else { return };
        let Some(before) = shard.load_full() else { return };
        let (kept, gone): (Vec<&KeyRecord>, Vec<&KeyRecord>) = before.0.iter().partition(|record| keep(record));
        if gone.is_empty() {
            return;
        }
        let after: Box<[KeyRecord]> = kept.into_iter().cloned().collect();
        shard.store((!after.is_empty()).then(|| Arc::new(Shard(after))));
        gone.into_iter().for_each(|record| self.forget(record));
    }

    /// Counts a record out.
    fn forget(&self, record: &KeyRecord) {
        record.consumer.keys.fetch_sub(1, Ordering::Relaxed);
        let count = if record.consumer.is_empty() { &self.orphans } else { &self.live };
        count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Batch {
    const PART_BITS: u32 = 8;

    pub(super) fn push(&mut self, record: KeyRecord) {
        if self.parts.is_empty() {
            self.parts.resize_with(1 << Self::PART_BITS, Vec::new);
        }
        let part = shard_of(&record.digest) >> (SHARD_BITS - Self::PART_BITS);
        if let Some(part) = self.parts.get_mut(part) {
            part.push(record);
            self.len += 1;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl Shard {
    /// A copy with room for `more`.
    fn with_room_for(&self, more: usize) -> Vec<KeyRecord> {
        let mut records = Vec::with_capacity(self.0.len() + more);
        records.extend_from_slice(&self.0);
        records
    }

    /// The records themselves with room for `more`, unless somebody looks in at this moment.
    fn into_records(self: Arc<Self>, more: usize) -> Vec<KeyRecord> {
        match Arc::try_unwrap(self) {
            Ok(Self(old)) => {
                let mut records = Vec::with_capacity(old.len() + more);
                records.extend(old);
                records
            }
            Err(shard) => shard.with_room_for(more),
        }
    }

    /// Where the record with this digest is. Nothing but the leading bits decides how long it takes; the whole digest is
    /// compared in constant time.
    fn position(&self, digest: &KeyDigest) -> Option<usize> {
        let (records, wanted) = (&self.0, digest.leading_bits());
        let precedes = |position: &usize| records.get(*position).is_some_and(|record| record.digest.leading_bits() < wanted);
        // From where it would be if all were evenly apart, back to the first that is not before it, or on to that.
        let mut position = expected_position(wanted, records.len());
        while let Some(previous) = position.checked_sub(1)
            && !precedes(&previous)
        {
            position = previous;
        }
        while precedes(&position) {
            position += 1;
        }
        let alike = records.iter().enumerate().skip(position).take_while(|(_, record)| record.digest.leading_bits() == wanted);
        alike.into_iter().find_map(|(position, record)| (record.digest == *digest).then_some(position))
    }
}

fn shard_of(digest: &KeyDigest) -> usize {
    // Fewer bits than a `usize` has.
    (digest.leading_bits() >> (u64::BITS - SHARD_BITS)) as usize
}

/// Where the record is expected among `count` of its shard: the bits after those of the shard, as a part of the whole.
fn expected_position(leading_bits: u64, count: usize) -> usize {
    let part = u128::from(leading_bits << SHARD_BITS);
    // Less than `count`.
    ((part * count as u128) >> u64::BITS) as usize
}

#[cfg(test)]
mod tests;
