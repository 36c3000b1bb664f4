//! Wait at the end of every change until it is in force on the running gateways, and the list of
//! those that did not confirm.

use std::time::Duration;

use crate::cli::Context;
use crate::cli::output::{Streams, moment};
use crate::store::{Confirmation, WaitFor};

/// Maximum wait for the gateways.
const WITHIN: Duration = Duration::from_secs(5);

/// Waits for the running gateways and names those that did not confirm in time. Not a failure: the
/// change was made.
pub(super) async fn wait(context: &mut Context<'_>) {
    let streams = &mut context.streams;
    let _ = streams.out.flush();
    match context.store.confirmed_by(WaitFor::Live, WITHIN).await {
        Ok(confirmation) => name_others(&confirmation, streams),
        Err(error) => streams.remark(format_args!(
            "the change is made, but the confirmation by the gateways is unknown: {error}"
        )),
    }
}

/// Names the unconfirmed gateways.
fn name_others(confirmation: &Confirmation, streams: &mut Streams<'_>) {
    for gateway in &confirmation.missing {
        streams.remark(format_args!(
            "gateway {} has not confirmed the change within {}",
            gateway.name,
            humantime::format_duration(WITHIN)
        ));
    }
    name_silent(confirmation, streams);
}

/// Names the silent gateways and explains the consequences.
pub(super) fn name_silent(confirmation: &Confirmation, streams: &mut Streams<'_>) {
    for gateway in &confirmation.silent {
        streams.remark(format_args!(
            "gateway {} sent its last heartbeat at {}: if it runs, the previous state is in force there; if it is gone, run `gateway gateways \
             forget {}`",
            gateway.name,
            moment(gateway.seen_at),
            gateway.id
        ));
    }
    for gateway in &confirmation.refusing {
        streams.remark(format_args!(
            "gateway {} sent its last heartbeat at {}, longer ago than its max_staleness: it refuses every request until it has caught up",
            gateway.name,
            moment(gateway.seen_at)
        ));
    }
}
