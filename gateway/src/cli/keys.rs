//! `gateway keys …`
//!
//! A key is written to standard output once, when it is made, and nowhere else.

use std::time::Duration;

use serde::Serialize;
use thiserror::Error;

use crate::cli::consumers;
use crate::cli::error::{CommandError, refuse_key};
use crate::cli::output::{JsonArray, Streams, Table, details, moment, moment_or, or_dash};
use crate::keys::{BucketName, ConsumerId, Description, KeyId, KeyState, PlainKey, Prefix, Scope, Scopes, UnixMillis};
use crate::store::{CreatedKey, NewKey, Owner, Stamp, Store, StoreError, StoredConsumer, StoredKey};

/// How many keys are read at once.
const PAGE: u32 = 500;

/// Work on the keys in the store.
#[derive(Debug, clap::Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it, this one time.
    Create(CreateKey),
    /// List keys, oldest first.
    List {
        /// Only those of this consumer.
        #[arg(long, value_name = "NAME|ID")]
        consumer: Option<String>,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Show one key, without the key itself.
    Show(OneKey),
    /// Refuse a key for ever, from its next request on.
    Revoke(OneKey),
    /// Refuse a key until it is enabled again.
    Disable(OneKey),
    /// Let a disabled key in again.
    Enable(OneKey),
}

/// What a key is made of.
#[derive(Debug, clap::Args)]
pub struct CreateKey {
    /// Whose it is. The consumer is made when there is none of this name.
    #[arg(long, value_name = "NAME|ID")]
    consumer: String,
    /// When it ends: after a time such as `30d`, or at a moment such as `2030-01-31T12:00:00Z`. Never, when not given.
    #[arg(long, value_name = "WHEN", value_parser = Expiry::parse)]
    expires: Option<Expiry>,
    /// A note.
    #[arg(long, value_name = "TEXT")]
    description: Option<Description>,
    /// What it may do, within what its consumer may; several times or separated by commas. All of that, when not given.
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',')]
    scopes: Vec<Scope>,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

/// Which key.
#[derive(Debug, clap::Args)]
pub struct OneKey {
    /// Its id, `key_…`; never the key itself.
    // Read only once it is known to be no key: the parser would repeat what it cannot read.
    #[arg(value_name = "ID")]
    id: String,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

/// When a key ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiry {
    After(Duration),
    At(UnixMillis),
}

/// Why a text is no [`Expiry`].
#[derive(Debug, Error)]
#[error("write a time such as `30d` or `12h`, or a moment such as `2030-01-31T12:00:00Z`")]
struct InvalidExpiry;

/// A key as scripts see it.
#[derive(Serialize)]
struct KeyJson<'k> {
    id: KeyId,
    /// Only when it was just made.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'k str>,
    consumer: &'k str,
    consumer_id: ConsumerId,
    bucket: &'k str,
    hint: &'k str,
    status: &'static str,
    expires_at: Option<UnixMillis>,
    /// `null` is all that its consumer may.
    scopes: Option<&'k Scopes>,
    description: Option<&'k Description>,
    created_at: UnixMillis,
    updated_at: UnixMillis,
    last_used_at: Option<UnixMillis>,
}

/// Runs one of the commands.
pub async fn run(
    command: KeysCommand,
    store: &Store,
    prefix: &Prefix,
    stamp: &Stamp,
    streams: &mut Streams<'_>,
) -> Result<(), CommandError> {
    let outcome = match command {
        KeysCommand::Create(create) => create.run(store, prefix, stamp, streams).await,
        KeysCommand::List { consumer, json } => list(consumer, json, store, prefix, stamp, streams).await,
        KeysCommand::Show(key) => show(key, store, prefix, stamp, streams).await,
        KeysCommand::Revoke(key) => set_state(key, KeyState::Revoked, store, prefix, stamp, streams).await,
        KeysCommand::Disable(key) => set_state(key, KeyState::Disabled, store, prefix, stamp, streams).await,
        KeysCommand::Enable(key) => set_state(key, KeyState::Active, store, prefix, stamp, streams).await,
    };
    match outcome.and_then(|()| Ok(streams.out.flush()?)) {
        Err(error) if error.is_broken_pipe() => Ok(()),
        outcome => outcome,
    }
}

