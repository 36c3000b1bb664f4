//! `gateway gateways`: lists the gateways that follow the store, with their confirmed revision.

use crate::cli::Context;
use crate::cli::error::CommandError;
use crate::cli::output::{Listing, moment};
use crate::store::{FollowingGateway, GatewayId};
use crate::views::GatewayView;

/// Output options.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct GatewaysCommand {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print a JSON array.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Forget a gateway that is gone, so that no command waits for it
    Forget {
        /// Id of the gateway, `gw_…`.
        #[arg(value_name = "ID")]
        id: GatewayId,
        /// Print a JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// Lists the gateways, or forgets one.
pub async fn run(command: &GatewaysCommand, context: &mut Context<'_>) -> Result<(), CommandError> {
    match &command.action {
        None => list(command.json, context).await?,
        Some(Action::Forget { id, json }) => forget(id, *json, context).await?,
    }
    Ok(context.streams.out.flush()?)
}

async fn list(json: bool, context: &mut Context<'_>) -> Result<(), CommandError> {
    let newest = context.store.newest_revision().await?;
    let gateways = context.store.gateways().await?;
    let heading = [
        "NAME",
        "STATE",
        "CHANGES BEHIND",
        "SETTINGS",
        "SEEN",
        "STARTED",
        "ID",
    ];
    let mut listing = Listing::new(heading, json);
    for gateway in &gateways {
        listing.add(context.streams.out, &GatewayView::of(gateway), || {
            [
                gateway.name.clone(),
                state(gateway).to_owned(),
                (newest - gateway.revision).max(0).to_string(),
                gateway.config_hash.clone().unwrap_or_default(),
                moment(gateway.seen_at),
                moment(gateway.started_at),
                gateway.id.clone(),
            ]
        })?;
    }
    Ok(listing.finish(context.streams.out)?)
}

async fn forget(id: &GatewayId, json: bool, context: &mut Context<'_>) -> Result<(), CommandError> {
    let forgotten = context.store.forget_gateway(id, context.stamp).await?;
    let forgotten = forgotten.ok_or_else(|| {
        CommandError::InvalidArgument(format!("there is no gateway {id} that follows this store"))
    })?;
    if json {
        return Ok(context.streams.json(&GatewayView::of(&forgotten))?);
    }
    Ok(writeln!(
        context.streams.out,
        "gateway {} ({id}) is forgotten",
        forgotten.name
    )?)
}

fn state(gateway: &FollowingGateway) -> &'static str {
    if gateway.live {
        "live"
    } else if gateway.refusing {
        "refusing"
    } else {
        "silent"
    }
}
