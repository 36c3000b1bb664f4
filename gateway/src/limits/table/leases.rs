//! [`Leases`]: units of exact limits that this gateway holds, taken out of the server before they
//! are spent.

use std::collections::HashMap;
use std::time::Duration;

use crate::limits::clock::Moment;
use crate::limits::table::{SubjectHash, Uniform};

/// Units of one subject.
#[derive(Clone, Copy, Debug, Default)]
struct Lease {
    /// Number of the window that the units are of, by the server.
    window: u64,
    /// Its end.
    ends: Moment,
    /// Units unspent.
    left: u64,
    /// Units of the latest grant.
    size: u64,
    /// Units that requests wait for.
    awaited: u64,
    /// Whether the server has been asked for more.
    is_asked: bool,
    /// No units for anybody until then.
    none_until: Moment,
    /// Units granted to all gateways, in the window before and in this one.
    granted: (u64, u64),
}

/// What a lease says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::limits) enum Look {
    /// There are units for it.
    Fits,
    /// The limit is used up; it may be worth another attempt after this time.
    UsedUp(Duration),
    /// Nobody knows before the server has answered.
    Empty,
}

/// Units to ask the server for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::limits) struct Wanted {
    pub(in crate::limits) subject: u64,
    /// Least units that are of use.
    pub(in crate::limits) need: u64,
    /// Units that would do for a while.
    pub(in crate::limits) want: u64,
    /// The limit.
    pub(in crate::limits) limit: u64,
}

/// What the server answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::limits) struct Grant {
    /// Units granted; 0 is none.
    pub(in crate::limits) units: u64,
    /// Number of the window.
    pub(in crate::limits) window: u64,
    /// Its end.
    pub(in crate::limits) ends: Moment,
    /// Without units: when it may be worth asking again.
    pub(in crate::limits) none_until: Moment,
    /// Units granted to all gateways, in the window before and in this one.
    pub(in crate::limits) granted: (u64, u64),
}

/// Leases of a shard.
#[derive(Default)]
pub(in crate::limits) struct Leases {
    by_subject: HashMap<u64, Lease, Uniform>,
    wanted: Vec<Wanted>,
    /// Subjects that the server is to forget.
    reset: Vec<u64>,
}

impl Lease {
    /// Drops what belonged to a window that has ended.
    fn expire(&mut self, now: Moment) {
        if now >= self.ends {
            self.left = 0;
        }
    }
}

impl Leases {
    /// What there is for `need` units of `subject`.
    pub(in crate::limits) fn look(&mut self, subject: SubjectHash, need: u64, now: Moment) -> Look {
        let Some(lease) = self.by_subject.get_mut(&subject.0) else {
            return Look::Empty;
        };
        lease.expire(now);
        if lease.left >= need {
            Look::Fits
        } else if now < lease.none_until {
            Look::UsedUp(now.until(lease.none_until))
        } else {
            Look::Empty
        }
    }

    /// Units granted to all gateways but for those that this one has not spent; none is known after
    /// their window.
    pub(in crate::limits) fn spent_by_all(&self, subject: SubjectHash, now: Moment) -> (u64, u64) {
        let lease = self.by_subject.get(&subject.0);
        lease
            .filter(|lease| now < lease.ends)
            .map_or((0, 0), |lease| {
                let (previous, current) = lease.granted;
                (previous, current.saturating_sub(lease.left))
            })
    }

    /// Spends `cost` units. Returns whether more are to be asked for, at half of the lease.
    pub(in crate::limits) fn spend(
        &mut self,
        subject: SubjectHash,
        cost: u64,
        limit: u64,
        now: Moment,
    ) -> bool {
        let Some(lease) = self.by_subject.get_mut(&subject.0) else {
            return false;
        };
        lease.left = lease.left.saturating_sub(cost);
        let is_low = lease.left * 2 <= lease.size;
        is_low && now >= lease.none_until && self.ask(subject, 1, 0, limit)
    }

    /// Has `need` units asked for, for which a request waits. Returns whether that is new.
    pub(in crate::limits) fn want(&mut self, subject: SubjectHash, need: u64, limit: u64) -> bool {
        self.ask(subject, need, need, limit)
    }

    fn ask(&mut self, subject: SubjectHash, need: u64, awaited: u64, limit: u64) -> bool {
        let lease = self.by_subject.entry(subject.0).or_default();
        lease.awaited = lease.awaited.saturating_add(awaited);
        if std::mem::replace(&mut lease.is_asked, true) {
            return false;
        }
        self.wanted.push(Wanted {
            subject: subject.0,
            need,
            want: 0,
            limit,
        });
        true
    }

    /// Gives `cost` units back that are of the window of the lease.
    pub(in crate::limits) fn give_back(&mut self, subject: SubjectHash, cost: u64, now: Moment) {
        if let Some(lease) = self.by_subject.get_mut(&subject.0)
            && now < lease.ends
        {
            lease.left += cost;
        }
    }

