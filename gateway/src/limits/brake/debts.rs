//! Table of debts: how much each subject owes for its failures. Its memory is fixed.

/// Entries of a bucket: one cache line.
const WAYS: usize = 4;

/// Debts of the subjects of one shard, by hash. The hashes are keyed, so that nobody can choose
/// subjects of one bucket.
#[derive(Debug)]
pub(super) struct Debts(Box<[[Debt; WAYS]]>);

/// Debt of a subject, which time pays: the generic cell rate algorithm.
#[derive(Clone, Copy, Debug, Default)]
struct Debt {
    subject: u64,
    /// Nanoseconds at which everything is paid. The lowest bit is [`OVER`].
    paid_at: u64,
}

/// Marks a debt that was refused more since it was last paid.
const OVER: u64 = 1;

/// A failure beyond the allowance. Nothing was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Over {
    /// Nanoseconds until one more failure fits.
    pub(super) wait: u64,
    /// Nanoseconds at which everything is paid.
    pub(super) paid_at: u64,
}

/// A failure that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Added {
    /// Whether the subject was over its allowance since it last owed nothing.
    pub(super) was_over: bool,
    /// Nanoseconds at which everything is paid.
    pub(super) paid_at: u64,
}

impl Debts {
    /// Makes room for `entries` debts, a power of two.
    pub(super) fn with_room_for(entries: usize) -> Self {
        Self(vec![[Debt::default(); WAYS]; entries / WAYS].into())
    }

    /// Adds `cost` nanoseconds to the debt of `subject`, up to `most`. Where the bucket is full,
    /// the subject that owes least is forgotten.
    pub(super) fn add(
        &mut self,
        subject: u64,
        cost: u64,
        most: u64,
        now: u64,
    ) -> Result<Added, Over> {
        let Some(bucket) = self.bucket_mut(subject) else {
            return Err(Over {
                wait: cost,
                paid_at: now,
            });
        };
        let known = bucket.iter().position(|debt| debt.is_of(subject));
        let slot = match known {
            Some(known) => bucket.get_mut(known),
            None => bucket.iter_mut().min_by_key(|debt| debt.paid_at),
        };
        // A bucket has entries.
        let mut none = Debt::default();
        let slot = slot.unwrap_or(&mut none);
        if known.is_none() {
            *slot = Debt {
                subject,
                paid_at: 0,
            };
        }
        let (owed, was_over) = slot.owed(now, most);
        if owed + cost > most {
            slot.paid_at = (now + owed) & !OVER | OVER;
            return Err(Over {
                wait: owed + cost - most,
                paid_at: now + owed,
            });
        }
        let paid_at = now + owed + cost;
        slot.paid_at = paid_at & !OVER | u64::from(was_over);
        Ok(Added { was_over, paid_at })
    }

    /// Nanoseconds until `cost` fits into what `subject` may owe, `most`; 0 if it does now.
    pub(super) fn wait(&self, subject: u64, cost: u64, most: u64, now: u64) -> u64 {
        let bucket = self.0.get(self.index(subject));
        let debt = bucket.and_then(|bucket| bucket.iter().find(|debt| debt.is_of(subject)));
        debt.map_or(0, |debt| {
            let (owed, _) = debt.owed(now, most);
            (owed + cost).saturating_sub(most)
        })
    }

    /// Nanoseconds until `subject` has paid everything, if it was over `most` since it last owed
    /// nothing.
    pub(super) fn blocked(&self, subject: u64, most: u64, now: u64) -> Option<u64> {
        let bucket = self.0.get(self.index(subject))?;
        let debt = bucket.iter().find(|debt| debt.is_of(subject))?;
        let (owed, was_over) = debt.owed(now, most);
        was_over.then_some(owed)
    }

    /// Forgives `subject` its debt and returns whether there was any.
    pub(super) fn forgive(&mut self, subject: u64, now: u64) -> bool {
        let Some(bucket) = self.bucket_mut(subject) else {
            return false;
        };
        let Some(debt) = bucket.iter_mut().find(|debt| debt.is_of(subject)) else {
            return false;
        };
        let (owed, _) = debt.owed(now, u64::MAX);
        *debt = Debt::default();
        owed > 0
    }

