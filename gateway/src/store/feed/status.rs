//! [`FeedStatus`]: currency of the table, for requests, readiness and metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout;

use crate::keys::UnixMillis;
use crate::store::Written;
use crate::store::fault::Fault;

/// Currency of the key table. Written by the feed, read from anywhere; [`age`](Self::age) takes no
/// lock.
#[derive(Debug)]
pub struct FeedStatus {
    since: Instant,
    /// Milliseconds from `since` to the last moment that the table was known to be current;
    /// negative for a restored table.
    current: AtomicI64,
    reached: watch::Sender<Reached>,
    /// Newest revision that a command waits for.
    awaited: watch::Sender<i64>,
    /// Time of the last heartbeat, in the unit of `current`; `NEVER` before the first.
    announced: AtomicI64,
    loads: AtomicU64,
    /// Current failure of the store, as an index into [`Fault::ALL`]; out of range if none.
    fault: AtomicUsize,
}

/// Revision of a table and the history that it belongs to: revisions are specific to a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Last applied revision; 0 before the first load.
    pub revision: i64,
    /// Store of that revision; `None` while the table is not known to belong to the current store.
    pub of: Option<Followed>,
    /// Number of changes of history.
    pub turns: u64,
}

/// A store with its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// Generation of the file or server.
    pub generation: u64,
    /// Identity of the store.
    pub store: Arc<str>,
    /// Fingerprint of the history at this revision.
    pub mark: Arc<str>,
}

/// Value of `current` for a table that was never current.
const NEVER: i64 = i64::MIN;

