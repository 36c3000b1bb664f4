//! `gateway adoption report`: prints who still comes to routes that only observe without a good
//! credential, and what would happen if they observed no longer.

use std::io;
use std::time::Duration;

use crate::cli::Context;
use crate::cli::error::{CommandError, refuse_key};
use crate::cli::output::{Streams, Table, moment, or_dash};
use crate::cli::usage::grouped;
use crate::keys::{RouteName, When};
use crate::store::{AdoptionCaller, AdoptionOfRoute, AdoptionReport};
use crate::views::AdoptionView;

/// Default length of the period.
const DEFAULT_SINCE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Maximum number of listed callers.
const MAX_TOP: i64 = 1_000;

/// Show who comes to routes that only observe.
#[derive(Debug, clap::Subcommand)]
pub enum AdoptionCommand {
    /// Show who still comes without a good key, and how many requests would be refused.
    Report(AdoptionReportArguments),
}

/// Report to print.
#[derive(Debug, clap::Args)]
pub struct AdoptionReportArguments {
    /// Start of the period, whose whole days in UTC count: an age such as `7d`, a date, or a moment
    /// [default: 30d].
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    since: Option<When>,
    /// Only the route of this name.
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Maximum number of callers to list of each route.
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=MAX_TOP))]
    top: u32,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

impl AdoptionCommand {
    /// Runs the command.
    pub async fn run(self, context: &mut Context<'_>) -> Result<(), CommandError> {
        let Self::Report(arguments) = self;
        let route = match &arguments.route {
            Some(name) => {
                refuse_key(name, context.prefix, "the name of a route")?;
                Some(name.parse::<RouteName>()?)
            }
            None => None,
        };
        let now = context.stamp.at;
        let since = arguments
            .since
            .unwrap_or(When::Span(DEFAULT_SINCE))
            .ago(now);
        let route = route.as_ref().map(RouteName::as_str);
        let report = context.store.adoption(since, route, arguments.top).await?;
        if arguments.json {
            context.streams.json(&AdoptionView::of(&report))?;
        } else {
            print(&report, &mut context.streams)?;
        }
        Ok(context.streams.out.flush()?)
    }
}

fn print(report: &AdoptionReport, streams: &mut Streams<'_>) -> io::Result<()> {
    let since = moment(report.from);
    if report.routes.is_empty() {
        return writeln!(
            streams.out,
            "no request came to a route that only observes since {since}; such a route has `auth = [\"observe\"]`"
        );
    }
    writeln!(
        streams.out,
        "requests on routes that only observe, since {since}"
    )?;
    for of_route in &report.routes {
        print_route(of_route, streams)?;
    }
    writeln!(streams.out, "\nnext")?;
    for of_route in &report.routes {
        writeln!(streams.out, "  {}: {}", of_route.route, next_step(of_route))?;
    }
    Ok(())
}

fn print_route(of_route: &AdoptionOfRoute, streams: &mut Streams<'_>) -> io::Result<()> {
    let (route, requests) = (&of_route.route, of_requests(of_route.requests()));
    let (good, refused) = (grouped(of_route.good), grouped(of_route.refused));
    writeln!(
        streams.out,
        "\nroute {route}: {requests}, {good} with a good credential, {refused} without"
    )?;
    if of_route.callers.is_empty() {
        return Ok(());
    }
    let mut table = Table::new([
        "REQUESTS",
        "WHY",
        "CONSUMER",
        "NETWORK",
        "CLIENT",
        "FIRST SEEN",
        "LAST SEEN",
    ]);
    for AdoptionCaller {
        code,
        cause,
        consumer,
        consumer_name,
        network,
        client,
        requests,
        first_at,
        last_at,
    } in &of_route.callers
    {
        let id = consumer.map(|id| id.to_string());
        table.row([
            grouped(*requests),
            format!("{code} ({cause})"),
            or_dash(
                consumer_name
                    .as_deref()
                    .or(id.as_deref())
                    .unwrap_or_default(),
            ),
            network.clone(),
            client.clone(),
            moment(*first_at),
            moment(*last_at),
        ]);
    }
    table.flush(streams.out)?;
    let listed = u64::try_from(of_route.callers.len()).unwrap_or(u64::MAX);
    match of_route.all_callers.saturating_sub(listed) {
        0 => Ok(()),
        more => writeln!(
            streams.out,
            "and {} more; `--top` lists more",
            grouped(more)
        ),
    }
}

/// A number of requests in words.
fn of_requests(number: u64) -> String {
    let unit = if number == 1 { "request" } else { "requests" };
    format!("{} {unit}", grouped(number))
}

/// Says what would happen if the route took `"observe"` out of its `auth`.
fn next_step(of_route: &AdoptionOfRoute) -> String {
    let requests = of_requests(of_route.requests());
    if of_route.refused == 0 {
        return format!("none of {requests} would be refused: take \"observe\" out of its `auth`");
    }
    // Rounded up, so that some are never none.
    let share = of_route
        .refused
        .saturating_mul(1_000)
        .div_ceil(of_route.requests().max(1));
    format!(
        "{} of {requests} ({}.{} %) would be refused, were `auth = [\"key\"]` in force; give those above a key, or mend theirs",
        grouped(of_route.refused),
        share / 10,
        share % 10
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_step_follows_from_the_counts() {
        for (good, refused, said) in [
            (1_500, 0, "none of 1,500 requests would be refused"),
            (1, 0, "none of 1 request would be refused"),
            (0, 1, "1 of 1 request (100.0 %)"),
            (1_500, 1, "1 of 1,501 requests (0.1 %) would be refused"),
            (0, 3, "3 of 3 requests (100.0 %) would be refused"),
            (
                u64::MAX,
                1,
                "1 of 18,446,744,073,709,551,615 requests (0.1 %)",
            ),
        ] {
            let of_route = AdoptionOfRoute {
                route: "v1".to_owned(),
                good,
                refused,
                callers: Vec::new(),
                all_callers: 0,
            };
            let step = next_step(&of_route);
            assert!(step.starts_with(said), "{step}");
        }
    }
}
