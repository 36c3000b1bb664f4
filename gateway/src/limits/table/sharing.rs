//! The cells of a table as other gateways hear of them.

use crate::limits::clock::Moment;
use crate::limits::meter::sliding::Counts;
use crate::limits::table::leases::{Grant, Leases, Wanted};
use crate::limits::table::others::{Heard, News, Others};
use crate::limits::table::{Cells, SubjectHash, Table};

/// A subject that changed, and how much of its limit is used, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::limits) struct Changed {
    pub(in crate::limits) fullness: u64,
    pub(in crate::limits) subject: u64,
}

impl Cells {
    /// Units of an exact limit that are held.
    pub(in crate::limits) fn leases(&mut self) -> &mut Leases {
        &mut self.leases
    }

    /// What is known of the other gateways' counts for `subject`.
    pub(in crate::limits) fn others(&self, subject: SubjectHash) -> Option<&Others> {
        self.told.get(subject)
    }

    /// Notes that the count of `subject` changed to `own` units of `limit`. The others are told of
    /// it from `least` units on.
    pub(in crate::limits) fn changed(
        &mut self,
        subject: SubjectHash,
        own: u64,
        limit: u64,
        least: u64,
    ) {
        let is_told = self.told.get(subject).is_some();
        // A subject of an overflow bucket has no count of its own.
        if is_told || (own >= least && self.by_subject.contains_key(&subject.0)) {
            self.told.changed(subject, limit);
        }
    }
}

impl Table {
    /// Takes the subjects that changed since the last call into `into`.
    pub(in crate::limits) fn take_changed(&self, now: Moment, into: &mut Vec<Changed>) {
        for shard in &self.shards {
            let mut cells = shard.lock();
            for subject in cells.told.take_changed() {
                let own = self.counts(&cells, subject, now);
                into.push(Changed {
                    fullness: cells.told.fullness(subject, own),
                    subject,
                });
            }
        }
    }

    /// Puts a subject back that was taken, for a later round.
    pub(in crate::limits) fn put_back(&self, subject: u64) {
        self.with(subject, |_, cells| cells.told.put_back(subject));
    }

    /// What there is to tell of a subject.
    pub(in crate::limits) fn news(&self, subject: u64, now: Moment) -> Option<News> {
        self.with(subject, |table, cells| {
            let own = table.counts(cells, subject, now);
            cells.told.news(subject, own)
        })?
    }

    /// Takes in what the server said of a subject.
    pub(in crate::limits) fn learn(&self, subject: u64, heard: Heard) {
        self.with(subject, |_, cells| cells.told.learn(subject, heard));
    }

    /// Notes that the exchange about a subject failed. Returns whether the one before had not.
    pub(in crate::limits) fn failed(&self, subject: u64) -> bool {
        self.with(subject, |_, cells| cells.told.failed(subject))
            .unwrap_or_default()
    }

    /// Takes the leases that are to be asked for.
    pub(in crate::limits) fn take_wanted(&self) -> Vec<Wanted> {
        let shards = self.shards.iter();
        shards
            .flat_map(|shard| shard.lock().leases.take_wanted())
            .collect()
    }

    /// Takes the subjects whose grants the server is to forget.
    pub(in crate::limits) fn take_reset(&self) -> Vec<u64> {
        let shards = self.shards.iter();
        shards
            .flat_map(|shard| shard.lock().leases.take_reset())
            .collect()
    }

    /// Takes in what was granted for a subject; `None` if there was no answer.
    pub(in crate::limits) fn leased(&self, subject: u64, grant: Option<Grant>) {
        self.with(subject, |_, cells| match grant {
            Some(grant) => cells.leases.grant(subject, grant),
            None => cells.leases.failed(subject),
        });
    }

    /// Has every subject told again.
    pub(in crate::limits) fn tell_again(&self) {
        for shard in &self.shards {
            shard.lock().told.tell_again();
        }
    }

    /// Forgets which leases were asked for.
    pub(in crate::limits) fn ask_again(&self) {
        for shard in &self.shards {
            shard.lock().leases.ask_again();
        }
    }

    fn with<T>(&self, subject: u64, act: impl FnOnce(&Self, &mut Cells) -> T) -> Option<T> {
        let mut cells = self.lock(SubjectHash(subject))?;
        Some(act(self, &mut cells))
    }

    fn counts(&self, cells: &Cells, subject: u64, now: Moment) -> Counts {
        let cell = cells.by_subject.get(&subject).copied().unwrap_or_default();
        self.meter.counts(cell, now)
    }
}
