//! Kong's declarative file (`_format_version: "3.0"`), in YAML or JSON: consumers with
//! `keyauth_credentials`, `acls` and the addresses of `ip-restriction`, nested or as top-level
//! lists.
//!
//! Reports every restriction that is not imported: see [`plugins`].
//!
//! Reads the whole file, as Kong does: credentials may precede the consumers that they refer to.
//! Line numbers are those of the credential, or of a consumer without any.

mod entities;
mod names;
mod plugins;

use std::io::{self, Read};

use serde_saphyr::Spanned;
use zeroize::Zeroizing;

use crate::import::column::Column;
use crate::import::fields::{Defaults, Fields};
use crate::import::kong::entities::{Credential, File, KongConsumer};
use crate::import::kong::names::{Meant, Names, Reference};
use crate::import::kong::plugins::{Effect, Scope};
use crate::import::reading::{ReadError, Rows};
use crate::keys::UnixMillis;
use crate::store::TransferRow;

/// Maximum size of a file, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 30;
const NOBODY: &str = "its `consumer` names nobody in this file";
const UNNAMED: &str = "a credential in a list of its own names its `consumer`";
const SHADOWED: &str =
    "its only name is its `custom_id`, which is the `username` of another; give it a `username`";
const AMBIGUOUS: &str = "its `consumer` is the `username` or the `id` of more than one; refer to it by `id`, as `{\"id\":\"…\"}`";

/// A consumer merged from all its entries.
struct Known {
    line: u64,
    fields: Result<Fields, String>,
    has_key: bool,
}

/// Iterates over the rows of a Kong file.
pub(crate) fn rows(source: impl Read, defaults: Defaults, now: UnixMillis) -> Rows {
    let mut text = Zeroizing::new(String::new());
    match source.take(MAX_FILE_BYTES + 1).read_to_string(&mut text) {
        Ok(length) if length as u64 > MAX_FILE_BYTES => {
            let reason = format!("the file has more than {MAX_FILE_BYTES} bytes; divide it");
            return Box::new(std::iter::once(Err(ReadError::bad(1, reason))));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Box::new(std::iter::once(Err(ReadError::bad(
                1,
                "the file is not UTF-8",
            ))));
        }
        Err(error) => return Box::new(std::iter::once(Err(error.into()))),
    }
    Box::new(read(&text, &defaults, now).into_iter())
}

fn read(text: &str, defaults: &Defaults, now: UnixMillis) -> Vec<Result<TransferRow, ReadError>> {
    let options = serde_saphyr::options! { budget: budget(text.len()) };
    let file: File = match serde_saphyr::from_str_with_options(text, options) {
        Ok(file) => file,
        // The library's own message may quote the file.
        Err(error) => {
            let line = error.location().map_or(1, |location| location.line());
            let reason = "this cannot be read as Kong's declarative file: YAML or JSON with `consumers`, each with a `username`, \
                          and `keyauth_credentials`, each with a `key`";
            return vec![Err(ReadError::bad(line, reason))];
        }
    };
    if file.consumers.is_empty() && file.keyauth_credentials.is_empty() {
        return vec![Err(ReadError::bad(
            1,
            "the file has neither `consumers` nor `keyauth_credentials`",
        ))];
    }
    Reading::default().read(file, defaults, now)
}

/// Parser limits, sufficient for a file of this size; they stop the amplification by aliases.
fn budget(bytes: usize) -> Option<serde_saphyr::Budget> {
    serde_saphyr::budget! {
        max_events: bytes.saturating_add(1_000),
        max_nodes: bytes.saturating_add(1_000),
        max_total_scalar_bytes: bytes.saturating_add(1_000),
    }
}

#[derive(Default)]
struct Reading {
    consumers: Vec<Known>,
    names: Names,
    rows: Vec<Result<TransferRow, ReadError>>,
}

