//! `gateway keys …`
//!
//! A new key is written to standard output once, and nowhere else.

mod find;
mod list;
mod restrictions;
mod roll;
mod update;

use std::time::Duration;

use crate::cli::Context;
use crate::cli::allowance::{AllowanceOptions, shown};
use crate::cli::buckets::InBucket;
use crate::cli::consumers;
use crate::cli::error::{CommandError, refuse_key, refuse_keys};
use crate::cli::in_force;
use crate::cli::key_text::{CheckKey, PrintPattern};
use crate::cli::keys::find::FindKey;
use crate::cli::keys::list::ListKeys;
use crate::cli::keys::restrictions::RestrictionOptions;
use crate::cli::keys::roll::RollKey;
use crate::cli::keys::update::UpdateKey;
use crate::cli::leaks::ReportLeak;
use crate::cli::output::{Streams, details, moment, moment_or, or_dash};
use crate::keys::when::InvalidWhen;
use crate::keys::when::parse_span;
use crate::keys::{
    AllowedRoutes, BucketName, ConsumerId, ConsumerName, Description, KeyId, KeyState, PlainKey,
    Prefix, RouteName, Scope, Scopes, UnixMillis, When,
};
use crate::store::{
    CreatedKey, KeyAttributes, NewEnd, NewKey, Owner, Store, StoreError, StoredKey, WaitFor,
};
use crate::views::KeyView;

/// Manage API keys.
#[derive(Debug, clap::Subcommand)]
pub enum KeysCommand {
    /// Create a key and print it, this one time.
    Create(Box<CreateKey>),
    /// List keys, oldest first.
    List(ListKeys),
    /// Find a key by the key itself, its first characters or its digest, read from standard input.
    Find(FindKey),
    /// Show one key, without its plain text.
    Show(OneKey),
    /// Change a key.
    Update(Box<UpdateKey>),
    /// Revoke a key for ever.
    Revoke(RevokeKey),
    /// Create a successor of a key and expire the key after a grace period.
    Roll(RollKey),
    /// Disable a key until it is enabled again.
    Disable(OneKey),
    /// Enable a disabled key.
    Enable(OneKey),
    /// Check form and checksum of a key from standard input, without a store; exit 0 if both are
    /// right.
    Check(CheckKey),
    /// Report a leaked key and apply the policy of its bucket.
    ReportLeak(ReportLeak),
    /// Print the regular expression of keys, for secret scanners.
    Pattern(PrintPattern),
}

/// Attributes of a new key.
#[derive(Debug, clap::Args)]
pub struct CreateKey {
    /// Name or id of the consumer. A missing consumer is created, unless its name differs from an
    /// existing one in case only.
    #[arg(long, value_name = "NAME|ID")]
    consumer: String,
    /// Fail instead of creating a missing consumer.
    #[arg(long)]
    existing_consumer: bool,
    #[command(flatten)]
    bucket: InBucket,
    /// Expiry: a duration such as `7d` or `12h`, a date such as `2030-01-31` (midnight UTC), or a
    /// moment such as `2030-01-31T12:00:00Z`, before the year 10000; or `never`. Default: that of
    /// the consumer's plan or bucket, or never.
    #[arg(long, value_name = "WHEN", value_parser = Expires::parse)]
    expires: Option<Expires>,
    /// Note: at most 1024 characters and no control characters.
    #[arg(long, value_name = "TEXT")]
    description: Option<Description>,
    /// Scopes of the key, limited by those of the consumer; repeated or separated by commas. Each
    /// is 1 to 128 visible ASCII characters without space, comma, `"` and `\`. Default: all of the
    /// consumer's.
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',')]
    scopes: Vec<Scope>,
    #[command(flatten)]
    allowance: AllowanceOptions,
    #[command(flatten)]
    restrictions: RestrictionOptions,
    /// Never report or disable the key as unused, whatever its bucket says.
    #[arg(long)]
    exempt_from_unused: bool,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

/// Expiry of a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expires {
    /// At a time.
    At(When),
    /// Never.
    Never,
}

impl Expires {
    fn parse(text: &str) -> Result<Self, InvalidWhen> {
        match text {
            "never" => Ok(Self::Never),
            text => When::parse(text).map(Self::At),
        }
    }
}

