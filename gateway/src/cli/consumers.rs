//! `gateway consumers …`

use crate::cli::Context;
use crate::cli::allowance::{AllowanceEdit, AllowanceOptions, shown};
use crate::cli::buckets::InBucket;
use crate::cli::error::{CommandError, refuse_key, refuse_keys};
use crate::cli::output::{Listing, Streams, details, moment, or_dash};
use crate::keys::allowed_ips::InvalidAllowedIps;
use crate::keys::{
    AllowedIps, BucketName, ConsumerId, ConsumerName, CustomId, Description, Metadata, PlanName,
    Prefix, Scope, Scopes, Tag, Tags,
};
use crate::store::{ConsumerAttributes, ConsumerEdit, NewConsumer, StoreError, StoredConsumer};
use crate::views::{ConsumerView, DeletedConsumerView};

/// Page size of a read.
const PAGE: u32 = 500;

/// Manage consumers, the owners of keys.
#[derive(Debug, clap::Subcommand)]
pub enum ConsumersCommand {
    /// Create a consumer.
    Create(CreateConsumer),
    /// List all consumers of a bucket.
    List {
        /// Bucket of the name.
        #[command(flatten)]
        bucket: InBucket,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Show one consumer.
    Show {
        /// Name or id of the consumer.
        #[arg(value_name = "NAME|ID")]
        consumer: String,
        /// Bucket of the name.
        #[command(flatten)]
        bucket: InBucket,
        /// Print a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Change a consumer; effective for all its keys.
    Update(Box<UpdateConsumer>),
    /// Delete a consumer and all its keys.
    Delete {
        /// Name or id of the consumer.
        #[arg(value_name = "NAME|ID")]
        consumer: String,
        /// Bucket of the name.
        #[command(flatten)]
        bucket: InBucket,
        /// Print a JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// Attributes of a new consumer.
#[derive(Debug, clap::Args)]
pub struct CreateConsumer {
    /// Name: 1 to 128 visible ASCII characters, with spaces only between them. Sent to the origin.
    #[arg(value_name = "NAME")]
    name: String,
    /// Id from your own system: 1 to 128 visible ASCII characters, with spaces only between them.
    /// Sent to the origin.
    #[arg(long, value_name = "TEXT")]
    custom_id: Option<CustomId>,
    /// Note: at most 1024 characters and no control characters. Not sent to the origin.
    #[arg(long, value_name = "TEXT")]
    description: Option<Description>,
    /// A JSON object, for example `{"plan":"gold"}`; at most 4096 bytes. May be sent to the origin.
    #[arg(long, value_name = "JSON")]
    metadata: Option<Metadata>,
    /// Granted scopes, repeated or separated by commas. Each is 1 to 128 visible ASCII characters
    /// without space, comma, `"` and `\`.
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',')]
    scopes: Vec<Scope>,
    /// Addresses that the keys may be used from, repeated or separated by commas. Each is an IP
    /// address, or one with a prefix length, such as `10.0.0.0/8` or `2001:db8::1`; without leading
    /// zeros in numbers, and without a zone. Default: any address.
    #[arg(long = "allow-ip", value_name = "RANGE")]
    allowed_ips: Vec<AllowedIps>,
    /// Plan, which grants scopes and numbers besides the consumer's own.
    #[arg(long, value_name = "NAME")]
    plan: Option<PlanName>,
    #[command(flatten)]
    allowance: AllowanceOptions,
    /// Tag, repeatable: `name=value`; the name is 1 to 64 letters, digits, `_`, `.` and `-`. Not
    /// sent to the origin.
    #[arg(long = "tag", value_name = "NAME=VALUE")]
    tags: Vec<Tag>,
    #[command(flatten)]
    bucket: InBucket,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

/// Changes of a consumer.
#[derive(Debug, clap::Args)]
pub struct UpdateConsumer {
    /// Name or id of the consumer.
    #[arg(value_name = "NAME|ID")]
    consumer: String,
    /// New name.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// New custom id; an empty text removes it.
    #[arg(long, value_name = "TEXT", value_parser = or_empty::<CustomId>)]
    custom_id: Option<OrEmpty<CustomId>>,
    /// New note; an empty text removes it.
    #[arg(long, value_name = "TEXT", value_parser = or_empty::<Description>)]
    description: Option<OrEmpty<Description>>,
    /// New metadata; an empty text removes it.
    #[arg(long, value_name = "JSON", value_parser = or_empty::<Metadata>)]
    metadata: Option<OrEmpty<Metadata>>,
    /// New list of granted scopes; repeated or separated by commas.
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',')]
    scopes: Vec<Scope>,
    /// Remove all granted scopes.
    #[arg(long, conflicts_with = "scopes")]
    no_scopes: bool,
    /// New list of allowed addresses or ranges; repeated or separated by commas.
    #[arg(long = "allow-ip", value_name = "RANGE")]
    allowed_ips: Vec<AllowedIps>,
    /// Allow the keys from any address.
    #[arg(long, conflicts_with = "allowed_ips")]
    allow_any_ip: bool,
    /// New plan; an empty text removes it.
    #[arg(long, value_name = "NAME", value_parser = or_empty::<PlanName>)]
    plan: Option<OrEmpty<PlanName>>,
    #[command(flatten)]
    allowance: AllowanceEdit,
    /// New list of tags, `name=value`; repeatable.
    #[arg(long = "tag", value_name = "NAME=VALUE")]
    tags: Vec<Tag>,
    /// Remove all tags.
    #[arg(long, conflicts_with = "tags")]
    no_tags: bool,
    #[command(flatten)]
    bucket: InBucket,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

/// A value, or an empty text to remove it.
#[derive(Clone, Debug)]
pub(super) struct OrEmpty<T>(pub(super) Option<T>);

/// Runs the command.
pub async fn run(command: ConsumersCommand, context: &mut Context<'_>) -> Result<(), CommandError> {
    let outcome = match command {
        ConsumersCommand::Create(create) => create.run(context).await,
        ConsumersCommand::List { bucket, json } => {
            list(&bucket.name(context.prefix)?, json, context).await
        }
        ConsumersCommand::Show {
            consumer,
            bucket,
            json,
        } => show(find(&consumer, &bucket, context).await?, json, context).await,
        ConsumersCommand::Update(update) => update.run(context).await,
        ConsumersCommand::Delete {
            consumer,
            bucket,
            json,
        } => delete(find(&consumer, &bucket, context).await?, json, context).await,
    };
    match outcome.and_then(|()| Ok(context.streams.out.flush()?)) {
        Err(error) if error.is_broken_pipe() => Ok(()),
        outcome => outcome,
    }
}

/// Loads the consumer with the given name or id.
pub(super) async fn find(
    argument: &str,
    bucket: &InBucket,
    context: &Context<'_>,
) -> Result<StoredConsumer, CommandError> {
    refuse_key(argument, context.prefix, "the name or the id of a consumer")?;
    let found = match argument.parse::<ConsumerId>() {
        Ok(id) => context.store.consumer(&id).await?,
        Err(_) => {
            let bucket = bucket.name(context.prefix)?;
            let found = context
                .store
                .consumer_named(&bucket, &argument.parse()?)
                .await?;
            if found.is_none() {
                context.store.require_bucket(&bucket).await?;
            }
            found
        }
    };
    Ok(found.ok_or_else(|| StoreError::UnknownConsumer {
        wanted: argument.to_owned(),
    })?)
}

/// Parses a new name.
pub(super) fn new_name(argument: &str, prefix: &Prefix) -> Result<ConsumerName, CommandError> {
    refuse_key(argument, prefix, "the name of a consumer")?;
    Ok(argument.parse()?)
}

impl CreateConsumer {
    async fn run(self, context: &mut Context<'_>) -> Result<(), CommandError> {
        let new = NewConsumer {
            bucket: self.bucket.name(context.prefix)?,
            name: new_name(&self.name, context.prefix)?,
            attributes: ConsumerAttributes {
                custom_id: self.custom_id,
                description: self.description,
                metadata: self.metadata,
                scopes: Scopes::new(self.scopes)?,
                allowed_ips: ranges(&self.allowed_ips)?,
                plan: self.plan,
                limits: self.allowance.limits()?,
                quotas: self.allowance.quotas()?,
                max_in_flight: self.allowance.max_in_flight,
                tags: Tags::new(self.tags)?,
            },
        };
        refuse_keys_in(&new.attributes, context.prefix)?;
        print(
            &context.store.create_consumer(new, context.stamp).await?,
            None,
            self.json,
            &mut context.streams,
        )
    }
}

impl UpdateConsumer {
    async fn run(self, context: &mut Context<'_>) -> Result<(), CommandError> {
        let edit = ConsumerEdit {
            name: self
                .name
                .map(|name| new_name(&name, context.prefix))
                .transpose()?,
            custom_id: self.custom_id.map(|value| value.0),
            description: self.description.map(|value| value.0),
            metadata: self.metadata.map(|value| value.0),
            scopes: (self.no_scopes || !self.scopes.is_empty())
                .then(|| Scopes::new(self.scopes))
                .transpose()?,
            allowed_ips: (self.allow_any_ip || !self.allowed_ips.is_empty())
                .then(|| ranges(&self.allowed_ips))
                .transpose()?,
            plan: self.plan.map(|value| value.0),
            limits: self.allowance.limits()?,
            quotas: self.allowance.quotas()?,
            max_in_flight: self.allowance.max_in_flight(),
            tags: (self.no_tags || !self.tags.is_empty())
                .then(|| Tags::new(self.tags))
                .transpose()?,
        };
        let mut attributes = ConsumerAttributes::default();
        edit.clone().apply(&mut attributes);
        refuse_keys_in(&attributes, context.prefix)?;
        let id = find(&self.consumer, &self.bucket, context).await?.id;
        print(
            &context
                .store
                .update_consumer(&id, edit, context.stamp)
                .await?,
            None,
            self.json,
            &mut context.streams,
        )
    }
}

/// Refuses a key in any attribute, because attributes are stored and shown.
fn refuse_keys_in(attributes: &ConsumerAttributes, prefix: &Prefix) -> Result<(), CommandError> {
    let ConsumerAttributes {
        custom_id,
        description,
        metadata,
        scopes,
        allowed_ips: _,
        plan,
        // Names and numbers that are no key.
        limits: _,
        quotas: _,
        max_in_flight: _,
        tags,
    } = attributes;
    refuse_keys(
        custom_id.as_ref().map(CustomId::as_str),
        prefix,
        "the id of your own system, without a key in it",
    )?;
    refuse_keys(
        description.as_ref().map(Description::as_str),
        prefix,
        "a note, without a key in it",
    )?;
    refuse_keys(
        metadata.as_ref().map(Metadata::as_str),
        prefix,
        "metadata, without a key in it",
    )?;
    refuse_keys(scopes.iter(), prefix, "scopes, without a key in them")?;
    refuse_keys(
        plan.as_ref().map(PlanName::as_str),
        prefix,
        "the name of a plan",
    )?;
    refuse_keys(
        tags.iter().flat_map(|(name, value)| [name, value]),
        prefix,
        "tags, without a key in them",
    )
}

async fn list(
    bucket: &BucketName,
    json: bool,
    context: &mut Context<'_>,
) -> Result<(), CommandError> {
    context.store.require_bucket(bucket).await?;
    let mut listing = Listing::new(["NAME", "ID", "CUSTOM ID", "SCOPES", "CREATED"], json);
    let mut after = None;
    loop {
        let page = context
            .store
            .consumers(bucket, after.as_ref(), PAGE)
            .await?;
        for stored in &page {
            let attributes = &stored.attributes;
            listing.add(context.streams.out, &ConsumerView::of(stored), || {
                [
                    stored.name.to_string(),
                    stored.id.to_string(),
                    or_dash(attributes.custom_id.as_ref().map_or("", CustomId::as_str)),
                    or_dash(attributes.scopes.as_str()),
                    moment(stored.created_at),
                ]
            })?;
        }
        listing.flush(context.streams.out)?;
        match page.last() {
            Some(last) => after = Some(last.name.clone()),
            None => return Ok(listing.finish(context.streams.out)?),
        }
    }
}

async fn show(
    stored: StoredConsumer,
    json: bool,
    context: &mut Context<'_>,
) -> Result<(), CommandError> {
    let keys = context.store.count_keys(&stored.id).await?;
    print(&stored, Some(keys), json, &mut context.streams)
}

async fn delete(
    consumer: StoredConsumer,
    json: bool,
    context: &mut Context<'_>,
) -> Result<(), CommandError> {
    let deleted_keys = context
        .store
        .delete_consumer(&consumer.id, context.stamp)
        .await?;
    let name = consumer.name.as_str();
    if json {
        return Ok(context.streams.json(&DeletedConsumerView {
            id: consumer.id,
            name,
            deleted_keys,
        })?);
    }
    let keys = if deleted_keys == 1 { "key" } else { "keys" };
    Ok(writeln!(
        context.streams.out,
        "deleted consumer {name} ({}) and its {deleted_keys} {keys}",
        consumer.id
    )?)
}

fn print(
    stored: &StoredConsumer,
    keys: Option<u64>,
    json: bool,
    streams: &mut Streams<'_>,
) -> Result<(), CommandError> {
    if json {
        return Ok(streams.json(&ConsumerView::of(stored))?);
    }
    let ConsumerAttributes {
        custom_id,
        description,
        metadata,
        scopes,
        allowed_ips,
        plan,
        limits,
        quotas,
        max_in_flight,
        tags,
    } = &stored.attributes;
    let tags: Vec<String> = tags
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let mut lines = vec![
        ("name", stored.name.to_string()),
        ("id", stored.id.to_string()),
        ("bucket", stored.bucket.to_string()),
        (
            "custom id",
            or_dash(custom_id.as_ref().map_or("", CustomId::as_str)),
        ),
        (
            "description",
            or_dash(description.as_ref().map_or("", Description::as_str)),
        ),
        (
            "metadata",
            or_dash(metadata.as_ref().map_or("", Metadata::as_str)),
        ),
        ("scopes", or_dash(scopes.as_str())),
        (
            "allowed from",
            if allowed_ips.is_empty() {
                "anywhere".to_owned()
            } else {
                allowed_ips.to_string()
            },
        ),
        ("plan", or_dash(&shown(plan.as_ref()))),
        ("limits", or_dash(&limits.to_string())),
        ("quotas", or_dash(&quotas.to_string())),
        ("in flight", or_dash(&shown(max_in_flight.as_ref()))),
        ("tags", or_dash(&tags.join(" "))),
        ("created", moment(stored.created_at)),
        ("updated", moment(stored.updated_at)),
    ];
    lines.extend(keys.map(|keys| ("keys", keys.to_string())));
    Ok(details(streams.out, &lines)?)
}

/// Joins the ranges of several arguments.
pub(super) fn ranges(arguments: &[AllowedIps]) -> Result<AllowedIps, InvalidAllowedIps> {
    // An empty text may come from an unset variable; reading it as an empty list would allow every
    // address.
    if arguments.iter().any(AllowedIps::is_empty) {
        return Err(InvalidAllowedIps::Range);
    }
    AllowedIps::new(arguments.iter().flat_map(AllowedIps::iter).copied())
}

pub(super) fn or_empty<T: std::str::FromStr>(text: &str) -> Result<OrEmpty<T>, T::Err> {
    if text.is_empty() {
        Ok(OrEmpty(None))
    } else {
        text.parse().map(|value| OrEmpty(Some(value)))
    }
}
