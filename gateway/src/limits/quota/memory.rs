//! Use of quotas in memory: what the store had at the last look, and what was used since. The
//! ledger takes what was used to the store, and brings back what all gateways have used.

mod cells;

use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::keys::{ConsumerId, KeyId, UnixMillis};
use crate::limits::period::Bounds;
use crate::limits::quota::memory::cells::{Cell, Shard};

/// Locks that the cells are distributed over. None is held while anything waits.
const SHARDS: usize = 64;
/// Shares of a quota, in percent, that the log tells of.
const NOTICES: [i64; 2] = [80, 100];

/// Whom a quota counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum QuotaSubject {
    /// A chain of rolled keys, by the id of its first.
    Key(KeyId),
    /// A consumer.
    Consumer(ConsumerId),
    /// All consumers with the same value of a tag: `NAME=VALUE`.
    Tag(Arc<str>),
}

/// What is counted as one: a quota, its kind of period, and a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaCell {
    /// Name of the quota.
    pub quota: Arc<str>,
    /// Kind of its periods. A quota whose kind changes is counted anew.
    pub kind: Arc<str>,
    /// The subject.
    pub subject: QuotaSubject,
}

/// Units used, or given back, since the last write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaDelta {
    /// What they count for.
    pub cell: QuotaCell,
    /// The period that they count in.
    pub period: Bounds,
    /// Units; negative if more were given back.
    pub units: i64,
}

/// Use of a quota in one period, of all gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaUse {
    /// Name of the quota.
    pub quota: String,
    /// Kind of its periods.
    pub kind: String,
    /// The subject, as [`QuotaSubject`] displays.
    pub subject: String,
    /// The period.
    pub period: Bounds,
    /// Units used. Negative where an operator added some.
    pub units: i64,
}

/// Cells of all quotas of a process.
#[derive(Debug)]
pub struct QuotaMemory {
    seed: RandomState,
    shards: Box<[Mutex<Shard>]>,
    is_used: AtomicBool,
    /// Up to where the use in the store is known.
    tick: AtomicI64,
}

/// State of a quota after, or without, a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Units used.
    pub used: i64,
    /// The period.
    pub period: Bounds,
}

/// When units were taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct TakenAt {
    at: UnixMillis,
    /// Beginning of the latest period that they were taken from, where that had not begun `at`: the
    /// clock was set back, and periods do not go back.
    latest: UnixMillis,
}

impl TakenAt {
    /// By the clock.
    pub(super) fn clock(at: UnixMillis) -> Self {
        Self { at, latest: at }
    }

    /// From `period` too.
    pub(super) fn from(&mut self, period: Bounds) {
        self.latest = self.latest.max(period.start);
    }

    fn is_in(self, period: Bounds) -> bool {
        period.start <= self.latest && period.end.is_none_or(|end| self.at < end)
    }
}

/// Result of taking units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// They were free.
    Fits {
        level: Level,
        /// Share in percent that was reached for the first time in this period.
        notice: Option<i64>,
    },
    /// They were not; nothing was taken.
    Denied(Level),
}

impl std::fmt::Display for QuotaSubject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key(id) => f.write_str(id.as_str()),
            Self::Consumer(id) => f.write_str(id.as_str()),
            Self::Tag(tag) => write!(f, "tag:{tag}"),
        }
    }
}

impl Default for QuotaMemory {
    fn default() -> Self {
        Self {
            seed: RandomState::new(),
            is_used: AtomicBool::new(false),
            tick: AtomicI64::new(0),
            shards: std::iter::repeat_with(Mutex::default)
                .take(SHARDS)
                .collect(),
        }
    }
}

impl QuotaMemory {
    /// Hash of a cell; does not allocate.
    pub(super) fn hash(&self, quota: &str, kind: &str, subject: &QuotaSubject) -> u64 {
        let mut hash = self.seed.build_hasher();
        (quota, kind).hash(&mut hash);
        // As the store has it.
        match subject {
            QuotaSubject::Key(id) => hash.write(id.as_str().as_bytes()),
            QuotaSubject::Consumer(id) => hash.write(id.as_str().as_bytes()),
            QuotaSubject::Tag(tag) => {
                hash.write(b"tag:");
                hash.write(tag.as_bytes());
            }
        }
        hash.finish()
    }

    fn hash_of_use(&self, row: &QuotaUse) -> u64 {
        let mut hash = self.seed.build_hasher();
        (row.quota.as_str(), row.kind.as_str()).hash(&mut hash);
        match row.subject.strip_prefix("tag:") {
            Some(tag) => {
                hash.write(b"tag:");
                hash.write(tag.as_bytes());
            }
            None => hash.write(row.subject.as_bytes()),
        }
        hash.finish()
    }

    /// Takes `units` at `at`, up to `limit`. With `force`, also beyond it. `period` is asked for
    /// only when the known one is over.
    pub(super) fn take(
        &self,
        (hash, at): (u64, UnixMillis),
        period: impl FnOnce() -> Bounds,
        cell: impl FnOnce() -> QuotaCell,
        units: i64,
        limit: i64,
        force: bool,
    ) -> Taken {
        self.use_it();
        let mut shard = self.shard(hash);
        let found = shard.current(hash, at, period);
        let before = found.used();
        let level = |used| Level {
            used,
            period: found.period,
        };
        let after = before.saturating_add(units);
        if after > limit && !force {
            return Taken::Denied(level(before));
        }
        let level = level(after);
        let mut notice = None;
        // The highest share that is new.
        for (number, share) in (1..).zip(NOTICES) {
            if found.notices < number && reaches(after, limit, share) {
                notice = Some(share);
            }
        }
        let reached = NOTICES
            .iter()
            .filter(|share| reaches(after, limit, **share));
        let reached = u8::try_from(reached.count()).unwrap_or(u8::MAX);
        shard.add(hash, units, cell);
        if let Some(found) = shard.cells.get_mut(&hash) {
            // Forgotten once the use is clearly below, so that what is given back and taken again
            // is not told each time.
            let next = NOTICES.get(usize::from(reached));
            let is_below = next.is_some_and(|share| !reaches(after, limit, share - 10));
            found.notices = if is_below {
                reached
            } else {
                found.notices.max(reached)
            };
        }
        Taken::Fits { level, notice }
    }

