//! `gateway audit`: who did what to which key, when and from where.

use crate::cli::error::{CommandError, refuse_key};
use crate::cli::output::{JsonArray, Streams, Table, moment};
use crate::keys::{Prefix, UnixMillis};
use crate::store::{AuditFilter, Store};
use crate::views::AuditView;

/// How many rows are read at once.
const PAGE: u32 = 500;

/// Which rows to print, the newest first.
#[derive(Debug, clap::Args)]
pub struct AuditCommand {
    /// Only what was done to the key or the consumer with this id.
    #[arg(long = "of", value_name = "ID")]
    subject: Option<String>,
    /// Only what this actor did, for example `cli:root` or `api:ci`.
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Only this action, for example `key.revoke`.
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only from this moment on, for example `2030-01-31T12:00:00Z`.
    #[arg(long, value_name = "MOMENT", value_parser = UnixMillis::parse_rfc3339)]
    since: Option<UnixMillis>,
    /// Only before this moment.
    #[arg(long, value_name = "MOMENT", value_parser = UnixMillis::parse_rfc3339)]
    until: Option<UnixMillis>,
    /// At most so many rows.
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: u32,
    /// Print a JSON array.
    #[arg(long)]
    json: bool,
}

/// Prints the rows.
pub async fn run(
    command: AuditCommand,
    store: &Store,
    prefix: &Prefix,
    streams: &mut Streams<'_>,
) -> Result<(), CommandError> {
    let AuditCommand {
        subject,
        actor,
        action,
        since,
        until,
        limit,
        json,
    } = command;
    for argument in [&subject, &actor, &action].into_iter().flatten() {
        refuse_key(argument, prefix, "an id, the name of an actor or an action")?;
    }
    let filter = AuditFilter {
        subject_id: subject,
        actor,
        action,
        since,
        until,
    };
    let mut table = Table::new(["AT", "ACTOR", "FROM", "ACTION", "SUBJECT", "DETAIL"]);
    let mut array = JsonArray::default();
    let (mut before, mut left) = (None, limit);
    while left > 0 {
        let page = store.audit(&filter, before, left.min(PAGE)).await?;
        for row in &page {
            if json {
                array.element(streams.out, &AuditView::of(row))?;
            } else {
                let source = row.source.clone().unwrap_or_else(|| "-".to_owned());
                table.row([
                    moment(row.at),
                    row.actor.clone(),
                    source,
                    row.action.clone(),
                    row.subject_id.clone(),
                    row.detail.to_string(),
                ]);
            }
        }
        if !json {
            table.flush(streams.out)?;
        }
        let Some(last) = page.last() else { break };
        before = Some(last.cursor());
        left -= u32::try_from(page.len()).unwrap_or(left).min(left);
    }
    if json {
        array.finish(streams.out)?;
    } else {
        table.flush(streams.out)?;
    }
    Ok(streams.out.flush()?)
}
