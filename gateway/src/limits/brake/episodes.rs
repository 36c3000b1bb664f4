//! Episodes: subjects that are over their allowance, from the first refused failure until they owe
//! nothing.

use std::fmt;

use crate::keys::{AddressRange, KeyId};

/// What failures are counted against: a network, or a known key at a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// Network of the failing requests; `None` if their address is unknown.
    pub network: Option<AddressRange>,
    /// The key that has ended, if the failures are its own.
    pub key: Option<KeyId>,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = &self.key {
            write!(f, "key {key} at ")?;
        }
        match &self.network {
            Some(network) => write!(f, "{network}"),
            None => f.write_str("an unknown address"),
        }
    }
}

/// A subject that is over its allowance. Times are nanoseconds of the brake's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Episode {
    pub(super) subject: Subject,
    pub(super) since: u64,
    pub(super) until: u64,
    pub(super) requests: u64,
    pub(super) enforced: bool,
}

/// Open episodes of one shard, up to a fixed number.
#[derive(Debug)]
pub(super) struct Episodes {
    open: Vec<Episode>,
    most: usize,
}

/// What became of a refused failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// It begins an episode.
    First,
    /// It is one of an episode.
    Further,
    /// There is no room for another episode.
    NoRoom,
}

impl Episodes {
    /// Makes room for `most` episodes.
    pub(super) fn with_room_for(most: usize) -> Self {
        Self {
            open: Vec::with_capacity(most),
            most,
        }
    }

    /// Counts a refused request of `subject`, which has paid everything `until`.
    pub(super) fn refused(
        &mut self,
        subject: Subject,
        until: u64,
        enforced: bool,
        now: u64,
    ) -> Noted {
        if let Some(open) = self.find(subject) {
            open.requests += 1;
            open.until = until;
            open.enforced = enforced;
            return Noted::Further;
        }
        if self.open.len() >= self.most {
            return Noted::NoRoom;
        }
        self.open.push(Episode {
            subject,
            since: now,
            until,
            requests: 1,
            enforced,
        });
        Noted::First
    }

    /// Extends the episode of `subject`, which owes more.
    pub(super) fn extend(&mut self, subject: Subject, until: u64) {
        if let Some(open) = self.find(subject) {
            open.until = until;
        }
    }

    /// Open episodes.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Episode> {
        self.open.iter()
    }

    /// Removes the episodes that `ends` accepts.
    pub(super) fn take(&mut self, mut ends: impl FnMut(&Episode) -> bool) -> Vec<Episode> {
        self.open.extract_if(.., |open| ends(open)).collect()
    }

    fn find(&mut self, subject: Subject) -> Option<&mut Episode> {
        self.open.iter_mut().find(|open| open.subject == subject)
    }
}
