//! `gateway keys list`: lists keys by attributes and times.

use std::io::{self, Write};

use crate::cli::Context;
use crate::cli::buckets::InBucket;
use crate::cli::consumers;
use crate::cli::error::{CommandError, refuse_keys};
use crate::cli::output::{Listing, moment, moment_or, or_dash};
use crate::keys::{Description, KeyStatus, UnixMillis, When};
use crate::store::{KeyFilter, StoredKey};
use crate::views::KeyView;

/// Page size of a read.
const PAGE: u32 = 500;

/// Filters, all of which must match.
#[derive(Debug, clap::Args)]
pub struct ListKeys {
    /// Only keys of this consumer.
    #[arg(long, value_name = "NAME|ID")]
    consumer: Option<String>,
    #[command(flatten)]
    bucket: InBucket,
    /// Only keys that begin with this text, compared to the length of their hint.
    #[arg(long, value_name = "BEGINNING")]
    hint: Option<String>,
    /// Only keys of this status: `active`, `expired`, `revoked` or `disabled`.
    #[arg(long, value_name = "STATUS")]
    status: Option<KeyStatus>,
    /// Only unrevoked keys that expire within this duration, such as `30d`, or until this date or
    /// moment.
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    ending_within: Option<When>,
    /// Only keys unused for this duration, such as `90d`, or since this date or moment, and at
    /// least as old.
    #[arg(long, value_name = "WHEN", value_parser = When::parse, alias = "last-used-before")]
    unused_for: Option<When>,
    /// Only keys created within this duration, or from this date or moment on.
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    created_since: Option<When>,
    /// Only keys created longer ago than this duration, or before this date or moment.
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    created_until: Option<When>,
    /// Print a JSON array.
    #[arg(long)]
    json: bool,
}

impl ListKeys {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Result<(), CommandError> {
        refuse_keys(
            self.hint.as_deref(),
            context.prefix,
            "the beginning of a key; `gateway keys find` takes a whole one from standard input",
        )?;
        let json = self.json;
        let filter = self.filter(context).await?;
        let mut listing = KeyListing::new(json);
        let mut after = None;
        loop {
            let page = context
                .store
                .list_keys(&filter, after.as_ref(), PAGE)
                .await?;
            for stored in &page {
                listing.key(context.streams.out, stored, context.stamp.at)?;
            }
            listing.0.flush(context.streams.out)?;
            after = match page.last() {
                Some(last) => Some(last.cursor()),
                None => return Ok(listing.0.finish(context.streams.out)?),
            };
        }
    }

    async fn filter(self, context: &Context<'_>) -> Result<KeyFilter, CommandError> {
        let now = context.stamp.at;
        let (consumer, bucket) = match &self.consumer {
            Some(consumer) => {
                let found = consumers::find(consumer, &self.bucket, context).await?;
                (Some(found.id), None)
            }
            None => (None, self.bucket.given(context.prefix)?),
        };
        if let Some(bucket) = &bucket {
            context.store.require_bucket(bucket).await?;
        }
        Ok(KeyFilter {
            consumer,
            bucket,
            hint: self.hint,
            status: self.status.map(|status| (status, now)),
            ending: self.ending_within.map(|within| now..=within.ahead(now)),
            unused_since: self.unused_for.map(|unused| unused.ago(now)),
            created_since: self.created_since.map(|since| since.ago(now)),
            created_until: self.created_until.map(|until| until.ago(now)),
            ..KeyFilter::default()
        })
    }
}

/// List of keys.
pub(super) struct KeyListing(pub(super) Listing<8>);

impl KeyListing {
    pub(super) fn new(json: bool) -> Self {
        let heading = [
            "ID",
            "CONSUMER",
            "HINT",
            "STATUS",
            "EXPIRES",
            "LAST USED",
            "CREATED",
            "DESCRIPTION",
        ];
        Self(Listing::new(heading, json))
    }

    pub(super) fn key(
        &mut self,
        out: &mut dyn Write,
        stored: &StoredKey,
        now: UnixMillis,
    ) -> io::Result<()> {
        self.0.add(out, &KeyView::of(stored, now), || {
            let description = stored.attributes.description.as_ref();
            [
                stored.id.to_string(),
                stored.consumer_name.to_string(),
                stored.hint.clone(),
                stored.status(now).as_str().to_owned(),
                moment_or(stored.attributes.expires_at, "never"),
                moment_or(stored.last_used_at, "-"),
                moment(stored.created_at),
                or_dash(description.map_or("", Description::as_str)),
            ]
        })
    }
}