/// Key to work on.
#[derive(Debug, clap::Args)]
pub struct OneKey {
    /// Id of the key, `key_…`; never the key itself.
    // Validated after the check for keys: the parser would quote an invalid value.
    #[arg(value_name = "ID")]
    id: String,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

/// Key to revoke, and wait options.
#[derive(Debug, clap::Args)]
pub struct RevokeKey {
    #[command(flatten)]
    key: OneKey,
    /// Wait until every gateway that may run refuses the key; otherwise fail and name the
    /// unconfirmed ones.
    #[arg(long)]
    wait: bool,
    /// Accept gateways that were silent before and stay silent, if another one confirms.
    #[arg(long, requires = "wait")]
    ignore_silent: bool,
    /// Maximum wait: a duration such as `7d`, `12h` or `500ms`.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_span, requires = "wait")]
    timeout: Duration,
}

/// Runs the command.
pub async fn run(command: KeysCommand, context: &mut Context<'_>) -> Result<(), CommandError> {
    let outcome = match command {
        KeysCommand::Create(create) => create.run(context).await,
        KeysCommand::List(list) => list.run(context).await,
        KeysCommand::Find(find) => find.run(context).await,
        KeysCommand::Show(key) => show(key, context).await,
        KeysCommand::Update(update) => update.run(context).await,
        KeysCommand::Revoke(revoke) => revoke.run(context).await,
        KeysCommand::Roll(roll) => roll.run(context).await,
        KeysCommand::Disable(key) => set_state(key, KeyState::Disabled, context).await,
        KeysCommand::Enable(key) => set_state(key, KeyState::Active, context).await,
        KeysCommand::Check(check) => check.run(context.prefix, &mut context.streams),
        KeysCommand::ReportLeak(report) => report.run(context).await,
        KeysCommand::Pattern(pattern) => pattern.run(context.prefix, &mut context.streams),
    };
    match outcome.and_then(|()| Ok(context.streams.out.flush()?)) {
        Err(error) if error.is_broken_pipe() => Ok(()),
        outcome => outcome,
    }
}

impl KeysCommand {
    /// Returns whether the command must wait for every gateway.
    pub(super) fn waits_for_all(&self) -> bool {
        matches!(self, Self::Revoke(revoke) if revoke.wait)
    }
}

impl CreateKey {
    async fn run(self, context: &mut Context<'_>) -> Result<(), CommandError> {
        let attributes = KeyAttributes {
            description: self.description.clone(),
            expires_at: match self.expires {
                Some(Expires::At(when)) => Some(end_of(when, context.stamp.at)?),
                Some(Expires::Never) | None => None,
            },
            scopes: (!self.scopes.is_empty())
                .then(|| Scopes::new(self.scopes.clone()))
                .transpose()?,
            limits: self.allowance.limits()?,
            quotas: self.allowance.quotas()?,
            max_in_flight: self.allowance.max_in_flight,
            allowed_ips: self.restrictions.ips()?,
            allowed_methods: self.restrictions.methods(),
            allowed_routes: self.restrictions.routes()?,
            exempt_from_unused: self.exempt_from_unused,
        };
        refuse_keys_in(&attributes, context.prefix)?;
        let owner = match self.consumer.parse::<ConsumerId>() {
            Ok(id) => Owner::Id(id),
            Err(_) => {
                let bucket = self.bucket.name(context.prefix)?;
                let name = consumers::new_name(&self.consumer, context.prefix)?;
                if context
                    .store
                    .consumer_named(&bucket, &name)
                    .await?
                    .is_none()
                {
                    self.may_make(&bucket, &name, context.store).await?;
                }
                Owner::Named(bucket, name)
            }
        };
        let key = PlainKey::generate(context.prefix)?;
        let new = NewKey {
            owner,
            digest: key.digest(),
            hint: key.hint(),
            attributes,
            end: match self.expires {
                Some(Expires::Never) => NewEnd::Never,
                _ => NewEnd::Default,
            },
        };
        let created = context.store.create_key(new, context.stamp).await?;
        let id = created.key.id;
        // From here on only this process has the key: a failure to print it is an error, even a
        // closed pipe.
        print_created(
            &created,
            &key,
            self.json,
            context.stamp.at,
            context.routes,
            &mut context.streams,
        )
        .map_err(|source| CommandError::Unprinted { id, source })
    }