impl Reading {
    fn read(
        mut self,
        mut file: File,
        defaults: &Defaults,
        now: UnixMillis,
    ) -> Vec<Result<TransferRow, ReadError>> {
        for (
            index,
            Spanned {
                value: consumer, ..
            },
        ) in file.consumers.iter().enumerate()
        {
            let KongConsumer {
                username,
                id,
                custom_id,
                ..
            } = consumer;
            self.names.add(
                index,
                username.as_deref(),
                id.as_deref(),
                custom_id.as_deref(),
            );
        }
        for acl in std::mem::take(&mut file.acls) {
            let line = acl.defined.line();
            match acl
                .value
                .consumer
                .as_ref()
                .map_or(Meant::Nobody, |consumer| self.names.find(consumer))
            {
                Meant::One(index) => {
                    if let Some(consumer) = file.consumers.get_mut(index) {
                        consumer.value.acls.push(acl.value);
                    }
                }
                Meant::Several => self.rows.push(Err(ReadError::bad(line, AMBIGUOUS))),
                Meant::Nobody => self.rows.push(Err(ReadError::bad(line, NOBODY))),
            }
        }
        let of_all = self.plugins(&mut file, defaults);
        if !of_all.is_empty() {
            // Restrictions on every key of the file, so no line is importable.
            return of_all;
        }
        let mut nested = Vec::new();
        for (
            index,
            Spanned {
                value: mut consumer,
                defined,
                ..
            },
        ) in file.consumers.into_iter().enumerate()
        {
            nested.extend(
                std::mem::take(&mut consumer.keyauth_credentials)
                    .into_iter()
                    .map(|credential| (index, credential)),
            );
            if defaults.skip_unsupported {
                let told = consumer.unsupported(defined.line());
                self.rows
                    .extend(told.map(|what| Err(ReadError::NotTaken(what))));
            }
            let is_shadowed = self
                .names
                .is_shadowed(consumer.username.as_deref(), consumer.custom_id.as_deref());
            let fields = if is_shadowed {
                Err(SHADOWED.to_owned())
            } else {
                consumer.fields(defaults)
            };
            self.consumers.push(Known {
                line: defined.line(),
                fields,
                has_key: false,
            });
        }
        for (index, credential) in nested {
            self.credential(index, credential, defaults, now);
        }
        for mut credential in file.keyauth_credentials {
            let line = credential.defined.line();
            match credential
                .value
                .consumer
                .take()
                .ok_or(UNNAMED)
                .and_then(|consumer| self.named(&consumer))
            {
                Ok(index) => self.credential(index, credential, defaults, now),
                Err(reason) => self.rows.push(Err(ReadError::bad(line, reason))),
            }
        }
        let keyless = self
            .consumers
            .into_iter()
            .filter(|consumer| !consumer.has_key);
        self.rows
            .extend(keyless.map(|Known { line, fields, .. }| row(line, fields, defaults)));
        self.rows
    }

    /// Resolves the consumer of a credential.
    fn named(&self, consumer: &Reference) -> Result<usize, &'static str> {
        match self.names.find(consumer) {
            Meant::One(index) => Ok(index),
            Meant::Several => Err(AMBIGUOUS),
            Meant::Nobody if consumer.is_empty() => Err(UNNAMED),
            Meant::Nobody => Err(NOBODY),
        }
    }

    /// Assigns top-level plugins to their consumers and reports the rest. Returns restrictions on
    /// the whole file.
    fn plugins(
        &mut self,
        file: &mut File,
        defaults: &Defaults,
    ) -> Vec<Result<TransferRow, ReadError>> {
        let mut of_all: Vec<(u64, String)> = file
            .unknown
            .iter()
            .map(|name| (1, format!("it has {name:?}, which is unknown")))
            .collect();
        for plugin in std::mem::take(&mut file.plugins) {
            let line = plugin.defined.line();
            match (plugin.value.scope(), &plugin.value.consumer) {
                (Scope::Consumer, Some(consumer)) => match self.named(consumer) {
                    Ok(index) => {
                        if let Some(consumer) = file.consumers.get_mut(index) {
                            consumer.value.plugins.push(plugin);
                        }
                    }
                    Err(reason) => self.rows.push(Err(ReadError::bad(line, reason))),
                },
                _ => of_all.extend(plugin.value.of_all().map(|reason| (line, reason))),
            }
        }
        let others = file.plugins_of_others();
        of_all.extend(
            others.filter_map(|plugin| Some((plugin.defined.line(), plugin.value.of_all()?))),
        );
        self.rows.extend(
            file.left_behind()
                .map(|what| Err(ReadError::NotTaken(what))),
        );
        if defaults.skip_unsupported {
            self.rows.extend(
                of_all
                    .into_iter()
                    .map(|(line, what)| Err(ReadError::NotTaken(format!("line {line}: {what}")))),
            );
            return Vec::new();
        }
        of_all
            .into_iter()
            .map(|(line, what)| {
                Err(ReadError::bad(
                    line,
                    format!("{what}; nothing of the file is imported. Continue without it with `--skip-unsupported`"),
                ))
            })
            .collect()
    }

    fn credential(
        &mut self,
        index: usize,
        credential: Spanned<Credential>,
        defaults: &Defaults,
        now: UnixMillis,
    ) {
        let Some(consumer) = self.consumers.get_mut(index) else {
            return;
        };
        consumer.has_key = true;
        let line = credential.defined.line();
        if defaults.skip_unsupported {
            let unknown = credential.value.unknown.iter();
            self.rows.extend(unknown.map(|name| {
                let what = format!("line {line}: {name:?}, which is unknown");
                Err(ReadError::NotTaken(what))
            }));
        }
        let fields = consumer
            .fields
            .clone()
            .and_then(|fields| credential.value.fields(fields, defaults, now));
        self.rows.push(row(line, fields, defaults));
    }
}

