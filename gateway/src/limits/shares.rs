//! Requests in flight per subject, in a lock-free table of words. A subject occupies a slot only
//! while it has a request in flight, so the table is bounded by the request limit.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Candidate slots of a subject: one cache line.
const SLOTS: usize = 8;
/// Bits of a slot that hold the count; the higher bits hold the tag of the subject.
const COUNT_BITS: u32 = 24;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

/// Requests in flight by subject.
pub(crate) struct Shares {
    lines: Box<[Line]>,
}

/// Slot that counts a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    line: u32,
    index: u8,
}

/// The subject has reached its share.
#[derive(Debug)]
pub(crate) struct Full;

/// Aligned, so that a look-up costs at most one cache miss.
#[derive(Default)]
#[repr(align(64))]
struct Line([AtomicU64; SLOTS]);

impl Shares {
    /// Sizes the table for at most this many requests.
    pub(crate) fn for_requests(most: usize) -> Self {
        // One line per two requests: with as many keys as requests, one line in a million gets more
        // than eight keys.
        let lines = most.div_ceil(2).clamp(1, 1 << 20).next_power_of_two();
        Self {
            lines: std::iter::repeat_with(Line::default).take(lines).collect(),
        }
    }

    /// Counts a request of the subject with these uniform `bits`, up to `share`. Returns no slot
    /// when other subjects fill the line; such a request is admitted uncounted, because refusing it
    /// would punish the wrong caller.
    pub(crate) fn enter(&self, bits: u64, share: usize) -> Result<Option<Slot>, Full> {
        let line = usize::try_from(bits).unwrap_or(usize::MAX) & (self.lines.len() - 1);
        // Never 0, the value of a free slot.
        let tag = bits & !COUNT | 1 << COUNT_BITS;
        let Some(slots) = self.lines.get(line) else {
            return Ok(None);
        };
        loop {
            let Counted { sum, mine, free } = slots.count(tag);
            if sum >= share as u64 || sum == COUNT {
                return Err(Full);
            }
            let (slot, found, next) = match (mine, free) {
                (Some((slot, found)), _) => (slot, found, found + 1),
                (None, Some((slot, found))) => (slot, found, tag | 1),
                (None, None) => return Ok(None),
            };
            let Some(word) = slots.0.get(slot) else {
                return Ok(None);
            };
            let swapped =
                word.compare_exchange_weak(found, next, Ordering::Relaxed, Ordering::Relaxed);
            if swapped.is_err() {
                continue;
            }
            // Two threads may have claimed two slots at once, and both count. Together they may be
            // above the share: then each looks again, and finds the slot of the other.
            if mine.is_none() && slots.count(tag).sum > share as u64 {
                word.fetch_sub(1, Ordering::Relaxed);
                std::hint::spin_loop();
                continue;
            }
            return Ok(Some(Slot {
                // The table has at most 2^20 lines of 8 slots.
                line: u32::try_from(line).unwrap_or(u32::MAX),
                index: u8::try_from(slot).unwrap_or(u8::MAX),
            }));
        }
    }

    /// Releases the count of an ended request.
    pub(crate) fn leave(&self, slot: Slot) {
        let line = usize::try_from(slot.line).unwrap_or(usize::MAX);
        let word = self
            .lines
            .get(line)
            .and_then(|line| line.0.get(usize::from(slot.index)));
        if let Some(word) = word {
            word.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// State of a subject in its line.
struct Counted {
    /// Requests, over all slots of the subject.
    sum: u64,
    mine: Option<(usize, u64)>,
    free: Option<(usize, u64)>,
}

impl Line {
    fn count(&self, tag: u64) -> Counted {
        let (mut sum, mut mine, mut free) = (0, None, None);
        for (slot, word) in self.0.iter().enumerate() {
            let found = word.load(Ordering::Relaxed);
            if found & COUNT == 0 {
                free = free.or(Some((slot, found)));
            } else if found & !COUNT == tag {
                sum += found & COUNT;
                mine = mine.or(Some((slot, found)));
            }
        }
        Counted { sum, mine, free }
    }
}

impl fmt::Debug for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shares")
            .field("lines", &self.lines.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::keys::KeyDigest;

    fn key(number: usize) -> u64 {
        KeyDigest::of(&number.to_be_bytes()).leading_bits()
    }

    /// Sum over all slots.
    fn counted(shares: &Shares) -> u64 {
        let words = shares.lines.iter().flat_map(|line| &line.0);
        words.map(|word| word.load(Ordering::Relaxed) & COUNT).sum()
    }

    #[test]
    fn as_many_keys_as_requests_are_all_counted() {
        let shares = Shares::for_requests(10_000);
        let slots: Vec<Slot> = (0..10_000)
            .filter_map(|number| shares.enter(key(number), 1).unwrap())
            .collect();
        assert!(slots.len() > 9_990, "{} are counted", slots.len());
        assert_eq!(counted(&shares), slots.len() as u64);
        assert!(shares.enter(key(1), 1).is_err());
        for slot in slots {
            shares.leave(slot);
        }
        assert_eq!(counted(&shares), 0);
        assert!(shares.enter(key(1), 1).unwrap().is_some());
    }

    #[test]
    fn threads_lose_no_count_and_no_key_has_much_more_than_its_share() {
        const SHARE: usize = 10;
        const THREADS: usize = 4;
        let shares = Arc::new(Shares::for_requests(4));
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let shares = Arc::clone(&shares);
                std::thread::spawn(move || {
                    let mut held = Vec::new();
                    for round in 0..20_000 {
                        match shares.enter(key(round % 3), SHARE) {
                            Ok(slot) => held.extend(slot),
                            Err(Full) => held.drain(..).for_each(|slot| shares.leave(slot)),
                        }
                        assert!(counted(&shares) <= (3 * (SHARE + THREADS)) as u64);
                    }
                    held.drain(..).for_each(|slot| shares.leave(slot));
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(counted(&shares), 0);
    }
}