    /// Gives back `units` that were taken within `when`, if the period is still the same.
    pub(super) fn give_back(
        &self,
        (hash, when): (u64, TakenAt),
        cell: impl FnOnce() -> QuotaCell,
        units: i64,
    ) {
        let mut shard = self.shard(hash);
        let same = shard.cells.get(&hash);
        if same.is_some_and(|found| when.is_in(found.period)) {
            shard.add(hash, units.saturating_neg(), cell);
        }
    }

    /// What is used at `at`.
    pub(super) fn level(
        &self,
        (hash, at): (u64, UnixMillis),
        period: impl FnOnce() -> Bounds,
    ) -> Level {
        let mut shard = self.shard(hash);
        let found = shard.current(hash, at, period);
        Level {
            used: found.used(),
            period: found.period,
        }
    }

    /// Whether quotas are in force, or were, of the settings or of consumers, keys and plans alone.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }

    /// Notes that quotas are in force.
    pub(super) fn use_it(&self) {
        if !self.is_used() {
            self.is_used.store(true, Ordering::Relaxed);
        }
    }

    /// Up to where the use in the store is known.
    #[must_use]
    pub fn tick(&self) -> i64 {
        self.tick.load(Ordering::Relaxed)
    }

    /// Notes up to where the use in the store is known.
    pub fn set_tick(&self, tick: i64) {
        self.tick.store(tick, Ordering::Relaxed);
    }

    /// Takes some of what was used since the last call, to be written: `most` and few more, or all.
    #[must_use]
    pub fn take_deltas(&self, most: usize) -> Vec<QuotaDelta> {
        let mut deltas = Vec::new();
        for shard in &self.shards {
            if deltas.len() >= most {
                break;
            }
            let mut shard = lock(shard);
            let Shard {
                cells, dirty, late, ..
            } = &mut *shard;
            deltas.append(late);
            for (hash, cell) in dirty.drain(..) {
                let Some(found) = cells.get_mut(&hash) else {
                    continue;
                };
                found.is_dirty = false;
                let units = std::mem::take(&mut found.unsent);
                found.sent = found.sent.saturating_add(units);
                if units != 0 {
                    deltas.push(QuotaDelta {
                        cell,
                        period: found.period,
                        units,
                    });
                }
            }
        }
        deltas
    }

    /// Notes that the store has these.
    pub fn confirm(&self, deltas: &[QuotaDelta]) {
        for delta in deltas {
            let cell = &delta.cell;
            let hash = self.hash(&cell.quota, &cell.kind, &cell.subject);
            let mut shard = self.shard(hash);
            if let Some(found) = shard.cells.get_mut(&hash)
                && found.period.start == delta.period.start
            {
                found.sent = found.sent.saturating_sub(delta.units);
                found.stored = found.stored.saturating_add(delta.units);
            }
        }
    }

    /// Learns what the store has. Not while a batch is unconfirmed, which it may contain or not.
    pub fn learn(&self, rows: &[QuotaUse], now: UnixMillis) {
        for row in rows {
            self.use_it();
            let hash = self.hash_of_use(row);
            let mut shard = self.shard(hash);
            let known = shard.cells.get(&hash).map(|found| found.period.start);
            match known {
                Some(start) if start > row.period.start => {}
                Some(start) if start == row.period.start => {
                    if let Some(found) = shard.cells.get_mut(&hash) {
                        found.stored = row.units;
                        found.sent = 0;
                    }
                }
                _ if row.period.start > now => {
                    shard.ahead.insert(hash, (row.period, row.units));
                }
                Some(_) => {
                    shard.ahead.insert(hash, (row.period, row.units));
                    // Rolls the cell over.
                    let _ = shard.current(hash, row.period.start, || row.period);
                }
                None => {
                    shard.cells.insert(hash, Cell::new(row.period, row.units));
                }
            }
        }
    }

    /// Removes cells whose period is over and written.
    pub fn sweep(&self, now: UnixMillis) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            let is_over = |period: Bounds| period.end.is_some_and(|end| end <= now);
            shard.cells.retain(|_, cell| {
                !is_over(cell.period) || cell.is_dirty || cell.sent != 0 || cell.unsent != 0
            });
            shard.ahead.retain(|_, (period, _)| !is_over(*period));
            if shard.cells.capacity() > 4 * shard.cells.len().max(16) {
                shard.cells.shrink_to_fit();
            }
        }
    }

    /// Number of cells.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| lock(shard).cells.len())
            .sum()
    }

    /// Whether there is no cell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        let index = usize::try_from(hash >> 58).unwrap_or_default();
        // There are as many shards as values of six bits.
        lock(self.shards.get(index).unwrap_or(&self.shards[0]))
    }
}

fn reaches(used: i64, limit: i64, share: i64) -> bool {
    i128::from(used) * 100 >= i128::from(limit) * i128::from(share)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
