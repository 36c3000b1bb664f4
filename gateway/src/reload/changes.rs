//! What differs between two sets of settings, by path, without a secret's value.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use crate::config::header_edits::keys;
use crate::config::reader::Effective;
use crate::config::settings::Settings;
use crate::proxy::fixed_headers::Edited;
use crate::reload::list::{OnReload, SETTINGS};
use crate::tls::origin::OriginTls;

/// Bytes of a hash that is shown.
const HASH_BYTES: usize = 8;

/// Hash of settings for people to compare: of the paths and values that `gateway check` prints.
/// Secrets and the content of certificate files are left out, so that the hash can be shown.
#[must_use]
pub fn hash(effective: &[Effective]) -> String {
    let mut digest = Sha256::new();
    let mut lines: Vec<(&str, &str)> = effective
        .iter()
        .map(|effective| (effective.path.as_str(), effective.value.as_str()))
        .collect();
    lines.sort_unstable();
    for part in lines.iter().flat_map(|(path, value)| [path, value]) {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let digest = digest.finalize();
    digest
        .iter()
        .take(HASH_BYTES)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Paths of the settings that differ, sorted. Items of lists stand by their names:
/// `routes[orders].scopes`, or `routes[orders]` if the whole item came or went.
#[must_use]
pub fn changed(before: &Settings, after: &Settings) -> Vec<String> {
    let (old, new) = (by_path(&before.effective), by_path(&after.effective));
    let came = new.keys().filter(|path| !old.contains_key(*path));
    let mut paths: Vec<String> = old
        .iter()
        .filter(|(path, value)| new.get(*path) != Some(value))
        .map(|(path, _)| shown(path, &new))
        .chain(came.map(|path| shown(path, &old)))
        .collect();
    // Its password is not shown.
    if before.store.url != after.store.url {
        paths.push("store.url".to_owned());
    }
    paths.extend(changed_issuer_files(before, after));
    let (old, new) = (secrets(before), secrets(after));
    for (path, secret) in &new {
        // One that came or went differs by its path already.
        if old.get(path).is_some_and(|before| before != secret) {
            paths.push(path.clone());
        }
    }
    let tls = |settings: &Settings| settings.origin.tls.clone();
    let differ = |one: Option<OriginTls>, other: Option<OriginTls>| {
        one.zip(other).is_some_and(|(one, other)| one != other)
    };
    if differ(tls(before), tls(after)) && !paths.iter().any(|path| path.starts_with("origin.tls")) {
        paths.push("origin.tls".to_owned());
    }
    for section in after.own.changed(&before.own) {
        let within = format!("{section}.");
        if !paths.iter().any(|path| path.starts_with(&within)) {
            paths.push(section);
        }
    }
    paths.sort();
    paths.dedup();
    paths
}

/// Files of issuers of tokens whose content differs, by the paths of the settings that name them:
/// the content is not shown.
fn changed_issuer_files(before: &Settings, after: &Settings) -> Vec<String> {
    let paths = by_path(&after.effective);
    let mut changed = Vec::new();
    for issuer in &after.issuers {
        let mut known = before.issuers.iter();
        let Some(known) = known.find(|known| known.name == issuer.name) else {
            continue;
        };
        let mut files = Vec::new();
        if known.keys != issuer.keys {
            files.extend(["jwks_file", "secret_file"]);
        }
        if known.tls != issuer.tls {
            files.push("ca_file");
        }
        let named = files
            .into_iter()
            .map(|key| format!("jwt.issuers[{}].{key}", issuer.name));
        changed.extend(named.filter(|path| paths.contains_key(path)));
    }
    changed
}

/// One difference between settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Path; items of lists stand by their names.
    pub path: String,
    /// Value before, if any.
    pub before: Option<String>,
    /// Value after, if any.
    pub after: Option<String>,
    /// Whether the gateway has to be started again for it.
    pub needs_restart: bool,
}

/// Differences between two sets of effective settings, by path. Redacted secrets are equal.
#[must_use]
pub fn compare(before: &[Effective], after: &[Effective]) -> Vec<Difference> {
    let (before, after) = (by_path(before), by_path(after));
    let mut paths: Vec<&String> = before.keys().chain(after.keys()).collect();
    paths.sort();
    paths.dedup();
    let needs_restart = |path: &str| {
        let mut settings = SETTINGS.iter();
        settings
            .any(|(known, on_reload)| *known == path && matches!(on_reload, OnReload::Restart(_)))
    };
    paths
        .into_iter()
        .filter(|path| before.get(*path) != after.get(*path))
        .map(|path| Difference {
            path: path.clone(),
            before: before.get(path).map(|value| (*value).to_owned()),
            after: after.get(path).map(|value| (*value).to_owned()),
            needs_restart: needs_restart(path),
        })
        .collect()
}

/// Path to show for a difference at `path`: its item, if `other` has nothing of that.
fn shown(path: &str, other: &BTreeMap<String, &str>) -> String {
    let Some((item, _)) = path.split_once("].") else {
        return path.to_owned();
    };
    let within = format!("{item}].");
    let is_there = other.range(within.clone()..).next();
    match is_there {
        Some((found, _)) if found.starts_with(&within) => path.to_owned(),
        _ => format!("{item}]"),
    }
}

/// Settings in force after a reading of `new`: the settings at the paths `held` stay as in
/// `running`.
#[must_use]
pub fn in_force(new: &[Effective], running: &[Effective], held: &[String]) -> Vec<Effective> {
    let is_held = |effective: &&Effective| {
        held.iter().any(|held| {
            let rest = effective.path.strip_prefix(held.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
        })
    };
    let mut in_force: Vec<Effective> = new.iter().filter(|one| !is_held(one)).cloned().collect();
    for effective in running.iter().filter(is_held) {
        // After the last setting of its section, so that a section is in one piece.
        let section = |path: &str| path.rsplit_once('.').map(|(section, _)| section.to_owned());
        let wanted = section(&effective.path);
        let last = in_force
            .iter()
            .rposition(|other| section(&other.path) == wanted);
        let at = last.map_or(in_force.len(), |last| last + 1);
        in_force.insert(at, effective.clone());
    }
    in_force
}

/// Values by paths in which the items of a list have their names.
pub(super) fn by_path(effective: &[Effective]) -> BTreeMap<String, &str> {
    let names = item_names(effective);
    let named = |path: &str| {
        let (item, key) = path.split_once("].")?;
        let (list, _) = item.split_once('[')?;
        Some(format!("{list}[{}].{key}", names.get(item)?))
    };
    effective
        .iter()
        .map(|effective| {
            let path = named(&effective.path).unwrap_or_else(|| effective.path.clone());
            (path, effective.value.as_str())
        })
        .collect()
}

/// Names of the items of lists, by the beginning of their paths, such as `routes[0`. Routes may share
/// a name: all but the first then have a number, so that none is taken for another.
fn item_names(effective: &[Effective]) -> BTreeMap<&str, String> {
    let (mut names, mut taken) = (BTreeMap::new(), BTreeSet::new());
    let mut last_numbers: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for effective in effective {
        let Some(item) = effective.path.strip_suffix("].name") else {
            continue;
        };
        let list = item.split_once('[').map_or(item, |(list, _)| list);
        let name = effective.value.trim_matches('"');
        let number = last_numbers.entry((list, name)).or_default();
        let unique = loop {
            *number += 1;
            let name = match *number {
                1 => name.to_owned(),
                number => format!("{name} ({number})"),
            };
            if taken.insert((list, name.clone())) {
                break name;
            }
        };
        names.insert(item, unique);
    }
    names
}

/// Digests of what is shown redacted, by path.
fn secrets(settings: &Settings) -> BTreeMap<String, [u8; 32]> {
    let digest = |secret: &[u8]| <[u8; 32]>::from(Sha256::digest(secret));
    let shared = (
        "SHARED_SECRET".to_owned(),
        digest(settings.origin.shared_secret.expose()),
    );
    let paths = by_path(&settings.effective);
    let tokens = settings.admin.tokens.iter().map(|token| {
        let file = format!("admin.tokens[{}].token_file", token.name);
        let path = match token.name.as_str() {
            "admin" if paths.contains_key("ADMIN_TOKEN") => "ADMIN_TOKEN".to_owned(),
            _ if paths.contains_key(&file) => file,
            name => format!("admin.tokens[{name}].token"),
        };
        (path, digest(token.secret.expose()))
    });
    let upstreams = settings.upstreams.iter().filter_map(|upstream| {
        let secret = upstream.own_secret()?;
        let item = format!("upstreams[{}]", upstream.name.0);
        let file = format!("{item}.secret_file");
        let path = match paths.contains_key(&file) {
            true => file,
            false => format!("{item}.secret"),
        };
        Some((path, digest(secret.expose())))
    });
    std::iter::once(shared)
        .chain(tokens)
        .chain(upstreams)
        .chain(header_values(settings))
        .collect()
}

/// Digests of the header values of routes, some of which are not shown. Routes of one name have one
/// path.
fn header_values(settings: &Settings) -> BTreeMap<String, [u8; 32]> {
    let mut digests: BTreeMap<String, Sha256> = BTreeMap::new();
    for route in &settings.routes {
        let Some(shape) = &route.shape else { continue };
        for (edited, edits) in [
            (Edited::Requests, &shape.request_headers),
            (Edited::Answers, &shape.response_headers),
        ] {
            let path = format!("routes[{}].{}", route.name, keys(edited).0);
            let digest = digests.entry(path).or_default();
            for (name, value) in &edits.set {
                digest.update(name.as_str());
                digest.update((value.len() as u64).to_be_bytes());
                digest.update(value.as_bytes());
            }
        }
    }
    let finished = digests.into_iter();
    finished
        .map(|(path, digest)| (path, digest.finalize().into()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, load};

    /// Settings of this file.
    fn settings(file: &str, variables: &[(&str, &str)]) -> Settings {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gateway.toml");
        std::fs::write(&path, file).unwrap();
        let secret = [("SHARED_SECRET", "changes-9f2c51d07be84a63")];
        let given = secret
            .iter()
            .filter(|(name, _)| !variables.iter().any(|(given, _)| given == name))
            .chain(variables);
        let environment: Environment = given.copied().collect();
        load(Some(&path), &environment).unwrap()
    }

    #[test]
    fn what_differs_is_named_by_its_path_and_items_by_their_names() {
        let token = "[[admin.tokens]]\nname = \"ci\"\nrole = \"admin\"\ntoken";
        let header = |value: &str| {
            format!("[[routes]]\nname = \"a\"\nset_request_headers = {{ X-Token = \"{value}\" }}")
        };
        let upstream = |secret: &str| {
            format!(
                "[[upstreams]]\nname = \"orders\"\ntargets = [\"http://h:1\"]\nsecret = \"{secret}\""
            )
        };
        for (before, after, wanted) in [
            ("", "# a comment", &[][..]),
            ("[auth]\nrealm = \"postern\"", "", &[]),
            ("", "[auth]\nrealm = \"a\"", &["auth.realm"]),
            ("", "[store]\nsnapshot = \"a\"", &["store.snapshot"]),
            (
                "[[routes]]\nname = \"b\"\npath = \"/b\"",
                "[[routes]]\nname = \"a\"\npath = \"/a\"\n[[routes]]\nname = \"b\"\npath = \"/b\"",
                &["routes[a]"],
            ),
            (
                "[[routes]]\nname = \"a\"\npath = \"/a\"\n[[routes]]\nname = \"b\"\npath = \"/b\"",
                "[[routes]]\nname = \"b\"\npath = \"/b\"\nscopes = [\"read\"]",
                &["routes[a]", "routes[b].scopes"],
            ),
            // Routes of one path have one name unless they are given others.
            (
                "[[routes]]\npath = \"/a\"\nmethods = [\"GET\"]\n[[routes]]\npath = \"/a\"",
                "[[routes]]\npath = \"/a\"\nmethods = [\"GET\"]\nscopes = [\"read\"]\n[[routes]]\npath = \"/a\"",
                &["routes[/a].scopes"],
            ),
            (
                "[[routes]]\npath = \"/a\"\nhosts = [\"h\"]\n[[routes]]\npath = \"/a\"",
                "[[routes]]\npath = \"/a\"\nhosts = [\"h\"]\n[[routes]]\npath = \"/a\"\nscopes = [\"read\"]",
                &["routes[/a (2)].scopes"],
            ),
            (
                "[[routes]]\npath = \"/a\"\nhosts = [\"h\"]\n[[routes]]\npath = \"/a\"",
                "[[routes]]\npath = \"/a\"\nhosts = [\"h\"]",
                &["routes[/a (2)]"],
            ),
            (
                &format!("{token} = \"changes-51d07be84a639f2c\""),
                &format!("{token} = \"changes-be84a639f2c51d07\""),
                &["admin.tokens[ci].token"],
            ),
            (
                &header("changes-one"),
                &header("changes-two"),
                &["routes[a].set_request_headers"],
            ),
            (
                &upstream("changes-51d07be84a639f2c"),
                &upstream("changes-be84a639f2c51d07"),
                &["upstreams[orders].secret"],
            ),
            (
                "[store]\nurl = \"postgres://keys:one@db/keys\"",
                "[store]\nurl = \"postgres://keys:two@db/keys\"",
                &["store.url"],
            ),
        ] {
            assert_eq!(
                changed(&settings(before, &[]), &settings(after, &[])),
                wanted,
                "{after}"
            );
        }
        let with = |secret| settings("", &[("SHARED_SECRET", secret)]);
        let (one, other) = (
            with("changes-51d07be84a639f2c"),
            with("changes-be84a639f2c51d07"),
        );
        assert_eq!(changed(&one, &other), ["SHARED_SECRET"]);
        assert_eq!(
            hash(&one.effective),
            hash(&other.effective),
            "no secret is in the hash"
        );
    }

    #[test]
    fn keys_of_an_issuer_differ_by_their_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let file = format!(
            "[[jwt.issuers]]\nname = \"corp\"\nissuer = \"corp\"\nany_audience = true\nsecret_file = {path:?}"
        );
        let with = |secret: &str| {
            std::fs::write(&path, secret).unwrap();
            settings(&file, &[])
        };
        let one = with("changes-51d07be84a639f2c51d07be84a639f2c");
        let same = with("changes-51d07be84a639f2c51d07be84a639f2c\n");
        let other = with("changes-be84a639f2c51d07be84a639f2c51d07");
        assert_eq!(changed(&one, &same), [""; 0]);
        assert_eq!(changed(&one, &other), ["jwt.issuers[corp].secret_file"]);
    }

    #[test]
    fn what_needs_a_restart_stays_as_it_runs() {
        let running = settings(
            "[listen]\nmax_connections = 7\n[store]\nsnapshot = \"a\"",
            &[],
        );
        let mut new = settings("[listen]\nmax_connections = 8\nkeep_alive = \"9s\"", &[]);
        let differ = changed(&running, &new);
        let held = crate::reload::hold(&mut new, &running, &differ);
        assert_eq!(held, ["listen.max_connections", "store.snapshot"]);
        assert_eq!(new.listen.max_connections, 7);
        assert_eq!(new.store.snapshot, Some("a".into()));
        let in_force = in_force(&new.effective, &running.effective, &held);
        let value = |path: &str| {
            let found = in_force.iter().find(|effective| effective.path == path);
            found.map(|effective| effective.value.as_str())
        };
        assert_eq!(value("listen.max_connections"), Some("7"));
        assert_eq!(value("store.snapshot"), Some("\"a\""));
        assert_eq!(value("listen.keep_alive"), Some("\"9s\""));
    }
}