    /// Refuses to create a consumer whose name may be a misspelled existing one.
    async fn may_make(
        &self,
        bucket: &BucketName,
        name: &ConsumerName,
        store: &Store,
    ) -> Result<(), CommandError> {
        store.require_bucket(bucket).await?;
        if let Some(existing) = store.consumer_spelled_like(bucket, name).await? {
            return Err(CommandError::SpelledLike {
                wanted: name.to_string(),
                existing: existing.to_string(),
            });
        }
        if self.existing_consumer {
            return Err(CommandError::Store(StoreError::UnknownConsumer {
                wanted: name.to_string(),
            }));
        }
        Ok(())
    }
}

/// Refuses a key in any attribute, because attributes are stored and shown.
fn refuse_keys_in(said: &KeyAttributes, prefix: &Prefix) -> Result<(), CommandError> {
    let KeyAttributes {
        description,
        expires_at: _,
        scopes,
        // Names and numbers that are no key.
        limits: _,
        quotas: _,
        max_in_flight: _,
        allowed_ips: _,
        allowed_methods: _,
        allowed_routes,
        exempt_from_unused: _,
    } = said;
    refuse_keys(
        description.as_ref().map(Description::as_str),
        prefix,
        "a note, without a key in it",
    )?;
    refuse_keys(
        scopes.iter().flat_map(Scopes::iter),
        prefix,
        "scopes, without a key in them",
    )?;
    refuse_keys(
        allowed_routes.iter().map(RouteName::as_str),
        prefix,
        "names of routes, without a key in them",
    )
}

impl RevokeKey {
    async fn run(self, context: &mut Context<'_>) -> Result<(), CommandError> {
        set_state(self.key, KeyState::Revoked, context).await?;
        if !self.wait {
            return Ok(());
        }
        context.streams.out.flush()?;
        let confirmation = context
            .store
            .confirmed_by(WaitFor::All, self.timeout)
            .await?;
        context.store.waited_for();
        in_force::name_silent(&confirmation, &mut context.streams);
        if !confirmation.is_whole(self.ignore_silent) {
            let others = confirmation.missing.iter().chain(&confirmation.silent);
            let names: Vec<String> = others.map(|gateway| gateway.name.clone()).collect();
            return Err(CommandError::Unconfirmed {
                waited: self.timeout,
                gateways: names.join(", "),
            });
        }
        match confirmation.confirmed.len() {
            0 if confirmation.refusing.is_empty() => {
                context.streams.remark(format_args!(
                    "no gateway has announced itself to this store"
                ));
            }
            1 => context
                .streams
                .remark(format_args!("confirmed by 1 gateway")),
            confirmed => context
                .streams
                .remark(format_args!("confirmed by {confirmed} gateways")),
        }
        Ok(())
    }
}

fn print_created(
    created: &CreatedKey,
    key: &PlainKey,
    json: bool,
    now: UnixMillis,
    routes: &[String],
    streams: &mut Streams<'_>,
) -> std::io::Result<()> {
    let CreatedKey {
        key: stored,
        new_consumer,
    } = created;
    if let Some(consumer) = new_consumer {
        streams.remark(format_args!(
            "created consumer {} ({}): no consumer had this name; `--existing-consumer` prevents this",
            consumer.name, consumer.id
        ));
    }
    if json {
        streams.json(&KeyView {
            key: Some(key.expose()),
            ..view(stored, now, routes)
        })?;
    } else {
        writeln!(streams.out, "{}", key.expose())?;
    }
    streams.out.flush()?;
    let end = stored.attributes.expires_at.map_or_else(
        || "never expires".to_owned(),
        |end| format!("expires {}", moment(end)),
    );
    streams.remark(format_args!(
        "created key {} of consumer {}; it {end}",
        stored.id, stored.consumer_name
    ));
    remark_on_routes(stored, routes, streams);
    streams.remark(format_args!(
        "keep the key now: it is not stored and will not be shown again"
    ));
    Ok(())
}

async fn show(key: OneKey, context: &mut Context<'_>) -> Result<(), CommandError> {
    let id = key.id(context.prefix)?;
    let stored = context
        .store
        .key(&id)
        .await?
        .ok_or(StoreError::UnknownKey(id))?;
    if key.json {
        return Ok(context
            .streams
            .json(&view(&stored, context.stamp.at, context.routes))?);
    }
    print_key(&stored, context.stamp.at, &mut context.streams)?;
    remark_on_routes(&stored, context.routes, &mut context.streams);
    Ok(())
}

/// Builds the view of a key. `routes` are the names of the routes of these settings, if they have
/// any.
fn view<'k>(stored: &'k StoredKey, now: UnixMillis, routes: &[String]) -> KeyView<'k> {
    let view = KeyView::of(stored, now);
    if routes.is_empty() {
        return view;
    }
    view.with_routes(|name| routes.iter().any(|route| route == name))
}

/// Says which routes of the key are none of `routes`: a misspelt name locks the key out.
fn remark_on_routes(stored: &StoredKey, routes: &[String], streams: &mut Streams<'_>) {
    let view = view(stored, UnixMillis::now(), routes);
    let Some(unknown) = view.unknown_routes else {
        return;
    };
    let unknown = AllowedRoutes::new(unknown.into_iter().cloned()).unwrap_or_default();
    streams.remark(format_args!(
        "no route of these settings is named: {unknown}; the key admits nobody there until one is"
    ));
}

