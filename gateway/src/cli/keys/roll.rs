//! `gateway keys roll`: replaces keys by a new one; the old ones expire after a grace period.

use std::time::Duration;

use crate::cli::Context;
use crate::cli::buckets::InBucket;
use crate::cli::consumers;
use crate::cli::error::CommandError;
use crate::cli::keys::key_id;
use crate::cli::output::{Streams, moment_or};
use crate::keys::when::parse_span;
use crate::keys::{PlainKey, UnixMillis};
use crate::store::{Roll, RollTarget, RolledKeys};
use crate::views::{MAX_ENDING_SHOWN, RolledView};

/// Keys to replace.
#[derive(Debug, clap::Args)]
pub struct RollKey {
    /// Id of the key, `key_…`; never the key itself.
    #[arg(value_name = "ID", required_unless_present = "consumer")]
    id: Option<String>,
    /// All active keys of this consumer. The new key inherits from the newest.
    #[arg(long, value_name = "NAME|ID", conflicts_with = "id")]
    consumer: Option<String>,
    #[command(flatten)]
    bucket: InBucket,
    /// Grace period, the maximum remaining life of the old keys: a duration such as `7d`, `12h` or
    /// `500ms`; `0s` expires them at once. Never extends the life of a key.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_span)]
    grace: Duration,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

impl RollKey {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Result<(), CommandError> {
        let target = match (&self.id, &self.consumer) {
            (Some(id), _) => RollTarget::Key(key_id(id, context.prefix)?),
            (None, Some(consumer)) => {
                RollTarget::Consumer(consumers::find(consumer, &self.bucket, context).await?.id)
            }
            // The parser requires one of them.
            (None, None) => {
                return Err(CommandError::InvalidArgument(
                    "name a key or a consumer".to_owned(),
                ));
            }
        };
        // A key without expiry would get one beyond the calendar.
        if !context.stamp.at.after(self.grace).is_representable() {
            return Err(CommandError::InvalidArgument(
                "a grace period ends before the year 10000".to_owned(),
            ));
        }
        let key = PlainKey::generate(context.prefix)?;
        let roll = Roll {
            target,
            digest: key.digest(),
            hint: key.hint(),
            grace: self.grace,
        };
        let rolled = context.store.roll(roll, context.stamp).await?;
        let id = rolled.key.id;
        // From here on only this process has the key.
        print_rolled(
            &rolled,
            &key,
            self.json,
            context.stamp.at,
            &mut context.streams,
        )
        .map_err(|source| CommandError::Unprinted { id, source })
    }
}

fn print_rolled(
    rolled: &RolledKeys,
    key: &PlainKey,
    json: bool,
    now: UnixMillis,
    streams: &mut Streams<'_>,
) -> std::io::Result<()> {
    if json {
        streams.json(&RolledView::of(rolled, now).with_key(key.expose()))?;
    } else {
        writeln!(streams.out, "{}", key.expose())?;
    }
    streams.out.flush()?;
    streams.remark(format_args!(
        "created key {} of consumer {}",
        rolled.key.id, rolled.key.consumer_name
    ));
    for ending in rolled.ending.iter().take(MAX_ENDING_SHOWN) {
        let end = moment_or(ending.attributes.expires_at, "never");
        streams.remark(format_args!(
            "key {} ({}…) ends at {end}",
            ending.id, ending.hint
        ));
    }
    match rolled.ending.len().saturating_sub(MAX_ENDING_SHOWN) {
        0 => {}
        more => streams.remark(format_args!("… and {more} more")),
    }
    streams.remark(format_args!(
        "keep the key now: it is not stored and will not be shown again"
    ));
    Ok(())
}
