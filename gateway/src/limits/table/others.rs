//! [`Others`]: what other gateways counted for a subject, as far as this one knows.

use std::collections::HashMap;

use crate::limits::meter::sliding::{Counts, MAX_COUNT};
use crate::limits::table::{SubjectHash, Uniform};

/// Counts of the other gateways for one subject, and what they have yet to hear of this one.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::limits) struct Others {
    /// Number of the window that `current` belongs to, since the Unix epoch.
    window: u64,
    previous: u32,
    current: u32,
    /// Units per window, as of the latest decision.
    limit: u32,
    /// Whether it is in the list of changed ones.
    is_changed: bool,
    /// Whether the server has this gateway's count of the window, unless it lost it.
    is_written: bool,
    /// Whether the previous window has been read since the present one began.
    has_previous: bool,
    /// Whether the server may have lost counts of this window, so that a lower sum says nothing.
    only_grows: bool,
    /// Whether the last exchange about it failed.
    is_out: bool,
}

/// What a gateway has to tell of one subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::limits) struct News {
    /// Number of the window.
    pub(in crate::limits) window: u64,
    /// Own count of the window.
    pub(in crate::limits) current: u64,
    /// Own count of the window before, where that has yet to be exchanged.
    pub(in crate::limits) previous: Option<u64>,
    /// Whether the server should know a count of the window already.
    pub(in crate::limits) is_known: bool,
}

/// What the server said: the counts of the other gateways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::limits) struct Heard {
    /// Number of the window.
    pub(in crate::limits) window: u64,
    /// Their count of the window.
    pub(in crate::limits) current: u64,
    /// Their count of the window before, where it was asked for.
    pub(in crate::limits) previous: Option<u64>,
}

/// The subjects of a shard of which other gateways are told.
#[derive(Default)]
pub(super) struct Told {
    by_subject: HashMap<u64, Others, Uniform>,
    changed: Vec<u64>,
}

impl Others {
    /// Whether the counts cannot be exchanged, of this subject alone.
    pub(in crate::limits) fn is_out(&self) -> bool {
        self.is_out
    }

    /// Their counts as of the window `window`: of the one before, and of its own.
    pub(in crate::limits) fn at(&self, window: u64) -> (u64, u64) {
        let (previous, current) = (self.previous.into(), self.current.into());
        match window.wrapping_sub(self.window) {
            0 => (previous, current),
            1 => (current, 0),
            // A reading of the clock that is older than the latest exchange.
            u64::MAX => (0, previous),
            _ => (0, 0),
        }
    }

    /// Goes on to `window`.
    fn roll(&mut self, window: u64) {
        if self.window == window {
            return;
        }
        let (previous, current) = self.at(window);
        *self = Self {
            window,
            previous: clamp(previous),
            current: clamp(current),
            limit: self.limit,
            is_changed: self.is_changed,
            is_out: self.is_out,
            ..Self::default()
        };
    }
}

impl Told {
    /// What is known of `subject`.
    pub(super) fn get(&self, subject: SubjectHash) -> Option<&Others> {
        self.by_subject.get(&subject.0)
    }

    /// Notes that the own count of `subject` changed, whose limit is `limit`.
    pub(super) fn changed(&mut self, subject: SubjectHash, limit: u64) {
        let entry = self.by_subject.entry(subject.0).or_default();
        entry.limit = clamp(limit);
        if !entry.is_changed {
            entry.is_changed = true;
            self.changed.push(subject.0);
        }
    }

    /// Has `subject` told again, if others know of it.
    pub(super) fn again(&mut self, subject: u64) {
        if let Some(entry) = self.by_subject.get_mut(&subject)
            && !std::mem::replace(&mut entry.is_changed, true)
        {
            self.changed.push(subject);
        }
    }

    /// Forgets what is known of the others, and has `subject` told again. The window before is not
    /// asked for: others may not have forgotten it yet.
    pub(super) fn reset(&mut self, subject: u64) {
        if let Some(entry) = self.by_subject.get_mut(&subject) {
            (entry.previous, entry.current) = (0, 0);
            (entry.has_previous, entry.only_grows) = (true, false);
        }
        self.again(subject);
    }

    /// Takes the changed subjects.
    pub(super) fn take_changed(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.changed)
    }

    /// Puts back one of those taken, for a later round.
    pub(super) fn put_back(&mut self, subject: u64) {
        self.changed.push(subject);
    }

    /// Units of a thousandth of the limit of `subject` that are used, by all.
    pub(super) fn fullness(&self, subject: u64, own: Counts) -> u64 {
        let Some(entry) = self.by_subject.get(&subject) else {
            return 0;
        };
        let (_, others) = entry.at(own.window);
        (own.current + others) * 1000 / u64::from(entry.limit.max(1))
    }

    /// What there is to tell of `subject`, whose own counts are `own`. From now on it counts as
    /// told.
    pub(super) fn news(&mut self, subject: u64, own: Counts) -> Option<News> {
        let entry = self.by_subject.get_mut(&subject)?;
        entry.is_changed = false;
        entry.roll(own.window);
        Some(News {
            window: own.window,
            current: own.current,
            previous: (!entry.has_previous).then_some(own.previous),
            is_known: entry.is_written,
        })
    }

    /// Takes in what the server said of `subject`.
    pub(super) fn learn(&mut self, subject: u64, heard: Heard) {
        let Some(entry) = self.by_subject.get_mut(&subject) else {
            return;
        };
        entry.is_out = false;
        if entry.window != heard.window {
            return;
        }
        let current = clamp(heard.current);
        entry.current = if entry.only_grows {
            entry.current.max(current)
        } else {
            current
        };
        if let Some(previous) = heard.previous {
            entry.previous = entry.previous.max(clamp(previous));
            entry.has_previous = true;
        }
        entry.is_written = true;
    }

    /// Notes that the exchange about `subject` failed, and has it tried again. Returns whether the
    /// one before had not.
    pub(super) fn failed(&mut self, subject: u64) -> bool {
        let Some(entry) = self.by_subject.get_mut(&subject) else {
            return false;
        };
        let was_out = std::mem::replace(&mut entry.is_out, true);
        self.again(subject);
        !was_out
    }

    /// Has every subject told again: the server may have lost what it knew. Until their windows
    /// end, the known counts of others only grow.
    pub(super) fn tell_again(&mut self) {
        for (subject, entry) in &mut self.by_subject {
            entry.is_written = false;
            entry.has_previous = false;
            entry.only_grows = true;
            if !entry.is_changed {
                entry.is_changed = true;
                self.changed.push(*subject);
            }
        }
    }

    /// Removes the subjects whose windows are over at `window`.
    pub(super) fn sweep(&mut self, window: u64) {
        self.by_subject
            .retain(|_, entry| entry.is_changed || window.saturating_sub(entry.window) <= 1);
        if self.by_subject.capacity() > 64 && self.by_subject.len() < self.by_subject.capacity() / 4
        {
            self.by_subject.shrink_to(self.by_subject.len() * 2);
        }
    }
}

