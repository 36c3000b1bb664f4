//! Kong's declarative file (`_format_version: "3.0"`), in YAML or JSON: consumers, their `keyauth_credentials` and their
//! `acls`, nested or as lists of their own, and the addresses that a consumer's `ip-restriction` allows.
//!
//! Nothing that narrows a key in Kong is dropped in silence: see [`plugins`].
//!
//! The file is read whole, as Kong does: a list of credentials may come before the consumers that it refers to. A line
//! is that of the credential, or of a consumer without any.

mod entities;
mod names;
mod plugins;

use std::io::{self, Read};

use serde_saphyr::Spanned;
use zeroize::Zeroizing;

use crate::import::fields::{Column, Defaults, Fields};
use crate::import::kong::entities::{Credential, File, KongConsumer};
use crate::import::kong::names::{Meant, Names, Reference};
use crate::import::kong::plugins::{Effect, Scope};
use crate::import::reading::{ReadError, Rows};
use crate::keys::UnixMillis;
use crate::store::TransferRow;

/// Longest file, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 30;
const NOBODY: &str = "its `consumer` is nobody of this file";
const UNNAMED: &str = "a credential in a list of its own names its `consumer`";
const SHADOWED: &str =
    "its only name is its `custom_id`, which is the `username` of another; give it a `username`";
const AMBIGUOUS: &str = "its `consumer` is the `username` or the `id` of more than one; refer to it by `id`, as `{\"id\":\"…\"}`";

/// A consumer as all its lines say it.
struct Known {
    line: u64,
    fields: Result<Fields, String>,
    has_key: bool,
}

/// The rows of Kong's file.
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