/// Prints the attributes of a key as text.
fn print_key(
    stored: &StoredKey,
    now: UnixMillis,
    streams: &mut Streams<'_>,
) -> std::io::Result<()> {
    let revoked = stored.revoked.as_ref();
    let KeyAttributes {
        description,
        expires_at,
        scopes,
        limits,
        quotas,
        max_in_flight,
        allowed_ips,
        allowed_methods,
        allowed_routes,
        exempt_from_unused,
    } = &stored.attributes;
    let lines = [
        ("id", stored.id.to_string()),
        (
            "consumer",
            format!("{} ({})", stored.consumer_name, stored.consumer),
        ),
        ("bucket", stored.bucket.to_string()),
        ("hint", stored.hint.clone()),
        ("status", stored.status(now).as_str().to_owned()),
        ("expires", moment_or(*expires_at, "never")),
        (
            "revoked",
            revoked.map_or_else(
                || "-".to_owned(),
                |revoked| format!("{} by {}", moment(revoked.at), revoked.by),
            ),
        ),
        (
            "replaced by",
            stored
                .rolled
                .and_then(|rolled| rolled.successor)
                .map_or_else(|| "-".to_owned(), |id| id.to_string()),
        ),
        (
            "scopes",
            scopes.as_ref().map_or_else(
                || "all of the consumer's".to_owned(),
                |own| or_dash(own.as_str()),
            ),
        ),
        ("limits", or_dash(&limits.to_string())),
        ("quotas", or_dash(&quotas.to_string())),
        ("in flight", or_dash(&shown(max_in_flight.as_ref()))),
        (
            "allowed from",
            if allowed_ips.is_empty() {
                "any address of the consumer's".to_owned()
            } else {
                allowed_ips.to_string()
            },
        ),
        (
            "methods",
            if allowed_methods.is_empty() {
                "any".to_owned()
            } else {
                allowed_methods.to_string()
            },
        ),
        (
            "routes",
            if allowed_routes.is_empty() {
                "any".to_owned()
            } else {
                allowed_routes.to_string()
            },
        ),
        (
            "description",
            or_dash(description.as_ref().map_or("", Description::as_str)),
        ),
        ("created", moment(stored.created_at)),
        ("updated", moment(stored.updated_at)),
        ("last used", moment_or(stored.last_used_at, "-")),
        (
            "may be unused",
            if *exempt_from_unused {
                "for any time"
            } else {
                "as its bucket says"
            }
            .to_owned(),
        ),
    ];
    details(streams.out, &lines)
}

async fn set_state(
    key: OneKey,
    state: KeyState,
    context: &mut Context<'_>,
) -> Result<(), CommandError> {
    let change = context
        .store
        .set_key_state(&key.id(context.prefix)?, state, context.stamp)
        .await?;
    let stored = &change.key;
    if key.json {
        return Ok(context
            .streams
            .json(&KeyView::of(stored, context.stamp.at))?);
    }
    let already = if change.before == state {
        "already "
    } else {
        ""
    };
    let (id, consumer, hint, status) = (
        stored.id,
        &stored.consumer_name,
        &stored.hint,
        state.as_str(),
    );
    Ok(writeln!(
        context.streams.out,
        "key {id} ({hint}…, consumer {consumer}) is {already}{status}"
    )?)
}

impl OneKey {
    fn id(&self, prefix: &Prefix) -> Result<KeyId, CommandError> {
        key_id(&self.id, prefix)
    }
}

fn key_id(argument: &str, prefix: &Prefix) -> Result<KeyId, CommandError> {
    refuse_key(argument, prefix, "the id of a key, `key_…`")?;
    Ok(argument.parse()?)
}

/// Returns the expiry of a new key.
fn end_of(expires: When, now: UnixMillis) -> Result<UnixMillis, CommandError> {
    let end = expires.ahead(now);
    if end > now && end.is_representable() {
        Ok(end)
    } else {
        Err(CommandError::InvalidExpiry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_lies_in_the_future_and_within_the_calendar() {
        let now = UnixMillis(1_000);
        for (text, end) in [
            ("30d", Some(1_000 + 30 * 86_400_000)),
            ("1h 30m", Some(1_000 + 5_400_000)),
            ("1970-01-02", Some(86_400_000)),
            ("1970-01-01T00:00:02Z", Some(2_000)),
            ("0s", None),
            ("1970-01-01", None),
            ("1970-01-01T00:00:01Z", None),
            ("1969-12-31T23:59:59Z", None),
            ("10000y", None),
            ("500000000y", None),
        ] {
            let end_of = end_of(When::parse(text).unwrap(), now);
            assert_eq!(end_of.ok(), end.map(UnixMillis), "{text}");
        }
    }
}
