//! Follows the resets of rate limits: counts are in the memory of each gateway, so each makes them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::{Instant, sleep, sleep_until};

use crate::limits::{Mode, OfRoute};
use crate::pipeline::Policy;
use crate::store::{FeedStatus, LimitParty, Reached, Store, StoreError};

/// Time after which every gateway has made a reset, unless it is cut off.
const SETTLED: Duration = Duration::from_secs(2);
/// Delay after a failed read.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A reset that was made, whose shared counts are to be heard again.
struct Made {
    due: Instant,
    party: LimitParty,
    name: Option<String>,
}

/// Makes every reset that the feed tells of.
pub(super) async fn follow(
    store: &Store,
    policy: &ArcSwap<Policy>,
    status: &FeedStatus,
) -> Infallible {
    let mut reached = status.reached();
    // History, and the change up to which resets were made. Nothing of before the start counts
    // here, nor does what another history says.
    let mut known: Option<(u64, i64)> = None;
    let mut made: Vec<Made> = Vec::new();
    loop {
        let Reached {
            revision, turns, ..
        } = reached.borrow_and_update().clone();
        let before = known.filter(|(of, last)| *of == turns && *last <= revision);
        let outcome = match before {
            Some((_, last)) if last < revision => {
                make(store, policy, (last, revision), &mut made).await
            }
            Some(_) | None => Ok(()),
        };
        if let Err(error) = outcome {
            log::warn!("cannot read which limits were reset, retrying: {error}");
            sleep(RETRY_DELAY).await;
            continue;
        }
        known = (revision > 0).then_some((turns, revision));
        policy.load().limits.memory().reset_up_to(revision);
        let due = made.first().map(|made| made.due);
        tokio::select! {
            // The sender lives as long as the gateway.
            _ = reached.changed() => {}
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                let now = Instant::now();
                let settled = made.extract_if(.., |made| made.due <= now);
                let policy = policy.load_full();
                for Made { party, name, .. } in settled {
                    let limits = &policy.limits;
                    limits.hear_after_reset(party.holder(), &routes(&policy), name.as_deref());
                }
            }
        }
    }
}

async fn make(
    store: &Store,
    policy: &ArcSwap<Policy>,
    (after, last): (i64, i64),
    made: &mut Vec<Made>,
) -> Result<(), StoreError> {
    for reset in store.limit_resets(after, last).await? {
        let Some(party) = store.limit_party(&reset).await? else {
            continue;
        };
        let policy = policy.load_full();
        let (limits, name) = (&policy.limits, reset.name);
        limits.reset(party.holder(), &routes(&policy), name.as_deref());
        if limits.mode() == Mode::Shared {
            made.push(Made {
                due: Instant::now() + SETTLED,
                party,
                name,
            });
        }
    }
    Ok(())
}

fn routes(policy: &Policy) -> Vec<(&Arc<str>, &OfRoute)> {
    let routes = policy.routes.iter();
    routes.map(|route| (&route.name, &route.in_force)).collect()
}