impl CreateKey {
    async fn run(self, store: &Store, prefix: &Prefix, stamp: &Stamp, streams: &mut Streams<'_>) -> Result<(), CommandError> {
        let owner = match self.consumer.parse::<ConsumerId>() {
            Ok(id) => Owner::Id(id),
            Err(_) => Owner::Named(BucketName::default(), consumers::new_name(&self.consumer, prefix)?),
        };
        let key = PlainKey::generate(prefix)?;
        let new = NewKey {
            owner,
            digest: key.digest(),
            hint: key.hint(),
            expires_at: self.expires.map(|expiry| expiry.from(stamp.at)).transpose()?,
            scopes: (!self.scopes.is_empty()).then(|| Scopes::new(self.scopes)).transpose()?,
            description: self.description,
        };
        let created = store.create_key(new, stamp).await?;
        let id = created.key.id;
        // From here on only this process knows the key: that it cannot be printed is a failure, also into a closed pipe.
        print_created(&created, &key, self.json, stamp.at, streams).map_err(|source| CommandError::Unprinted { id, source })
    }
}

fn print_created(
    created: &CreatedKey,
    key: &PlainKey,
    json: bool,
    now: UnixMillis,
    streams: &mut Streams<'_>,
) -> std::io::Result<()> {
    let CreatedKey { key: stored, new_consumer } = created;
    if let Some(StoredConsumer { consumer, .. }) = new_consumer {
        streams.remark(format_args!("created consumer {} ({})", consumer.name, consumer.id));
    }
    if json {
        streams.json(&KeyJson { key: Some(key.expose()), ..KeyJson::of(stored, now) })?;
    } else {
        writeln!(streams.out, "{}", key.expose())?;
    }
    streams.out.flush()?;
    let end = stored.expires_at.map_or_else(|| "never expires".to_owned(), |end| format!("expires {}", moment(end)));
    streams.remark(format_args!("created key {} of consumer {}; it {end}", stored.id, stored.consumer_name));
    streams.remark(format_args!("keep the key now: it is not stored and will not be shown again"));
    Ok(())
}

async fn list(
    consumer: Option<String>,
    json: bool,
    store: &Store,
    prefix: &Prefix,
    stamp: &Stamp,
    streams: &mut Streams<'_>,
) -> Result<(), CommandError> {
    let consumer = match consumer {
        Some(argument) => Some(consumers::find(&argument, store, prefix).await?.consumer.id),
        None => None,
    };
    let mut table = Table::new(["ID", "CONSUMER", "HINT", "STATUS", "EXPIRES", "CREATED", "DESCRIPTION"]);
    let mut array = JsonArray::default();
    let mut after = None;
    loop {
        let page = store.keys(consumer.as_ref(), after, PAGE).await?;
        for stored in &page {
            if json {
                array.element(streams.out, &KeyJson::of(stored, stamp.at))?;
            } else {
                table.row([
                    stored.id.to_string(),
                    stored.consumer_name.to_string(),
                    stored.hint.clone(),
                    stored.status(stamp.at).as_str().to_owned(),
                    moment_or(stored.expires_at, "never"),
                    moment(stored.created_at),
                    or_dash(stored.description.as_ref().map_or("", Description::as_str)),
                ]);
            }
        }
        if !json {
            table.flush(streams.out)?;
        }
        after = match page.last() {
            Some(last) => Some(last.cursor()),
            None if json => return Ok(array.finish(streams.out)?),
            None => return Ok(()),
        };
    }
}

