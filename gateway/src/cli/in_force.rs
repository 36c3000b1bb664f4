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
            "it is done, but whether the gateways go by it is not known: {error}"
        )),
    }
}

/// Names the unconfirmed gateways.
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

/// Names the silent gateways and explains the consequences.
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