    fn bucket_mut(&mut self, subject: u64) -> Option<&mut [Debt; WAYS]> {
        let index = self.index(subject);
        self.0.get_mut(index)
    }

    fn index(&self, subject: u64) -> usize {
        usize::try_from(subject).unwrap_or(usize::MAX) & (self.0.len() - 1)
    }
}

impl Debt {
    fn is_of(&self, subject: u64) -> bool {
        self.subject == subject && self.paid_at != 0
    }

    /// What is owed at `now`, and whether the subject is over. At most `most`: the allowance may
    /// have been lowered.
    fn owed(&self, now: u64, most: u64) -> (u64, bool) {
        let owed = (self.paid_at & !OVER).saturating_sub(now).min(most);
        (owed, owed > 0 && self.paid_at & OVER != 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: u64 = 60_000_000_000;
    const COST: u64 = MINUTE / 20;

    #[test]
    fn twenty_failures_fit_at_once_and_then_one_for_each_that_is_paid() {
        let mut debts = Debts::with_room_for(16);
        let mut now = 1_000;
        for _ in 0..20 {
            assert!(debts.add(7, COST, MINUTE, now).is_ok());
        }
        assert_eq!(debts.blocked(7, MINUTE, now), None, "not over yet");
        let over = debts.add(7, COST, MINUTE, now).unwrap_err();
        assert_eq!((over.wait, over.paid_at), (COST, now + MINUTE));
        assert_eq!(debts.blocked(7, MINUTE, now), Some(MINUTE));
        now += COST - 2;
        assert!(debts.add(7, COST, MINUTE, now).is_err());
        now += 4;
        let added = debts.add(7, COST, MINUTE, now).unwrap();
        assert!(added.was_over);
        assert!(debts.add(7, COST, MINUTE, now).is_err());
        now += MINUTE;
        assert_eq!(debts.blocked(7, MINUTE, now), None);
        assert!(!debts.add(7, COST, MINUTE, now).unwrap().was_over);
    }

    #[test]
    fn what_is_owed_is_cut_to_a_lowered_allowance_and_forgiven_on_request() {
        let mut debts = Debts::with_room_for(16);
        for _ in 0..20 {
            debts.add(7, COST, MINUTE, 2).unwrap();
        }
        let second = MINUTE / 60;
        let over = debts.add(7, second, second, 2).unwrap_err();
        assert_eq!(over.wait, second);
        assert!(debts.forgive(7, 2));
        assert!(!debts.forgive(7, 2));
        assert!(debts.add(7, COST, MINUTE, 2).is_ok());
    }

    #[test]
    fn the_one_who_owes_most_is_remembered_whoever_comes() {
        let mut debts = Debts::with_room_for(16);
        for _ in 0..20 {
            debts.add(u64::MAX, COST, MINUTE, 2).unwrap();
        }
        for subject in 1..1_000_000 {
            assert!(debts.add(subject, COST, MINUTE, 2).is_ok());
        }
        assert!(debts.add(u64::MAX, COST, MINUTE, 2).is_err());
        assert_eq!(debts.0.len(), 4);
    }

    proptest! {
        /// Of any failures, at most the allowance and what was paid meanwhile is added.
        #[test]
        fn no_more_fits_than_the_allowance_and_what_was_paid(
            failures in 1u64..50,
            pauses in prop::collection::vec(0u64..(MINUTE / 4), 1..300),
        ) {
            let cost = MINUTE / failures;
            let mut debts = Debts::with_room_for(4);
            let (begun, mut now, mut added) = (1_000_000, 1_000_000, 0);
            for pause in pauses {
                now += pause;
                match debts.add(1, cost, MINUTE, now) {
                    Ok(_) => added += 1,
                    // It fits when it was said to.
                    Err(over) => {
                        let mut later = Debts(debts.0.clone());
                        prop_assert!(later.add(1, cost, MINUTE, now + over.wait + 1).is_ok());
                    }
                }
                // The lowest bit of a debt is a mark, so each may be short by a nanosecond.
                prop_assert!(added <= (MINUTE + (now - begun) + 2 * added) / cost);
            }
        }
    }
}