async fn show(key: OneKey, store: &Store, prefix: &Prefix, stamp: &Stamp, streams: &mut Streams<'_>) -> Result<(), CommandError> {
    let id = key.id(prefix)?;
    let stored = store.key(&id).await?.ok_or(StoreError::UnknownKey(id))?;
    if key.json {
        return Ok(streams.json(&KeyJson::of(&stored, stamp.at))?);
    }
    let lines = [
        ("id", stored.id.to_string()),
        ("consumer", format!("{} ({})", stored.consumer_name, stored.consumer)),
        ("bucket", stored.bucket.to_string()),
        ("hint", stored.hint.clone()),
        ("status", stored.status(stamp.at).as_str().to_owned()),
        ("expires", moment_or(stored.expires_at, "never")),
        ("scopes", stored.scopes.as_ref().map_or_else(|| "all of the consumer's".to_owned(), |own| or_dash(own.as_str()))),
        ("description", or_dash(stored.description.as_ref().map_or("", Description::as_str))),
        ("created", moment(stored.created_at)),
        ("updated", moment(stored.updated_at)),
        ("last used", moment_or(stored.last_used_at, "-")),
    ];
    Ok(details(streams.out, &lines)?)
}

async fn set_state(
    key: OneKey,
    state: KeyState,
    store: &Store,
    prefix: &Prefix,
    stamp: &Stamp,
    streams: &mut Streams<'_>,
) -> Result<(), CommandError> {
    let change = store.set_key_state(&key.id(prefix)?, state, stamp).await?;
    let stored = &change.key;
    if key.json {
        return Ok(streams.json(&KeyJson::of(stored, stamp.at))?);
    }
    let already = if change.before == state { "already " } else { "" };
    let (id, consumer, hint, status) = (stored.id, &stored.consumer_name, &stored.hint, state.as_str());
    Ok(writeln!(streams.out, "key {id} ({hint}…, consumer {consumer}) is {already}{status}")?)
}

impl OneKey {
    fn id(&self, prefix: &Prefix) -> Result<KeyId, CommandError> {
        refuse_key(&self.id, prefix, "the id of a key, `key_…`")?;
        Ok(self.id.parse()?)
    }
}

impl Expiry {
    fn parse(text: &str) -> Result<Self, InvalidExpiry> {
        match UnixMillis::parse_rfc3339(text) {
            Ok(moment) => Ok(Self::At(moment)),
            Err(_) => humantime::parse_duration(text).map(Self::After).map_err(|_| InvalidExpiry),
        }
    }

    fn from(self, now: UnixMillis) -> Result<UnixMillis, CommandError> {
        let end = match self {
            Self::After(duration) => now.after(duration),
            Self::At(moment) => moment,
        };
        if end > now && end.is_representable() { Ok(end) } else { Err(CommandError::InvalidExpiry) }
    }
}

impl<'k> KeyJson<'k> {
    fn of(stored: &'k StoredKey, now: UnixMillis) -> Self {
        Self {
            id: stored.id,
            key: None,
            consumer: stored.consumer_name.as_str(),
            consumer_id: stored.consumer,
            bucket: stored.bucket.as_str(),
            hint: &stored.hint,
            status: stored.status(now).as_str(),
            expires_at: stored.expires_at,
            scopes: stored.scopes.as_ref(),
            description: stored.description.as_ref(),
            created_at: stored.created_at,
            updated_at: stored.updated_at,
            last_used_at: stored.last_used_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_a_time_from_now_or_a_moment() {
        let now = UnixMillis(1_000);
        for (text, end) in [
            ("30d", Some(1_000 + 30 * 86_400_000)),
            ("1h 30m", Some(1_000 + 5_400_000)),
            ("1970-01-01T00:00:02Z", Some(2_000)),
            ("0s", None),
            ("1970-01-01T00:00:01Z", None),
            ("1969-12-31T23:59:59Z", None),
            ("10000y", None),
            ("500000000y", None),
        ] {
            let expiry = Expiry::parse(text).unwrap();
            assert_eq!(expiry.from(now).ok(), end.map(UnixMillis), "{text}");
        }
        for text in ["", "30", "soon", "-1d", "2030-01-31", "d30"] {
            assert!(Expiry::parse(text).is_err(), "{text}");
        }
    }
}
