//! Periodic duties that keep memory and store small, and the numbers about them current.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::keys::{KeyTable, UnixMillis};
use crate::limits::Memory;
use crate::limits::fleet::CountExchange;
use crate::store::{FeedStatus, Keep, Store, StoreSizes};

/// Shortest and longest interval between counts of the keys that expire soon.
const MIN_COUNT_INTERVAL: Duration = Duration::from_secs(1);
const MAX_COUNT_INTERVAL: Duration = Duration::from_secs(60);
/// Interval of the retention sweep, and its first delay after the start.
const PRUNE_INTERVAL: Duration = Duration::from_hours(1);
const FIRST_PRUNE_DELAY: Duration = Duration::from_secs(1);
/// Interval between counts of the store's rows.
const MEASURE_INTERVAL: Duration = Duration::from_mins(5);
/// Delay after a failed count.
const MEASURE_RETRY_DELAY: Duration = Duration::from_secs(10);

/// Counts the keys that expire soon: after loading, after changes and periodically, using at most a
/// hundredth of the time.
pub(super) async fn count_ending(keys: &Arc<KeyTable>, status: &FeedStatus) -> Infallible {
    let mut reached = status.reached();
    loop {
        if !keys.is_loaded() {
            sleep(MIN_COUNT_INTERVAL).await;
            continue;
        }
        reached.mark_unchanged();
        let (begun, counted) = (Instant::now(), Arc::clone(keys));
        // On a blocking thread: a million keys take a while.
        let counted =
            tokio::task::spawn_blocking(move || counted.count_ending(UnixMillis::now())).await;
        if let Err(error) = counted {
            log::warn!("cannot count the keys that expire soon: {error}");
        }
        let wait = (begun.elapsed() * 100).clamp(MIN_COUNT_INTERVAL, MAX_COUNT_INTERVAL);
        sleep(wait).await;
        let _ = timeout(MAX_COUNT_INTERVAL - wait, reached.changed()).await;
    }
}

/// Removes the cells of limits whose subjects are idle.
pub(super) async fn sweep(limits: &Arc<Memory>) -> Infallible {
    loop {
        let limits = Arc::clone(limits);
        // On a blocking thread: a million cells take a while.
        let swept = tokio::task::spawn_blocking(move || limits.sweep()).await;
        sleep(swept.unwrap_or(MIN_COUNT_INTERVAL)).await;
    }
}

/// Exchanges the counts of the limits with other gateways, where there is a server for it.
pub(super) async fn exchange_counts(exchange: Option<&CountExchange>) -> Infallible {
    match exchange {
        Some(exchange) => exchange.keep().await,
        None => std::future::pending().await,
    }
}

/// Periodically deletes rows beyond their retention.
pub(super) async fn prune(store: &Store, keep: Keep) -> Infallible {
    if keep == Keep::default() {
        return std::future::pending().await;
    }
    sleep(FIRST_PRUNE_DELAY).await;
    loop {
        match store.prune(keep).await {
            Ok((0, 0)) => {}
            Ok((audit, usage)) => {
                log::info!(
                    "deleted {audit} rows of the audit and {usage} of usage beyond their retention"
                );
            }
            Err(error) => log::warn!("cannot delete rows beyond their retention: {error}"),
        }
        sleep(PRUNE_INTERVAL).await;
    }
}

/// Periodically counts the rows of the store.
pub(super) async fn measure(store: &Store, sizes: &StoreSizes) -> Infallible {
    loop {
        let wait = match store.measure(sizes).await {
            Ok(()) => MEASURE_INTERVAL,
            Err(error) => {
                log::debug!("cannot count the rows of the store: {error}");
                MEASURE_RETRY_DELAY
            }
        };
        sleep(wait).await;
    }
}
