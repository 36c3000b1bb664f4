//! Process-log line for a leaked key.

use crate::store::{Actor, Leak, LeakAction, LeakOutcome};

/// Logs a warning with key id, consumer, reporter, place and action, once per key and place; never
/// the key itself.
pub fn log(leak: &Leak, outcome: &LeakOutcome, reporter: &Actor) {
    let LeakOutcome {
        action,
        key,
        is_news: true,
    } = outcome
    else {
        return;
    };
    let place = leak.url.as_deref().unwrap_or("an unknown place");
    let done = match action {
        LeakAction::Notified => "no action, by the policy of its bucket",
        LeakAction::Ending => "it ends after the grace period of its bucket",
        LeakAction::Revoked => "it is revoked",
        LeakAction::AlreadyRefused => "it was refused already",
    };
    log::warn!(
        "key {} ({}…) of consumer {:?} was reported as leaked by {reporter}, at {place:?}: {done}",
        key.id,
        key.hint,
        key.consumer_name.as_str(),
    );
}