fn clamp(count: u64) -> u32 {
    u32::try_from(count.min(MAX_COUNT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: SubjectHash = SubjectHash(7);

    fn own(window: u64, previous: u64, current: u64) -> Counts {
        Counts {
            window,
            previous,
            current,
        }
    }

    fn told(window: u64, current: u64, previous: Option<u64>) -> Told {
        let mut told = Told::default();
        told.changed(SUBJECT, 100);
        told.take_changed();
        told.news(SUBJECT.0, own(window, 0, 1)).unwrap();
        let heard = Heard {
            window,
            current,
            previous,
        };
        told.learn(SUBJECT.0, heard);
        told
    }

    #[test]
    fn counts_of_others_move_on_with_the_windows() {
        let told = told(5, 40, Some(30));
        let others = told.get(SUBJECT).unwrap();
        for (window, wanted) in [
            (5, (30, 40)),
            (6, (40, 0)),
            (7, (0, 0)),
            (4, (0, 30)),
            (3, (0, 0)),
            (5 + (1 << 40), (0, 0)),
        ] {
            assert_eq!(others.at(window), wanted, "{window}");
        }
    }

    #[test]
    fn a_subject_is_told_once_until_it_changes() {
        let mut told = Told::default();
        told.changed(SUBJECT, 100);
        told.changed(SUBJECT, 100);
        assert_eq!(told.take_changed(), [SUBJECT.0]);
        let news = told.news(SUBJECT.0, own(5, 3, 10)).unwrap();
        let first = News {
            window: 5,
            current: 10,
            previous: Some(3),
            is_known: false,
        };
        assert_eq!(news, first);
        told.changed(SUBJECT, 100);
        assert_eq!(told.take_changed(), [SUBJECT.0], "it changed meanwhile");
        let heard = Heard {
            window: 5,
            current: 2,
            previous: Some(1),
        };
        told.learn(SUBJECT.0, heard);
        let news = told.news(SUBJECT.0, own(5, 3, 11)).unwrap();
        let second = News {
            current: 11,
            previous: None,
            is_known: true,
            ..first
        };
        assert_eq!(news, second);
        // A new window begins: the last count of the one before is told too.
        let news = told.news(SUBJECT.0, own(6, 11, 0)).unwrap();
        let third = News {
            window: 6,
            current: 0,
            previous: Some(11),
            is_known: false,
        };
        assert_eq!(news, third);
    }

    #[test]
    fn a_server_that_lost_its_memory_lifts_no_limit() {
        let mut told = told(5, 40, Some(30));
        let heard = |current| Heard {
            window: 5,
            current,
            previous: None,
        };
        told.learn(SUBJECT.0, heard(39));
        assert_eq!(told.get(SUBJECT).unwrap().at(5), (30, 39), "given back");
        told.tell_again();
        assert_eq!(told.take_changed(), [SUBJECT.0]);
        let news = told.news(SUBJECT.0, own(5, 3, 10)).unwrap();
        assert_eq!((news.previous, news.is_known), (Some(3), false));
        told.learn(SUBJECT.0, heard(0));
        assert_eq!(told.get(SUBJECT).unwrap().at(5), (30, 39), "it was flushed");
        told.learn(SUBJECT.0, heard(45));
        assert_eq!(told.get(SUBJECT).unwrap().at(5), (30, 45));
    }

    #[test]
    fn a_failed_exchange_is_tried_again_and_told_of_once() {
        let mut told = told(5, 40, None);
        told.take_changed();
        assert!(told.failed(SUBJECT.0));
        assert!(!told.failed(SUBJECT.0));
        assert!(told.get(SUBJECT).unwrap().is_out());
        assert_eq!(told.take_changed(), [SUBJECT.0]);
        let heard = Heard {
            window: 4,
            current: 1,
            previous: None,
        };
        told.learn(SUBJECT.0, heard);
        let others = told.get(SUBJECT).unwrap();
        assert!(!others.is_out());
        assert_eq!(others.at(5).1, 40, "an answer about an earlier window");
    }

    #[test]
    fn subjects_whose_windows_are_over_are_forgotten() {
        let mut told = told(5, 40, None);
        told.take_changed();
        told.sweep(6);
        assert!(told.get(SUBJECT).is_some());
        told.sweep(7);
        assert!(told.get(SUBJECT).is_none());
    }
}
