//! The cells of one limit, in shards with a lock each that is held for some nanoseconds.

pub(super) mod leases;
pub(super) mod others;
pub(super) mod sharing;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::limits::clock::Moment;
use crate::limits::meter::Meter;
use crate::limits::table::leases::Leases;
use crate::limits::table::others::Told;

/// Number of shards.
const SHARDS: usize = 256;
/// Buckets of a shard that newcomers share while it is full: 1,024 in all.
const OVERFLOW: usize = 4;
/// Cells of a table whose subjects are addresses, which a client can make up.
const MAX_ADDRESSES: usize = 1 << 20;

/// Keyed hash of a subject: uniform, and unknown to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SubjectHash(pub(super) u64);

/// Whether clients can make subjects up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Room {
    /// Each subject has a cell: there are as many as keys or routes.
    ForAll,
    /// Beyond 1,048,576 cells, newcomers share the overflow buckets.
    Capped,
}

/// Cells of one limit by subject.
pub(super) struct Table {
    /// Tables are locked in this order.
    serial: u64,
    pub(super) meter: Meter,
    most: usize,
    shards: Box<[Shard]>,
}

/// Aligned, so that two shards share no cache line.
#[derive(Default)]
#[repr(align(128))]
struct Shard(Mutex<Cells>);

/// Locked cells of one shard.
#[derive(Default)]
pub(super) struct Cells {
    by_subject: HashMap<u64, u64, Uniform>,
    overflow: [u64; OVERFLOW],
    /// What other gateways are told and heard of.
    told: Told,
    /// Units of an exact limit that are held.
    leases: Leases,
    /// Of a limit that is not enforced, and of one that is.
    decided: [Decided; 2],
}

/// Decisions of a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decided {
    /// Requests that it admitted, as every other limit did.
    pub allowed: u64,
    /// Requests that it denied, or would have denied if it were enforced.
    pub denied: u64,
}

impl Table {
    pub(super) fn new(serial: u64, meter: Meter, room: Room) -> Self {
        Self {
            serial,
            meter,
            most: match room {
                Room::ForAll => usize::MAX,
                Room::Capped => MAX_ADDRESSES / SHARDS,
            },
            shards: std::iter::repeat_with(Shard::default)
                .take(SHARDS)
                .collect(),
        }
    }

    /// Rank in the order of locking.
    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    /// A bit that marks this table among those of one request. Tables that were made 64 apart have
    /// the same.
    pub(super) fn bit(&self) -> u64 {
        1 << (self.serial % 64)
    }

    /// Locks the cells that `subject` is among; `None` never.
    pub(super) fn lock(&self, subject: SubjectHash) -> Option<MutexGuard<'_, Cells>> {
        // Neither the bits that choose a place in a map nor those that tell its entries apart.
        let shard = usize::try_from(subject.0 >> 40).unwrap_or_default() % SHARDS;
        self.shards.get(shard).map(Shard::lock)
    }

    /// The value of the cell of `subject`.
    pub(super) fn cell(&self, cells: &Cells, subject: SubjectHash) -> u64 {
        match cells.by_subject.get(&subject.0) {
            Some(cell) => *cell,
            None if cells.by_subject.len() >= self.most => cells.overflow[subject.overflow()],
            None => 0,
        }
    }

    /// Sets the cell of `subject`.
    pub(super) fn set(&self, cells: &mut Cells, subject: SubjectHash, value: u64) {
        if let Some(cell) = cells.by_subject.get_mut(&subject.0) {
            *cell = value;
        } else if cells.by_subject.len() >= self.most {
            cells.overflow[subject.overflow()] = value;
        } else {
            cells.by_subject.insert(subject.0, value);
        }
    }

    /// Forgets what `subject` has used, here and, as far as they told of it, elsewhere; of an exact
    /// limit, what the server granted too.
    pub(super) fn forget(&self, subject: SubjectHash, is_exact: bool) {
        if let Some(mut cells) = self.lock(subject) {
            cells.by_subject.remove(&subject.0);
            cells.told.reset(subject.0);
            if is_exact {
                cells.leases.reset(subject.0);
            }
        }
    }

    /// Has `subject` told to the others again, and so theirs heard.
    pub(super) fn hear(&self, subject: SubjectHash) {
        if let Some(mut cells) = self.lock(subject) {
            cells.told.again(subject.0);
        }
    }

    /// Removes the cells of which nothing is in force, one shard after the other.
    pub(super) fn sweep(&self, now: Moment) {
        let is_idle = self.meter.idle(now);
        let window = self.meter.counts(0, now).window;
        for shard in &self.shards {
            let mut cells = shard.lock();
            let map = &mut cells.by_subject;
            map.retain(|_, cell| !is_idle(*cell));
            if map.capacity() > 64 && map.len() < map.capacity() / 4 {
                map.shrink_to(map.len() * 2);
            }
            cells.told.sweep(window);
            cells.leases.sweep(now);
        }
    }

    /// Decisions so far while it was `enforced`, or was not.
    pub(super) fn decided(&self, enforced: bool) -> Decided {
        let mut all = Decided::default();
        for shard in &self.shards {
            let Decided { allowed, denied } = shard.lock().decided[usize::from(enforced)];
            all.allowed += allowed;
            all.denied += denied;
        }
        all
    }

    /// Number of cells.
    pub(super) fn len(&self) -> usize {
        let shards = self.shards.iter();
        shards.map(|shard| shard.lock().by_subject.len()).sum()
    }
}

impl Cells {
    /// Counts a decision of the limit, while it is `enforced` or is not.
    pub(super) fn count(&mut self, enforced: bool, allowed: bool) {
        let Decided {
            allowed: passed,
            denied,
        } = &mut self.decided[usize::from(enforced)];
        let counter = if allowed { passed } else { denied };
        *counter += 1;
    }
}

impl Shard {
    fn lock(&self) -> MutexGuard<'_, Cells> {
        // A cell is one word, so a panic of another thread leaves none half written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SubjectHash {
    fn overflow(self) -> usize {
        usize::try_from(self.0 >> 32).unwrap_or_default() % OVERFLOW
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table")
            .field("serial", &self.serial)
            .field("meter", &self.meter)
            .finish_non_exhaustive()
    }
}

/// Hasher of what is uniform already.
#[derive(Clone, Copy, Default)]
pub(in crate::limits) struct Uniform;

#[derive(Default)]
pub(in crate::limits) struct Unchanged(u64);

impl BuildHasher for Uniform {
    type Hasher = Unchanged;

    fn build_hasher(&self) -> Unchanged {
        Unchanged::default()
    }
}

impl Hasher for Unchanged {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    /// Not used for cells.
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
}
