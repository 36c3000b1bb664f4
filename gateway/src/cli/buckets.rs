//! `gateway buckets …`, and the option that selects the bucket of a consumer's name.

use std::time::Duration;

use crate::cli::Context;
use crate::cli::allowance::shown;
use crate::cli::error::{CommandError, refuse_key};
use crate::cli::output::{Listing, Streams, details, moment, or_dash};
use crate::keys::when::parse_span;
use crate::keys::{BucketName, Lifetime, MaxLiveKeys, Prefix};
use crate::store::{
    BucketEdit, KeyRule, KeyRuleEdit, LeakPolicy, LeakRule, NewBucket, StoreError, StoredBucket,
    UnusedAction,
};
use crate::views::BucketView;
use crate::views::schemas::MAX_GRACE_SECONDS;

/// Page size of a read.
const PAGE: u32 = 500;

/// Bucket of consumer names.
#[derive(Debug, clap::Args)]
pub struct InBucket {
    /// Bucket of the consumer's name [default: default]
    #[arg(long, value_name = "NAME")]
    bucket: Option<BucketName>,
}

/// Manage buckets, the namespaces of consumers.
#[derive(Debug, clap::Subcommand)]
pub enum BucketsCommand {
    /// Create a bucket.
    Create {
        /// Name of the bucket: 1 to 128 visible ASCII characters, with spaces only between them.
        /// Immutable.
        #[arg(value_name = "NAME")]
        name: String,
        /// Policy for leaked keys.
        #[command(flatten)]
        leaks: Leaks,
        /// Rules for keys.
        #[command(flatten)]
        keys: KeyRules,
        /// Print a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// List all buckets.
    List {
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Show one bucket.
    Show {
        /// Name of the bucket.
        #[arg(value_name = "NAME")]
        name: String,
        /// Print a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Change the rules for keys.
    Update {
        /// Name of the bucket.
        #[arg(value_name = "NAME")]
        name: String,
        /// Policy for leaked keys.
        #[command(flatten)]
        leaks: Leaks,
        /// Rules for keys.
        #[command(flatten)]
        keys: Box<KeyRulesEdit>,
        /// Print a JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// Policy for leaked keys.
#[derive(Debug, clap::Args)]
pub struct Leaks {
    /// Action on a key reported as leaked: `notify`, `roll` (expires it after a grace period) or
    /// `revoke`.
    #[arg(long, value_name = "POLICY")]
    leak_policy: Option<LeakPolicy>,
    /// Grace period under the policy `roll`: a duration such as `7d`, `12h` or `500ms`.
    #[arg(long, value_name = "TIME", value_parser = parse_grace)]
    leak_grace: Option<Duration>,
}

/// Rules for keys.
#[derive(Debug, clap::Args)]
pub struct KeyRules {
    /// Lifetime of a new key without an expiry of its own, such as `90d`.
    #[arg(long, value_name = "TIME")]
    default_key_lifetime: Option<Lifetime>,
    /// Longest lifetime of a key, such as `365d`.
    #[arg(long, value_name = "TIME")]
    max_key_lifetime: Option<Lifetime>,
    /// Most live keys of one consumer, 1 to 100000.
    #[arg(long, value_name = "NUMBER")]
    max_live_keys: Option<MaxLiveKeys>,
    /// Time after which an unused key is reported or disabled, such as `90d`.
    #[arg(long, value_name = "TIME")]
    unused_after: Option<Lifetime>,
    /// What happens to unused keys: `report` or `disable`.
    #[arg(long, value_name = "ACTION")]
    unused_action: Option<UnusedAction>,
}

/// Changed rules for keys.
#[derive(Debug, clap::Args)]
pub struct KeyRulesEdit {
    #[command(flatten)]
    new: KeyRules,
    /// Remove the default lifetime.
    #[arg(long, conflicts_with = "default_key_lifetime")]
    no_default_key_lifetime: bool,
    /// Remove the longest lifetime.
    #[arg(long, conflicts_with = "max_key_lifetime")]
    no_max_key_lifetime: bool,
    /// Allow any number of live keys.
    #[arg(long, conflicts_with = "max_live_keys")]
    no_max_live_keys: bool,
    /// Allow keys to be unused for any time.
    #[arg(long, conflicts_with = "unused_after")]
    no_unused_after: bool,
}

impl KeyRules {
    fn rule(&self) -> KeyRule {
        KeyRule {
            default_lifetime: self.default_key_lifetime,
            max_lifetime: self.max_key_lifetime,
            max_live: self.max_live_keys,
            unused_after: self.unused_after,
            unused_action: self.unused_action.unwrap_or_default(),
        }
    }
}

impl KeyRulesEdit {
    fn edit(&self) -> KeyRuleEdit {
        fn of<T>(is_removed: bool, new: Option<T>) -> Option<Option<T>> {
            (is_removed || new.is_some()).then_some(new)
        }
        let new = &self.new;
        KeyRuleEdit {
            default_lifetime: of(self.no_default_key_lifetime, new.default_key_lifetime),
            max_lifetime: of(self.no_max_key_lifetime, new.max_key_lifetime),
            max_live: of(self.no_max_live_keys, new.max_live_keys),
            unused_after: of(self.no_unused_after, new.unused_after),
            unused_action: new.unused_action,
        }
    }
}

/// Runs the command.
pub async fn run(command: BucketsCommand, context: &mut Context<'_>) -> Result<(), CommandError> {
    match command {
        BucketsCommand::Create {
            name,
            leaks,
            keys,
            json,
        } => {
            let usual = LeakRule::default();
            let rule = LeakRule {
                policy: leaks.leak_policy.unwrap_or(usual.policy),
                grace: leaks.leak_grace.unwrap_or(usual.grace),
            };
            let new = NewBucket {
                name: read_name(&name, context.prefix)?,
                leaks: rule,
                keys: keys.rule(),
            };
            print(
                &context.store.create_bucket(new, context.stamp).await?,
                json,
                &mut context.streams,
            )?;
        }
        BucketsCommand::List { json } => list(json, context).await?,
        BucketsCommand::Show { name, json } => {
            let name = read_name(&name, context.prefix)?;
            let found = context.store.bucket(&name).await?;
            print(
                &found.ok_or_else(|| StoreError::UnknownBucket {
                    wanted: name.to_string(),
                })?,
                json,
                &mut context.streams,
            )?;
        }
        BucketsCommand::Update {
            name,
            leaks: Leaks {
                leak_policy,
                leak_grace,
            },
            keys,
            json,
        } => {
            let edit = BucketEdit {
                leak_policy,
                leak_grace,
                keys: keys.edit(),
            };
            print(
                &context
                    .store
                    .update_bucket(&read_name(&name, context.prefix)?, edit, context.stamp)
                    .await?,
                json,
                &mut context.streams,
            )?;
        }
    }
    Ok(context.streams.out.flush()?)
}

impl InBucket {
    /// Returns the bucket, or the default.
    ///
    /// # Errors
    /// The argument contains a key.
    pub(super) fn name(&self, prefix: &Prefix) -> Result<BucketName, CommandError> {
        Ok(self.given(prefix)?.unwrap_or_default())
    }

    /// Returns the given bucket; `None` if the default applies.
    ///
    /// # Errors
    /// The argument contains a key.
    pub(super) fn given(&self, prefix: &Prefix) -> Result<Option<BucketName>, CommandError> {
        if let Some(bucket) = &self.bucket {
            refuse_key(bucket.as_str(), prefix, "the name of a bucket")?;
        }
        Ok(self.bucket.clone())
    }
}

async fn list(json: bool, context: &mut Context<'_>) -> Result<(), CommandError> {
    let mut listing = Listing::new(["NAME", "LEAKED KEYS", "GRACE", "CREATED"], json);
    let mut after = String::new();
    loop {
        let page = context.store.buckets(&after, PAGE).await?;
        for bucket in &page {
            listing.add(context.streams.out, &BucketView::of(bucket), || {
                [
                    bucket.name.to_string(),
                    bucket.leaks.policy.as_str().to_owned(),
                    humantime::format_duration(bucket.leaks.grace).to_string(),
                    moment(bucket.created_at),
                ]
            })?;
        }
        listing.flush(context.streams.out)?;
        match page.last() {
            Some(last) => after = last.name.to_string(),
            None => return Ok(listing.finish(context.streams.out)?),
        }
    }
}

fn print(bucket: &StoredBucket, json: bool, streams: &mut Streams<'_>) -> Result<(), CommandError> {
    if json {
        return Ok(streams.json(&BucketView::of(bucket))?);
    }
    let keys = &bucket.keys;
    let lines = [
        ("name", bucket.name.to_string()),
        ("leaked keys", bucket.leaks.policy.as_str().to_owned()),
        (
            "grace",
            humantime::format_duration(bucket.leaks.grace).to_string(),
        ),
        ("keys live", or_dash(&shown(keys.default_lifetime.as_ref()))),
        ("at longest", or_dash(&shown(keys.max_lifetime.as_ref()))),
        ("most live keys", or_dash(&shown(keys.max_live.as_ref()))),
        (
            "unused keys",
            keys.unused_after.map_or_else(
                || "-".to_owned(),
                |after| format!("{} after {after}", keys.unused_action.as_str()),
            ),
        ),
        ("created", moment(bucket.created_at)),
    ];
    Ok(details(streams.out, &lines)?)
}

fn read_name(argument: &str, prefix: &Prefix) -> Result<BucketName, CommandError> {
    refuse_key(argument, prefix, "the name of a bucket")?;
    Ok(argument.parse()?)
}

/// Parses a grace period within the limits of the admin API.
fn parse_grace(text: &str) -> Result<Duration, String> {
    let grace = parse_span(text).map_err(|error| error.to_string())?;
    if grace.as_secs() <= MAX_GRACE_SECONDS {
        Ok(grace)
    } else {
        Err("at most ten years".to_owned())
    }
}