    /// Takes what is to be asked for.
    pub(in crate::limits) fn take_wanted(&mut self) -> Vec<Wanted> {
        let mut wanted = std::mem::take(&mut self.wanted);
        for one in &mut wanted {
            if let Some(lease) = self.by_subject.get_mut(&one.subject) {
                let awaited = std::mem::take(&mut lease.awaited);
                // Twice the last one: a busy subject asks seldom, and an idle one holds little
                // back.
                one.want = awaited
                    .max(lease.size * 2)
                    .clamp(one.need, one.limit.max(one.need));
            }
        }
        wanted
    }

    /// Forgets the lease of `subject`, and has the server forget what it granted.
    pub(in crate::limits) fn reset(&mut self, subject: u64) {
        self.by_subject.remove(&subject);
        self.reset.push(subject);
    }

    /// Takes the subjects that the server is to forget.
    pub(in crate::limits) fn take_reset(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.reset)
    }

    /// Adds what the server granted.
    pub(in crate::limits) fn grant(&mut self, subject: u64, grant: Grant) {
        let Some(lease) = self.by_subject.get_mut(&subject) else {
            return;
        };
        lease.is_asked = false;
        if std::mem::replace(&mut lease.window, grant.window) != grant.window {
            lease.left = 0;
        }
        lease.ends = grant.ends;
        lease.granted = grant.granted;
        lease.none_until = grant.none_until;
        if grant.units > 0 {
            lease.left += grant.units;
            lease.size = grant.units;
        }
    }

    /// Notes that the server did not answer.
    pub(in crate::limits) fn failed(&mut self, subject: u64) {
        if let Some(lease) = self.by_subject.get_mut(&subject) {
            lease.is_asked = false;
        }
    }

    /// Forgets what was asked for: its answer was lost.
    pub(in crate::limits) fn ask_again(&mut self) {
        self.wanted.clear();
        for lease in self.by_subject.values_mut() {
            lease.is_asked = false;
        }
    }

    /// Removes leases of nothing.
    pub(in crate::limits) fn sweep(&mut self, now: Moment) {
        self.by_subject
            .retain(|_, lease| lease.is_asked || now < lease.ends || now < lease.none_until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: SubjectHash = SubjectHash(7);
    const LIMIT: u64 = 100;

    fn at(seconds: u64) -> Moment {
        Moment(seconds * 1_000_000_000)
    }

    fn grant(units: u64, window: u64, none_until: u64) -> Grant {
        Grant {
            units,
            window,
            ends: at(60 * (window + 1)),
            none_until: at(none_until),
            granted: (0, units),
        }
    }

    #[test]
    fn a_lease_is_spent_asked_for_at_half_and_over_with_its_window() {
        let mut leases = Leases::default();
        assert_eq!(leases.look(SUBJECT, 1, at(0)), Look::Empty);
        assert!(leases.want(SUBJECT, 1, LIMIT));
        assert!(!leases.want(SUBJECT, 3, LIMIT), "it is under way");
        let wanted = Wanted {
            subject: SUBJECT.0,
            need: 1,
            want: 4,
            limit: LIMIT,
        };
        assert_eq!(leases.take_wanted(), [wanted]);
        leases.grant(SUBJECT.0, grant(4, 0, 0));
        assert_eq!(leases.look(SUBJECT, 4, at(1)), Look::Fits);
        assert_eq!(leases.look(SUBJECT, 5, at(1)), Look::Empty);
        assert!(!leases.spend(SUBJECT, 1, LIMIT, at(1)));
        assert!(leases.spend(SUBJECT, 1, LIMIT, at(1)), "half is left");
        assert_eq!(leases.take_wanted()[0].want, 8, "twice the last one");
        leases.grant(SUBJECT.0, grant(8, 0, 0));
        assert_eq!(leases.look(SUBJECT, 10, at(2)), Look::Fits);
        leases.give_back(SUBJECT, 1, at(2));
        assert_eq!(leases.look(SUBJECT, 11, at(59)), Look::Fits);
        assert_eq!(leases.look(SUBJECT, 1, at(60)), Look::Empty);
        leases.give_back(SUBJECT, 1, at(61));
        assert_eq!(leases.look(SUBJECT, 1, at(61)), Look::Empty);
        leases.want(SUBJECT, 1, LIMIT);
        leases.take_wanted();
        leases.grant(SUBJECT.0, grant(2, 1, 0));
        assert_eq!(leases.look(SUBJECT, 3, at(62)), Look::Empty);
        assert_eq!(leases.look(SUBJECT, 2, at(62)), Look::Fits);
    }

    #[test]
    fn nobody_is_asked_while_there_is_nothing() {
        let mut leases = Leases::default();
        leases.want(SUBJECT, 1, LIMIT);
        leases.take_wanted();
        leases.grant(SUBJECT.0, grant(0, 0, 30));
        let wait = Duration::from_secs(20);
        assert_eq!(leases.look(SUBJECT, 1, at(10)), Look::UsedUp(wait));
        assert_eq!(leases.look(SUBJECT, 1, at(30)), Look::Empty);
        leases.want(SUBJECT, 1, LIMIT);
        leases.take_wanted();
        leases.failed(SUBJECT.0);
        assert!(leases.want(SUBJECT, 1, LIMIT), "it may be asked again");
        leases.ask_again();
        assert!(leases.want(SUBJECT, 1, LIMIT), "the answer was lost");
        assert_eq!(leases.take_wanted().len(), 1);
    }
}
