//! `gateway gateways`: which gateways follow the store, and how far each has come.

use crate::cli::error::CommandError;
use crate::cli::output::{JsonArray, Streams, Table, moment};
use crate::store::Store;
use crate::views::GatewayView;

/// How to print them.
#[derive(Debug, clap::Args)]
pub struct GatewaysCommand {
    /// Print a JSON array.
    #[arg(long)]
    json: bool,
}

/// Prints the gateways.
pub async fn run(
    command: &GatewaysCommand,
    store: &Store,
    streams: &mut Streams<'_>,
) -> Result<(), CommandError> {
    let newest = store.newest_revision().await?;
    let gateways = store.gateways().await?;
    if command.json {
        let mut array = JsonArray::default();
        gateways
            .iter()
            .try_for_each(|gateway| array.element(streams.out, &GatewayView::of(gateway)))?;
        return Ok(array.finish(streams.out)?);
    }
    let mut table = Table::new(["NAME", "STATE", "CHANGES BEHIND", "SEEN", "STARTED", "ID"]);
    for gateway in gateways {
        table.row([
            gateway.name,
            if gateway.live { "live" } else { "silent" }.to_owned(),
            (newest - gateway.revision).max(0).to_string(),
            moment(gateway.seen_at),
            moment(gateway.started_at),
            gateway.id,
        ]);
    }
    table.flush(streams.out)?;
    Ok(streams.out.flush()?)
}