impl FeedStatus {
    /// Returns the status of a feed that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self {
            since: Instant::now(),
            current: AtomicI64::new(NEVER),
            reached: watch::Sender::new(Reached::default()),
            awaited: watch::Sender::new(0),
            announced: AtomicI64::new(NEVER),
            loads: AtomicU64::new(0),
            fault: AtomicUsize::new(usize::MAX),
        }
    }

    /// Returns the time from the last moment that the table was known to be current to `now`;
    /// `None` if it never was.
    #[must_use]
    pub fn age(&self, now: Instant) -> Option<Duration> {
        let current = self.current.load(Ordering::Acquire);
        (current != NEVER).then(|| self.between(current, now))
    }

    /// Returns the larger of the table's age and the time since the last heartbeat; `None` if the
    /// table was never current.
    ///
    /// A store that is readable but refuses heartbeats is either read-only or abandoned. Commands
    /// that wait for this gateway see its heartbeats only.
    fn proven_age(&self, now: Instant) -> Option<Duration> {
        let silence = match self.announced.load(Ordering::Acquire) {
            // Not registered, so no command relies on this gateway.
            NEVER => Duration::ZERO,
            announced => self.between(announced, now),
        };
        self.age(now).map(|age| age.max(silence))
    }

    fn between(&self, moment: i64, now: Instant) -> Duration {
        let passed = millis(now.saturating_duration_since(self.since)).saturating_sub(moment);
        Duration::from_millis(u64::try_from(passed).unwrap_or(0))
    }

    /// Returns the moment of `proven_age` by the system clock, which reads
    /// `now`; `None` if the table was never current.
    #[must_use]
    pub fn known_at(&self, now: UnixMillis) -> Option<UnixMillis> {
        self.proven_age(Instant::now())
            .map(|age| UnixMillis(now.0.saturating_sub(millis(age))))
    }

    /// Returns whether `proven_age` exceeds `most`, or the table was never
    /// current.
    #[must_use]
    pub fn is_older_than(&self, most: Duration) -> bool {
        self.proven_age(Instant::now()).is_none_or(|age| age > most)
    }

    /// Records a successful heartbeat that began at `begun`.
    pub fn announced(&self, begun: Instant) {
        self.announced.store(
            millis(begun.saturating_duration_since(self.since)),
            Ordering::Release,
        );
    }

    /// Waits up to `patience` for the table to apply `written`. The same revision in another file,
    /// or on another server, does not count.
    pub async fn reaches(&self, written: Written, patience: Duration) -> bool {
        let mut reached = self.reached();
        let has_it = |reached: &Reached| {
            let is_of_it = |of: &Followed| of.generation == written.generation;
            reached.of.as_ref().is_some_and(is_of_it) && reached.revision >= written.revision
        };
        timeout(patience, reached.wait_for(has_it))
            .await
            .is_ok_and(|reached| reached.is_ok())
    }

    /// Watches the newest revision that a command waits for.
    #[must_use]
    pub fn awaited(&self) -> watch::Receiver<i64> {
        self.awaited.subscribe()
    }

    pub(super) fn awaits(&self, revision: i64) {
        self.awaited
            .send_if_modified(|known| std::mem::replace(known, revision) != revision);
    }

    /// Returns the last applied revision; 0 before the first load.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.reached.borrow().revision
    }

    /// Watches the progress of the table; intermediate values may be skipped.
    #[must_use]
    pub fn reached(&self) -> watch::Receiver<Reached> {
        self.reached.subscribe()
    }

    /// Returns the current failure of the store, if any.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        Fault::ALL.get(self.fault.load(Ordering::Relaxed)).copied()
    }

    pub(super) fn fails_with(&self, fault: Option<Fault>) {
        let index = fault.and_then(|fault| Fault::ALL.iter().position(|known| *known == fault));
        self.fault
            .store(index.unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// Records a table restored from a file at `revision`, current `age` ago.
    pub fn restored(&self, revision: i64, age: Duration) {
        self.current.store(
            millis(self.since.elapsed()).saturating_sub(millis(age)),
            Ordering::Release,
        );
        self.reached
            .send_modify(|reached| reached.revision = revision);
    }

    /// Returns the number of full loads.
    #[must_use]
    pub fn loads(&self) -> u64 {
        self.loads.load(Ordering::Relaxed)
    }

    pub(super) fn loaded(&self) {
        self.loads.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn checked(&self, now: Instant) {
        self.current.store(
            millis(now.saturating_duration_since(self.since)),
            Ordering::Release,
        );
    }

    pub(super) fn reaches_now(&self, revision: i64, of: Followed) {
        self.reached.send_if_modified(|reached| {
            let is_same = reached.revision == revision && reached.of.as_ref() == Some(&of);
            (reached.revision, reached.of) = (revision, Some(of));
            !is_same
        });
    }

    /// Records that the current store has another history than the table, even at the same
    /// location.
    pub(super) fn is_of_another(&self) {
        self.reached.send_modify(|reached| {
            (reached.revision, reached.of) = (0, None);
            reached.turns += 1;
        });
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Default for FeedStatus {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_counts_from_the_last_check() {
        let status = FeedStatus::new();
        let start = status.since;
        assert_eq!(status.age(start), None);
        status.checked(start + Duration::from_millis(10));
        assert_eq!(
            status.age(start + Duration::from_millis(250)),
            Some(Duration::from_millis(240))
        );
        assert_eq!(status.age(start), Some(Duration::ZERO));
    }

    #[test]
    fn a_table_from_a_file_is_as_old_as_the_file() {
        let status = FeedStatus::new();
        status.restored(7, Duration::from_secs(3_600));
        let age = status.age(Instant::now()).unwrap();
        assert!(
            age >= Duration::from_secs(3_600) && age < Duration::from_secs(3_700),
            "{age:?}"
        );
        assert_eq!(status.revision(), 7);
        let known_at = status.known_at(UnixMillis(10_000_000)).unwrap();
        assert!(
            (6_300_000..=6_400_000).contains(&known_at.0),
            "{known_at:?}"
        );
        assert_eq!(FeedStatus::new().known_at(UnixMillis(10_000_000)), None);
    }

    fn followed(generation: u64) -> Followed {
        Followed {
            generation,
            store: "store".into(),
            mark: "mark".into(),
        }
    }

    #[test]
    fn revisions_are_told_once() {
        let status = FeedStatus::new();
        let mut reached = status.reached();
        status.reaches_now(3, followed(0));
        assert!(reached.has_changed().unwrap());
        assert_eq!(reached.borrow_and_update().revision, 3);
        status.reaches_now(3, followed(0));
        assert!(!reached.has_changed().unwrap());
    }

    #[tokio::test]
    async fn a_change_is_in_force_only_where_the_table_is_of_its_store() {
        let status = FeedStatus::new();
        let is_in_force = async |generation, revision| {
            let written = Written {
                generation,
                revision,
            };
            status.reaches(written, Duration::ZERO).await
        };
        status.restored(100, Duration::ZERO);
        assert!(!is_in_force(0, 51).await, "a file says how far it came");
        status.reaches_now(100, followed(0));
        assert!(is_in_force(0, 51).await);
        assert!(!is_in_force(0, 101).await);
        // The file was replaced, and the table still belongs to the previous one.
        assert!(!is_in_force(1, 51).await);
        status.is_of_another();
        assert!(!is_in_force(0, 51).await && !is_in_force(1, 51).await);
        assert_eq!(status.revision(), 0);
        status.reaches_now(51, followed(1));
        assert!(is_in_force(1, 51).await);
    }
}
