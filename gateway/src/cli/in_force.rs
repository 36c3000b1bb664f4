//! What every command that changes something ends with: the gateways that run go by it, or are named.

use std::time::Duration;

use crate::cli::Context;
use crate::cli::output::{Streams, moment};
use crate::store::{Confirmation, WaitFor};

/// How long a command waits for the gateways.
const WITHIN: Duration = Duration::from_secs(5);

/// Waits for the gateways that run, and names those that have not said in time that they go by the change. It is made all
/// the same, so that is no failure.
pub(super) async fn wait(context: &mut Context<'_>) {
    let streams = &mut context.streams;
    let _ = streams.out.flush();
    match context.store.confirmed_by(WaitFor::Live, WITHIN).await {
        Ok(confirmation) => name_others(&confirmation, streams),
        Err(error) => streams.remark(format_args!(
            "it is done, but whether the gateways go by it is not known: {error}"
        )),
    }
}

/// Names the gateways that have not confirmed.
fn name_others(confirmation: &Confirmation, streams: &mut Streams<'_>) {
    for gateway in &confirmation.missing {
        streams.remark(format_args!(
            "gateway {} has not confirmed within {} that it goes by this",
            gateway.name,
            humantime::format_duration(WITHIN)
        ));
    }
    name_silent(confirmation, streams);
}

/// Names the gateways of which nothing was heard, and says what that means.
pub(super) fn name_silent(confirmation: &Confirmation, streams: &mut Streams<'_>) {
    for gateway in &confirmation.silent {
        streams.remark(format_args!(
            "gateway {} was last heard of at {}: if it runs, it goes by what was before; if it is gone, say `gateway gateways \
             forget {}`",
            gateway.name,
            moment(gateway.seen_at),
            gateway.id
        ));
    }
    for gateway in &confirmation.refusing {
        streams.remark(format_args!(
            "gateway {} was last heard of at {}, longer ago than its max_staleness: it refuses every request until it has caught up",
            gateway.name,
            moment(gateway.seen_at)
        ));
    }
}
