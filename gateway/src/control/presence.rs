//! This gateway among the others of its store: announces it to them, and counts them.

use std::convert::Infallible;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch as channel;
use tokio::time::{Instant, sleep, sleep_until};

use crate::limits::{Memory, UnsharedWarning};
use crate::pipeline::Policy;
use crate::store::{FeedStatus, Presence, Reached, Store};

/// Interval of the heartbeats while nobody waits for this gateway; also its upper bound, whatever
/// the maximum table age is.
const HEARTBEAT: Duration = Duration::from_secs(5);
const MIN_HEARTBEAT: Duration = Duration::from_millis(50);
/// Delay after a failed announcement.
const RETRY_DELAY: Duration = Duration::from_millis(250);

/// Periodically announces this gateway and its progress to the store: at once if somebody waits,
/// otherwise with the next heartbeat. Many gateways would otherwise write more often than all
/// administrators.
pub(super) async fn announce(
    store: &Store,
    presence: &Presence,
    status: &FeedStatus,
    mut generations: channel::Receiver<u64>,
) -> Infallible {
    let (mut reached, mut awaited) = (status.reached(), status.awaited());
    let (mut succeeded, mut confirmed, mut announced_to) = (true, 0, None);
    // The silence must be noticed before the table is too old.
    let heartbeat = presence
        .max_staleness
        .map_or(HEARTBEAT, |most| (most / 3).clamp(MIN_HEARTBEAT, HEARTBEAT));
    let mut beat = Instant::now() + heartbeat;
    loop {
        let (revision, of) = position_in(&reached.borrow_and_update(), store);
        let wanted = *awaited.borrow_and_update();
        let is_waited_for = wanted > confirmed && revision >= wanted;
        // After a change of file or history, the last announcement is void.
        if !is_waited_for && of == announced_to {
            // The senders live as long as `status`.
            let is_news = tokio::select! {
                () = sleep_until(beat) => false,
                _ = reached.changed() => true,
                _ = awaited.changed() => true,
                // New settings have another hash.
                Ok(()) = generations.changed() => false,
            };
            if is_news {
                continue;
            }
        }
        let (revision, of) = position_in(&reached.borrow(), store);
        if announce_once(store, presence, status, revision, &mut succeeded).await {
            (confirmed, announced_to) = (revision, of);
        } else {
            sleep(RETRY_DELAY).await;
        }
        beat = Instant::now() + heartbeat;
    }
}

/// The table's position in the history of `store`, with the file or server that the position
/// belongs to; 0 while the table follows another one.
fn position_in(reached: &Reached, store: &Store) -> (i64, Option<(u64, u64)>) {
    let of = reached.of.as_ref().map(|of| of.generation);
    match of.filter(|generation| *generation == store.generation()) {
        Some(generation) => (reached.revision, Some((generation, reached.turns))),
        None => (0, None),
    }
}

/// Announces to the store and returns whether that succeeded; logs the first of several failures.
pub(super) async fn announce_once(
    store: &Store,
    presence: &Presence,
    status: &FeedStatus,
    revision: i64,
    succeeded: &mut bool,
) -> bool {
    // Taken before the store's own time: the gateway must not trust the store for longer than
    // others do.
    let begun = std::time::Instant::now();
    match store.announce(presence, revision).await {
        Ok(()) => {
            status.announced(begun);
            *succeeded = true;
        }
        Err(error) => {
            if std::mem::replace(succeeded, false) {
                log::warn!("cannot announce this gateway to the store: {error}");
            }
        }
    }
    *succeeded
}

/// Tells the limits how many gateways are live. While the store is away, the last known number
/// holds. Warns once where limits that do not know of other gateways meet some.
pub(super) async fn count_gateways(
    store: &Store,
    limits: &Memory,
    policy: &ArcSwap<Policy>,
) -> Infallible {
    let mut warning = UnsharedWarning::default();
    loop {
        if let Ok(gateways) = store.gateways().await {
            let live = gateways.iter().filter(|gateway| gateway.live).count();
            limits.set_live_gateways(u32::try_from(live).unwrap_or(u32::MAX));
            if warning.is_due(policy.load().limits.mode(), live) {
                log::warn!(
                    "limits.mode is \"local\" and {live} gateways are live: each allows every limit in full; \"split\" shares them"
                );
            }
        }
        sleep(HEARTBEAT).await;
    }
}
