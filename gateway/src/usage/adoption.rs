//! [`Adoption`]: who comes to routes that only observe, in memory of the gateway until it is
//! written.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::keys::UnixMillis;
use crate::keys::adoption::{AdoptionCounts, AdoptionKey, Day};

/// Rows of one route and day; who comes beyond them has the row of the rest.
const MAX_ROWS_OF_A_ROUTE: usize = 500;
/// Rows in memory, about 5 MB.
const MAX_ROWS: usize = 20_000;

/// Counts of all workers. A request on a route that observes waits for no more than the look at one
/// row; others never come here.
#[derive(Debug, Default)]
pub struct Adoption {
    rows: Mutex<Rows>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Rows {
    /// Rows of today, written ones included, so that a day cannot have more of them than the limit.
    rows: HashMap<AdoptionKey, Option<AdoptionCounts>>,
    of_routes: HashMap<Arc<str>, usize>,
    /// Whether there may be counts to write.
    is_changed: bool,
    today: Option<Day>,
}

impl Adoption {
    /// Counts a request at `at`.
    pub fn count(&self, key: AdoptionKey, at: UnixMillis) {
        if self.rows().count(key, AdoptionCounts::one(at)) {
            self.news.notify_one();
        }
    }

    /// Waits until there is something to write, where there was nothing. Has one listener.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// Whether there is something to write.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.rows().is_changed
    }

    /// Takes at most `most` rows of counts, ordered by key: a common lock order of all writers
    /// avoids deadlocks.
    #[must_use]
    pub fn take(&self, most: usize) -> Vec<(AdoptionKey, AdoptionCounts)> {
        let mut rows = self.rows();
        if !rows.is_changed {
            return Vec::new();
        }
        let counted = rows.rows.iter_mut().filter(|(_, counts)| counts.is_some());
        let mut taken: Vec<_> = counted
            .take(most)
            .filter_map(|(key, counts)| Some((key.clone(), counts.take()?)))
            .collect();
        rows.is_changed = taken.len() == most;
        drop(rows);
        taken.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        taken
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        // Counts are whole between any two of its changes.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows {
    /// Counts, and returns whether there was nothing to write before.
    fn count(&mut self, key: AdoptionKey, counts: AdoptionCounts) -> bool {
        if self.today.is_none_or(|today| today < key.day) {
            self.today = Some(key.day);
            self.rows.retain(|_, counts| counts.is_some());
            self.of_routes.clear();
        }
        let is_news = !std::mem::replace(&mut self.is_changed, true);
        if let Some(row) = self.rows.get_mut(&key) {
            add(row, counts);
            return is_news;
        }
        let of_route = self.of_routes.entry(Arc::clone(&key.route)).or_default();
        let has_room = *of_route < MAX_ROWS_OF_A_ROUTE && self.rows.len() < MAX_ROWS;
        let key = match key.newcomer {
            Some(newcomer) if !has_room => AdoptionKey {
                newcomer: Some(newcomer.as_other()),
                ..key
            },
            _ => {
                *of_route += 1;
                key
            }
        };
        add(self.rows.entry(key).or_default(), counts);
        is_news
    }
}

fn add(row: &mut Option<AdoptionCounts>, more: AdoptionCounts) {
    match row {
        Some(counts) => counts.add(more),
        None => *row = Some(more),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::adoption::{ClientClass, Network, Newcomer};

    fn key(route: &str, day: i64, network: Option<usize>) -> AdoptionKey {
        let newcomer = |number: usize| {
            let [_, _, high, low] = u32::try_from(number).unwrap().to_be_bytes();
            Newcomer {
                code: "api_key_missing".into(),
                cause: "no_header".into(),
                consumer: None,
                network: Network::of(std::net::IpAddr::from([10, high, low, 1]).into()),
                client: ClientClass::of(None),
            }
        };
        AdoptionKey {
            route: route.into(),
            day: Day::of(UnixMillis(day * 86_400_000)),
            newcomer: network.map(newcomer),
        }
    }

    #[test]
    fn counts_are_taken_once_and_rows_of_a_day_are_bounded() {
        let adoption = Adoption::default();
        assert!(!adoption.is_changed() && adoption.take(10).is_empty());
        for at in [5, 3, 9] {
            adoption.count(key("a", 1, Some(0)), UnixMillis(at));
        }
        adoption.count(key("a", 1, None), UnixMillis(7));
        let taken = adoption.take(10);
        assert_eq!(taken.len(), 2);
        let counts = AdoptionCounts {
            requests: 3,
            first_at: UnixMillis(3),
            last_at: UnixMillis(9),
        };
        assert!(taken.contains(&(key("a", 1, Some(0)), counts)), "{taken:?}");
        assert!(adoption.take(10).is_empty() && !adoption.is_changed());
        // Rows that were written still count among those of the day, and may be counted again.
        for number in 0..2 * MAX_ROWS_OF_A_ROUTE {
            adoption.count(key("a", 1, Some(number)), UnixMillis(10));
        }
        adoption.count(key("a", 1, None), UnixMillis(10));
        adoption.count(key("b", 1, Some(1)), UnixMillis(10));
        let mut taken = Vec::new();
        while adoption.is_changed() {
            taken.extend(adoption.take(100));
        }
        let of_a: Vec<_> = taken.iter().filter(|(key, _)| &*key.route == "a").collect();
        assert_eq!(of_a.len(), MAX_ROWS_OF_A_ROUTE + 1);
        let all: u64 = of_a.iter().map(|(_, counts)| counts.requests).sum();
        assert_eq!(all, 2 * MAX_ROWS_OF_A_ROUTE as u64 + 1);
        assert!(taken.iter().any(|(key, _)| &*key.route == "b"));
        let other = |key: &AdoptionKey| {
            let newcomer = key.newcomer.as_ref();
            newcomer.is_some_and(|newcomer| newcomer.network == Network::other())
        };
        assert_eq!(taken.iter().filter(|(key, _)| other(key)).count(), 1);
        // Another day has its own rows.
        adoption.count(key("a", 2, Some(9_999)), UnixMillis(11));
        assert_eq!(adoption.take(10)[0].0, key("a", 2, Some(9_999)));
        assert_eq!(adoption.rows().rows.len(), 1);
    }
}