fn row(
    line: u64,
    fields: Result<Fields, String>,
    defaults: &Defaults,
) -> Result<TransferRow, ReadError> {
    fields
        .and_then(|fields| fields.read(line, defaults))
        .map_err(|reason| ReadError::bad(line, reason))
}

/// Refuses unknown members: they may be restrictions.
fn refuse_unknown(unknown: &[String], defaults: &Defaults) -> Result<(), String> {
    match unknown {
        [] => Ok(()),
        _ if defaults.skip_unsupported => Ok(()),
        names => Err(format!(
            "it has {names:?}, which is unknown and may restrict the key. Continue without it with `--skip-unsupported`"
        )),
    }
}

impl KongConsumer {
    /// Returns the unsupported restrictions with their line.
    fn unsupported(&self, line: u64) -> impl Iterator<Item = String> {
        let members = self
            .unknown
            .iter()
            .map(move |name| format!("line {line}: {name:?}, which is unknown"));
        let plugins = self.plugins.iter().filter_map(|plugin| {
            let line = plugin.defined.line();
            match plugin.value.effect() {
                Effect::Narrows(what) => Some(format!("line {line}: {what}")),
                Effect::None | Effect::Allows(_) => None,
            }
        });
        members.chain(plugins)
    }

    fn fields(self, defaults: &Defaults) -> Result<Fields, String> {
        let mut fields = Fields::default();
        refuse_unknown(&self.unknown, defaults)?;
        let mut ranges = None;
        for plugin in self.plugins.iter().map(|plugin| &plugin.value) {
            match plugin.effect() {
                Effect::None => {}
                Effect::Allows(allowed) if ranges.is_none() => ranges = Some(allowed),
                _ if defaults.skip_unsupported => {}
                Effect::Allows(_) => {
                    return Err("its consumer has more than one `ip-restriction`".to_owned());
                }
                Effect::Narrows(what) => {
                    return Err(format!(
                        "its consumer has {what}, which restricts the key and has no equivalent here. Continue without \
                         it with `--skip-unsupported`"
                    ));
                }
            }
        }
        if let Some(ranges) = ranges {
            fields.set_json(Column::AllowedIps, ranges.into());
        }
        let name = self
            .username
            .as_deref()
            .or(self.custom_id.as_deref())
            .ok_or("a consumer has a `username` or a `custom_id`")?;
        fields.set_text(Column::Consumer, name);
        fields.set_text(
            Column::CustomId,
            self.custom_id.as_deref().unwrap_or_default(),
        );
        let tags: serde_json::Map<_, _> = self
            .tags
            .iter()
            .map(|tag| {
                // Kong's tags are words; other tools write `name:value` or `name=value`.
                let (name, value) = tag.split_once(['=', ':']).unwrap_or((tag, ""));
                (name.to_owned(), value.into())
            })
            .collect();
        if !tags.is_empty() {
            fields.set_json(Column::Tags, tags.into());
        }
        let scopes: Vec<serde_json::Value> = self
            .acls
            .into_iter()
            .map(|acl| acl.group.unwrap_or_default().into())
            .collect();
        if !scopes.is_empty() {
            fields.set_json(Column::Scopes, scopes.into());
        }
        Ok(fields)
    }
}

impl Credential {
    fn fields(
        self,
        mut fields: Fields,
        defaults: &Defaults,
        now: UnixMillis,
    ) -> Result<Fields, String> {
        refuse_unknown(&self.unknown, defaults)?;
        let key = self
            .key
            .filter(|key| !key.0.is_empty())
            .ok_or("the credential has no `key`; Kong would generate an unknown one")?;
        fields.set_text(Column::Key, &key.0);
        let made = self
            .created_at
            .map(|seconds| UnixMillis(seconds.saturating_mul(1_000)));
        if let Some(seconds) = self.ttl.filter(|seconds| *seconds > 0) {
            let end = made
                .unwrap_or(now)
                .after(std::time::Duration::from_secs(seconds));
            fields.set_text(Column::ExpiresAt, &end.to_string());
        }
        if let Some(made) = made {
            fields.set_text(Column::CreatedAt, &made.to_string());
        }
        if !self.tags.is_empty() {
            fields.set_text(
                Column::KeyDescription,
                &format!("tags: {}", self.tags.join(", ")),
            );
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests;