/// Room for any file of this length. The limits are against aliases that make much of little.
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
            // They hold for every key of the file, so no line of it is good.
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

    /// The consumer that a credential refers to.
    fn named(&self, consumer: &Reference) -> Result<usize, &'static str> {
        match self.names.find(consumer) {
            Meant::One(index) => Ok(index),
            Meant::Several => Err(AMBIGUOUS),
            Meant::Nobody if consumer.is_empty() => Err(UNNAMED),
            Meant::Nobody => Err(NOBODY),
        }
    }

    /// Gives the plugins of a list of their own to the consumers that they are of, and tells what is left behind. Returns
    /// what forbids the whole file.
    fn plugins(
        &mut self,
        file: &mut File,
        defaults: &Defaults,
    ) -> Vec<Result<TransferRow, ReadError>> {
        let mut of_all: Vec<(u64, String)> = file
            .unknown
            .iter()
            .map(|name| (1, format!("it has {name:?}, which is not known here")))
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
                    format!("{what}; nothing of the file is imported. Go on without it with `--skip-unsupported`"),
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
                let what = format!("line {line}: {name:?}, which is not known here");
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

/// Refuses members that are not known: they may narrow.
fn refuse_unknown(unknown: &[String], defaults: &Defaults) -> Result<(), String> {
    match unknown {
        [] => Ok(()),
        _ if defaults.skip_unsupported => Ok(()),
        names => Err(format!(
            "it has {names:?}, which is not known here and may narrow what the key may do. Go on without it with `--skip-unsupported`"
        )),
    }
}

impl KongConsumer {
    /// What narrows it and is not imported, each with its line.
    fn unsupported(&self, line: u64) -> impl Iterator<Item = String> {
        let members = self
            .unknown
            .iter()
            .map(move |name| format!("line {line}: {name:?}, which is not known here"));
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
                        "its consumer has {what}, which narrows what the key may do and has nothing like it here. Go on without \
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
                // Kong's tags are words; those of other tools are written `name:value` or `name=value`.
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
        let key = self.key.filter(|key| !key.0.is_empty()).ok_or(
            "the credential has no `key`; Kong makes one at random then, which nobody knows here",
        )?;
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::import::reading::BadLine;
    use crate::keys::KeyDigest;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

    fn read(text: &str) -> Vec<Result<TransferRow, ReadError>> {
        super::read(
            text,
            &Defaults {
                allow_weak: true,
                ..Defaults::default()
            },
            NOW,
        )
    }

    fn skipping(text: &str) -> Vec<Result<TransferRow, ReadError>> {
        let defaults = Defaults {
            allow_weak: true,
            skip_unsupported: true,
            ..Defaults::default()
        };
        super::read(text, &defaults, NOW)
    }

    fn good(text: &str) -> Vec<TransferRow> {
        read(text)
            .into_iter()
            .filter(|row| !matches!(row, Err(ReadError::NotTaken(_))))
            .map(Result::unwrap)
            .collect()
    }

    const NESTED: &str = r#"_format_version: "3.0"
services:
- name: example
  url: http://example.org
consumers:
- username: acme
  custom_id: "42"
  tags: [gold, "env:prod"]
  acls:
  - group: read
  - group: write
  keyauth_credentials:
  - key: sk_live_1
    tags: [old]
    ttl: 3600
  - key: sk_live_2
    created_at: 1600000000
- username: nobody
"#;

    #[test]
    fn nested_credentials_become_rows() {
        let rows = good(NESTED);
        let [first, second, keyless] = rows.as_slice() else {
            panic!("{rows:?}")
        };
        assert_eq!([first.line, second.line, keyless.line], [13, 16, 18]);
        for row in [first, second] {
            assert_eq!(
                (
                    row.consumer.name.as_str(),
                    row.consumer.attributes.scopes.as_str()
                ),
                ("acme", "read write")
            );
            assert_eq!(
                row.consumer.attributes.custom_id.as_ref().unwrap().as_str(),
                "42"
            );
            assert_eq!(
                row.consumer.attributes.tags.iter().collect::<Vec<_>>(),
                [("env", "prod"), ("gold", "")]
            );
        }
        let key = first.key.as_ref().unwrap();
        assert_eq!(key.digest, KeyDigest::of(b"sk_live_1"));
        assert_eq!(
            key.attributes.expires_at,
            Some(UnixMillis(NOW.0 + 3_600_000))
        );
        assert_eq!(
            key.attributes.description.as_ref().unwrap().as_str(),
            "tags: old"
        );
        assert_eq!(
            second.key.as_ref().unwrap().created_at,
            Some(UnixMillis(1_600_000_000_000))
        );
        assert_eq!(
            (keyless.consumer.name.as_str(), &keyless.key),
            ("nobody", &None)
        );
    }

    #[test]
    fn lists_of_their_own_refer_to_consumers() {
        let text = r#"{"_format_version": "3.0",
            "keyauth_credentials": [
                {"key": "sk_live_1", "consumer": "acme"},
                {"key": "sk_live_2", "consumer": {"id": "b3c1"}},
                {"key": "sk_live_3", "consumer": "elsewhere"}],
            "acls": [{"group": "read", "consumer": "b3c1"}, {"group": "read", "consumer": "nobody"}],
            "consumers": [{"username": "acme", "id": "a1"}, {"username": "other", "id": "b3c1"}]}"#;
        let (rows, bad): (Vec<_>, Vec<_>) = read(text).into_iter().partition(Result::is_ok);
        let seen: Vec<_> = rows
            .iter()
            .flatten()
            .map(|row| {
                (
                    row.line,
                    row.consumer.name.as_str(),
                    row.consumer.attributes.scopes.as_str(),
                )
            })
            .collect();
        assert_eq!(seen, [(3, "acme", ""), (4, "other", "read")]);
        let lines: Vec<u64> = bad
            .iter()
            .map(|bad| match bad {
                Err(ReadError::Bad(bad)) if bad.reason == NOBODY => bad.line,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(lines, [6, 5], "references to nobody");
    }

    #[test]
    fn a_custom_id_takes_nobodys_key_or_scope() {
        let text = r#"{"_format_version": "3.0",
            "consumers": [
                {"username": "alice", "custom_id": "bob"}, {"username": "bob"},
                {"custom_id": "carol"},
                {"custom_id": "bob", "keyauth_credentials": [{"key": "sk_live_3"}]}],
            "keyauth_credentials": [
                {"key": "sk_live_1", "consumer": "bob"},
                {"key": "sk_live_2", "consumer": {"username": "carol"}}],
            "acls": [{"group": "admin", "consumer": "bob"}, {"group": "read", "consumer": "carol"}]}"#;
        let (rows, bad): (Vec<_>, Vec<_>) = read(text).into_iter().partition(Result::is_ok);
        let [Err(ReadError::Bad(BadLine { line: 5, reason }))] = bad.as_slice() else {
            panic!("{bad:?}")
        };
        assert!(
            reason.contains("its only name is its `custom_id`"),
            "{reason}"
        );
        let seen: Vec<_> = rows
            .iter()
            .flatten()
            .map(|row| {
                (
                    row.consumer.name.as_str(),
                    row.consumer.attributes.scopes.as_str(),
                    row.key.as_ref().map(|key| key.digest),
                )
            })
            .collect();
        let key = |text: &str| Some(KeyDigest::of(text.as_bytes()));
        assert_eq!(
            seen,
            [
                ("bob", "admin", key("sk_live_1")),
                ("carol", "read", key("sk_live_2")),
                ("alice", "", None),
            ]
        );
    }

    #[test]
    fn what_is_wrong_has_its_line_and_never_the_key() {
        for (text, line, said) in [
            ("_format_version: \"3.0\"\n", 1, "neither"),
            (
                "consumers:\n- username: a\n  keyauth_credentials:\n  - key: [s3cr3t]\n",
                4,
                "Kong's declarative file",
            ),
            (
                "consumers:\n- username: a\n  keyauth_credentials:\n  - key: 's3cr3t\n",
                4,
                "Kong's declarative file",
            ),
            (
                "consumers:\n- username: a\n  keyauth_credentials:\n  - key: s3cr3t s3cr3t\n",
                4,
                "`key`: the token",
            ),
            (
                "consumers:\n- username: a\n  keyauth_credentials:\n  - tags: [s3cr3t]\n",
                4,
                "no `key`",
            ),
            (
                "consumers:\n- custom_id: a b\n- keyauth_credentials:\n  - key: s3cr3t\n",
                4,
                "a consumer has a `username`",
            ),
            (
                "keyauth_credentials:\n- key: s3cr3t\n",
                2,
                "names its `consumer`",
            ),
            (
                "keyauth_credentials:\n- key: s3cr3t\n  consumer: {}\n",
                2,
                "names its `consumer`",
            ),
            (
                "consumers:\n- username: a\n- id: a\n  username: b\nkeyauth_credentials:\n- key: s3cr3t\n  consumer: a\n",
                6,
                "more than one; refer to it by `id`",
            ),
            (
                "consumers:\n- username: a\n- username: a\nacls:\n- group: s3cr3t\n  consumer: a\n",
                5,
                "more than one",
            ),
            (
                "consumers:\n- username: a\n  keyauth_credentials:\n  - key: \"{vault://env/s3cr3t}\"\n",
                4,
                "`key`: the token",
            ),
        ] {
            let errors: Vec<ReadError> = read(text).into_iter().filter_map(Result::err).collect();
            let [ReadError::Bad(bad)] = errors.as_slice() else {
                panic!("{text}: {errors:?}")
            };
            assert!(
                bad.reason.contains(said) && !bad.reason.contains("s3cr3t"),
                "{text}: {bad}"
            );
            assert!(
                bad.line.abs_diff(line) <= u64::from(said.contains("Kong's")),
                "{text}: {bad}"
            );
        }
    }

    #[test]
    fn what_narrows_in_kong_is_taken_or_forbids_the_import() {
        let consumer = "consumers:\n- username: a\n  keyauth_credentials:\n  - key: sk_live_1\n";
        let of_consumer = |plugin: &str| format!("{consumer}  plugins:\n  - {plugin}\n");
        let of_file = |more: &str| format!("{consumer}{more}\n");
        for (text, named) in [
            (of_consumer("name: rate-limiting"), "`rate-limiting`"),
            (
                of_consumer("name: request-termination"),
                "`request-termination`",
            ),
            (
                of_consumer("{name: ip-restriction, config: {deny: [192.0.2.1]}}"),
                "`ip-restriction`",
            ),
            (
                of_consumer(
                    "{name: ip-restriction, config: {allow: [192.0.2.1], deny: [192.0.2.2]}}",
                ),
                "`ip-restriction`",
            ),
            (
                of_consumer("{name: ip-restriction, config: {allow: []}}"),
                "`ip-restriction`",
            ),
            (
                of_consumer("{name: ip-restriction, config: {whitelist: [192.0.2.1]}}"),
                "`ip-restriction`",
            ),
            (of_consumer("{name: ip-restriction}"), "`ip-restriction`"),
            (
                of_consumer("{name: ip-restriction, route: r, config: {allow: [192.0.2.1]}}"),
                "`ip-restriction`",
            ),
            (
                of_consumer("{name: ip-restriction, config: {allow: [\"\"]}}"),
                "`allowed_ips`",
            ),
            (
                of_consumer(
                    "{name: ip-restriction, config: {allow: [10.0.0.1]}}\n  - {name: ip-restriction, config: {allow: [10.0.0.2]}}",
                ),
                "more than one",
            ),
            (
                of_consumer("name: s3cr3t-of-our-own"),
                "a plugin that is not known here",
            ),
            (of_consumer("config: {}"), "a plugin that is not known here"),
            (format!("{consumer}  quota: 5\n"), "\"quota\""),
            (
                consumer.replace("sk_live_1", "sk_live_1\n    enabled: false"),
                "\"enabled\"",
            ),
            (
                of_file("plugins:\n- name: rate-limiting\n  consumer: a"),
                "`rate-limiting`",
            ),
            (
                of_file("plugins:\n- name: rate-limiting\n  consumer: b"),
                "nobody",
            ),
            (
                of_file("plugins:\n- name: ip-restriction"),
                "`ip-restriction`",
            ),
            (
                of_file("plugins:\n- name: ip-restriction\n  service: s"),
                "`ip-restriction`",
            ),
            (
                of_file("services:\n- name: s\n  plugins:\n  - name: acl"),
                "`acl`",
            ),
            (
                of_file(
                    "services:\n- name: s\n  routes:\n  - name: r\n    plugins:\n    - name: acl",
                ),
                "`acl`",
            ),
            (
                of_file("routes:\n- name: r\n  plugins:\n  - name: request-termination"),
                "`request-termination`",
            ),
            (
                of_file(
                    "consumer_groups:\n- name: g\n  plugins:\n  - name: rate-limiting-advanced",
                ),
                "`rate-limiting-advanced`",
            ),
            (
                of_file("consumer_group_plugins:\n- name: rate-limiting-advanced"),
                "`rate-limiting-advanced`",
            ),
            (of_file("filter_chains:\n- name: f"), "\"filter_chains\""),
        ] {
            let read = read(&text);
            let bad: Vec<&BadLine> = read
                .iter()
                .filter_map(|row| match row {
                    Err(ReadError::Bad(bad)) => Some(bad),
                    _ => None,
                })
                .collect();
            assert!(
                bad.iter().any(|bad| bad.reason.contains(named)),
                "{text}: {read:?}"
            );
            assert!(
                !bad.iter().any(|bad| bad.reason.contains("s3cr3t")),
                "{bad:?}"
            );
            // A reference to nobody lets nobody in; of all else no line is good.
            assert_eq!(
                read.iter().filter(|row| row.is_ok()).count(),
                usize::from(named == "nobody"),
                "{text}: {read:?}"
            );
            let is_wrong = matches!(named, "nobody" | "`allowed_ips`");
            let taken = skipping(&text).iter().filter(|row| row.is_ok()).count();
            assert!(is_wrong || taken == 1, "{text}: {:?}", skipping(&text));
        }
        for plugin in [
            "cors",
            "prometheus",
            "key-auth",
            "{name: rate-limiting, enabled: false}",
        ] {
            let plugin = if plugin.starts_with('{') {
                plugin.to_owned()
            } else {
                format!("name: {plugin}")
            };
            assert_eq!(good(&of_consumer(&plugin)).len(), 1, "{plugin}");
            assert_eq!(
                good(&of_file(&format!("plugins:\n- {plugin}"))).len(),
                1,
                "{plugin}"
            );
        }
        for text in [
            of_consumer(
                "{name: ip-restriction, config: {allow: [192.0.2.0/24, \"2001:db8::1\"], status: 403}}",
            ),
            of_file(
                "plugins:\n- name: ip-restriction\n  consumer: {username: a}\n  config:\n    allow: [192.0.2.0/24, \"2001:db8::1\"]",
            ),
        ] {
            let rows = good(&text);
            assert_eq!(
                rows[0].consumer.attributes.allowed_ips.to_string(),
                "192.0.2.0/24 2001:db8::1",
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_left_behind_is_named() {
        let told: Vec<String> = read(&format!(
            "{NESTED}routes:\n- name: r\n- name: s\nupstreams: [{{name: u}}]\nbasicauth_credentials: [{{username: a, password: s3cr3t}}]\n"
        ))
        .into_iter()
        .filter_map(|row| match row {
            Err(ReadError::NotTaken(what)) => Some(what),
            _ => None,
        })
        .collect();
        assert_eq!(
            told,
            [
                "1 services",
                "2 routes",
                "1 upstreams",
                "1 basicauth_credentials"
            ]
        );
    }

    #[test]
    fn a_key_of_digits_is_a_text() {
        let rows = good("consumers:\n- username: 7\n  keyauth_credentials:\n  - key: 0123\n");
        assert_eq!(rows[0].key.as_ref().unwrap().digest, KeyDigest::of(b"0123"));
        assert_eq!(rows[0].consumer.name.as_str(), "7");
    }

    #[test]
    fn aliases_cannot_make_much_of_little() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}", level - 1);
            text.push_str(&format!(
                "a{level}: &a{level} [{}]\n",
                vec![before; 10].join(", ")
            ));
        }
        text.push_str("consumers: *a11\n");
        assert!(read(&text).iter().all(Result::is_err));
    }

    proptest! {
        #[test]
        fn no_text_upsets_the_reader(text in "(consumers:\n)?[a-z:{}\\[\\]&*!|>'\"#,\\- \n]{0,200}") {
            for error in read(&text).into_iter().filter_map(Result::err) {
                prop_assert!(matches!(error, ReadError::Bad(bad) if bad.line <= text.lines().count() as u64 + 1));
            }
        }
    }
}
