//! `gateway audit`: prints the audit log.

use crate::cli::Context;
use crate::cli::error::{CommandError, refuse_key};
use crate::cli::output::{Listing, moment, or_dash};
use crate::keys::When;
use crate::store::{ACTIONS, AuditCursor, AuditFilter};
use crate::views::AuditView;

/// Page size of a read.
const PAGE: u32 = 500;

/// Print audit rows, newest first.
#[derive(Debug, clap::Args)]
pub struct AuditCommand {
    /// Only actions on the key or consumer with this id.
    #[arg(long = "of", value_name = "ID")]
    subject: Option<String>,
    /// Only actions of this actor, for example `cli:root` or `api:ci`.
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Only this action, for example `key.revoke`.
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only from this time on: an age such as `7d`, a date, or a moment such as
    /// `2030-01-31T12:00:00Z`.
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    since: Option<When>,
    /// Only before this time.
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    until: Option<When>,
    /// Only rows before this row number, to continue a list.
    #[arg(long, value_name = "NUMBER")]
    before: Option<i64>,
    /// Maximum number of rows.
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 50,
        conflicts_with = "all"
    )]
    limit: u32,
    /// All rows.
    #[arg(long)]
    all: bool,
    /// Print a JSON array.
    #[arg(long)]
    json: bool,
}

/// Prints the requested rows.
pub async fn run(command: AuditCommand, context: &mut Context<'_>) -> Result<(), CommandError> {
    let AuditCommand {
        subject,
        actor,
        action,
        since,
        until,
        before,
        limit,
        all,
        json,
    } = command;
    for argument in [&subject, &actor, &action].into_iter().flatten() {
        refuse_key(
            argument,
            context.prefix,
            "an id, the name of an actor or an action",
        )?;
    }
    if let Some(action) = action.as_deref().filter(|action| !ACTIONS.contains(action)) {
        return Err(CommandError::InvalidArgument(format!(
            "there is no action `{action}`; there are {}",
            ACTIONS.join(", ")
        )));
    }
    if let Some(actor) = &actor {
        context.store.require_actor(actor).await?;
    }
    let filter = AuditFilter {
        subject_id: subject,
        actor,
        action,
        since: since.map(|since| since.ago(context.stamp.at)),
        until: until.map(|until| until.ago(context.stamp.at)),
    };
    let heading = [
        "NUMBER", "AT", "ACTOR", "FROM", "ACTION", "SUBJECT", "DETAIL",
    ];
    let mut listing = Listing::new(heading, json);
    let (mut before, mut left) = (before.map(AuditCursor), if all { u32::MAX } else { limit });
    let mut is_cut = false;
    while left > 0 {
        // One more than shown, to detect further rows.
        let wanted = left.min(PAGE);
        let mut page = context
            .store
            .audit(&filter, before, wanted.saturating_add(1))
            .await?;
        is_cut = page.len() > wanted as usize;
        page.truncate(wanted as usize);
        for row in &page {
            listing.add(context.streams.out, &AuditView::of(row), || {
                [
                    row.id.to_string(),
                    moment(row.at),
                    row.actor.clone(),
                    or_dash(row.source.as_deref().unwrap_or_default()),
                    row.action.clone(),
                    row.subject_id.clone(),
                    row.detail.to_string(),
                ]
            })?;
        }
        listing.flush(context.streams.out)?;
        let Some(last) = page.last() else { break };
        before = Some(last.cursor());
        if !all {
            left -= u32::try_from(page.len()).unwrap_or(left).min(left);
        }
        if !is_cut {
            break;
        }
    }
    listing.finish(context.streams.out)?;
    context.streams.out.flush()?;
    match before {
        Some(AuditCursor(last)) if is_cut => context.streams.remark(format_args!(
            "there are older rows: `--before {last}` shows the next, `--all` all"
        )),
        Some(_) => {}
        None => context
            .streams
            .remark(format_args!("no matching row in the audit")),
    }
    Ok(())
}
