//! [`DatabaseUrl`]: a parsed database URL that never shows its password.

mod postgres;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

pub(super) use crate::store::database_url::postgres::PostgresUrl;

/// Location of the store: `sqlite://PATH` (relative to the working directory, or absolute), or
/// `postgres://…`.
///
/// Displayed without user and password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(Kind);

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Sqlite(PathBuf),
    Postgres(PostgresUrl),
}

/// Target of a [`DatabaseUrl`].
pub(super) enum Target<'u> {
    /// A file.
    Sqlite(&'u Path),
    /// A server.
    Postgres(&'u PostgresUrl),
}

/// Reason why a text is not a [`DatabaseUrl`]; never quotes the text, which may hold a password.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidDatabaseUrl {
    /// Neither `sqlite:` nor `postgres:`.
    #[error("a database URL begins with `sqlite://` or `postgres://`")]
    Scheme,
    /// `sqlite://` without a path.
    #[error("the database URL names no file; write for example `sqlite://data/gateway.db`")]
    NoPath,
    /// An in-memory database, private to one process.
    #[error(
        "a database in memory is private to one process: keys made on the command line would never reach the gateway"
    )]
    InMemory,
    /// `?` or `#` after the path.
    #[error("the database URL must not have parameters; the gateway sets what it needs itself")]
    Parameters,
    /// Malformed `postgres:` URL.
    #[error(
        "write `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with what is neither letter nor digit of user and password \
         percent-encoded"
    )]
    Postgres,
    /// Unknown parameter of a `postgres:` URL.
    #[error(
        "a parameter of the database URL is not known; there are {}",
        postgres::accepted()
    )]
    UnknownParameter,
    /// A libpq parameter that is unsafe to ignore.
    #[error("the parameter `{0}` of the database URL is not supported: {1}")]
    RefusedParameter(&'static str, &'static str),
    /// Refused value of a parameter.
    #[error("the parameter `{0}` of the database URL takes {1}")]
    ParameterValue(&'static str, &'static str),
}

impl DatabaseUrl {
    /// Default database.
    pub const DEFAULT: &str = "sqlite://data/gateway.db";

    /// Parses a URL. The path is taken literally, without percent-decoding.
    pub fn parse(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        let (scheme, rest) = text.split_once(':').ok_or(InvalidDatabaseUrl::Scheme)?;
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        match scheme {
            "sqlite" => Self::sqlite(rest),
            "postgres" | "postgresql" => Self::postgres(text, rest),
            _ => Err(InvalidDatabaseUrl::Scheme),
        }
    }

    /// Returns the target.
    pub(super) fn target(&self) -> Target<'_> {
        match &self.0 {
            Kind::Sqlite(path) => Target::Sqlite(path),
            Kind::Postgres(url) => Target::Postgres(url),
        }
    }

    /// Returns the file; `None` for a server.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match &self.0 {
            Kind::Sqlite(path) => Some(path),
            Kind::Postgres(_) => None,
        }
    }

    /// Returns the target with an absolute path: a relative one is meaningless without its
    /// directory.
    pub(super) fn absolute(&self) -> String {
        match self.target() {
            Target::Sqlite(path) => std::path::absolute(path)
                .unwrap_or_else(|_| path.to_owned())
                .display()
                .to_string(),
            Target::Postgres(_) => self.to_string(),
        }
    }

    /// Returns whether the database is a server that other machines may share.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self.0, Kind::Postgres(..))
    }

    /// Returns remarks for the log about parameters without effect.
    #[must_use]
    pub fn remarks(&self) -> &[String] {
        match &self.0 {
            Kind::Sqlite(_) => &[],
            Kind::Postgres(url) => &url.remarks,
        }
    }

    fn postgres(text: &str, rest: &str) -> Result<Self, InvalidDatabaseUrl> {
        let shown = format!("postgres://{}", without_secrets(rest));
        Ok(Self(Kind::Postgres(PostgresUrl::parse(text, shown)?)))
    }

    fn sqlite(path: &str) -> Result<Self, InvalidDatabaseUrl> {
        if path.contains(":memory:") || path.contains("mode=memory") {
            return Err(InvalidDatabaseUrl::InMemory);
        }
        if path.contains(['?', '#']) {
            return Err(InvalidDatabaseUrl::Parameters);
        }
        if path.is_empty() || path.contains('\0') {
            return Err(InvalidDatabaseUrl::NoPath);
        }
        Ok(Self(Kind::Sqlite(path.into())))
    }
}

/// Returns hosts, ports and database name if they are unambiguous: a missing delimiter can put the
/// password into any of them.
fn without_secrets(rest: &str) -> String {
    // An unencoded `@` in the password makes its end ambiguous.
    if rest.matches('@').count() > 1 {
        return "…".to_owned();
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let hosts = authority
        .rsplit_once('@')
        .map_or(authority, |(_, hosts)| hosts);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let shown = |text: &str, is_plain: bool| {
        if is_plain {
            text.to_owned()
        } else {
            "…".to_owned()
        }
    };
    let hosts = shown(hosts, hosts.split(',').all(is_plain_host));
    match path.strip_prefix('/') {
        Some(name) if !name.is_empty() => format!("{hosts}/{}", shown(name, is_plain(name))),
        _ => hosts,
    }
}

/// Returns whether the text is a host name or address with an optional numeric port.
fn is_plain_host(text: &str) -> bool {
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) if host.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') => {
            return port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        }
        _ => text
            .split_once(':')
            .map_or((text, None), |(host, port)| (host, Some(port))),
    };
    is_plain(host) && port.is_none_or(is_port)
}

fn is_plain(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

impl FromStr for DatabaseUrl {
    type Err = InvalidDatabaseUrl;

    fn from_str(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        Self::parse(text)
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Kind::Postgres(url) => f.write_str(&url.shown),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_relative_or_absolute() {
        for (text, path) in [
            ("sqlite://data/gateway.db", "data/gateway.db"),
            ("sqlite:data/gateway.db", "data/gateway.db"),
            (
                "sqlite:///var/lib/postern/gateway.db",
                "/var/lib/postern/gateway.db",
            ),
            ("sqlite://with space/100%.db", "with space/100%.db"),
        ] {
            let url = DatabaseUrl::parse(text).unwrap();
            assert!(
                matches!(url.target(), Target::Sqlite(found) if found == Path::new(path)),
                "{text}"
            );
        }
    }

    #[test]
    fn what_cannot_be_a_store_is_refused() {
        for (text, error) in [
            ("", InvalidDatabaseUrl::Scheme),
            ("data/gateway.db", InvalidDatabaseUrl::Scheme),
            ("mysql://localhost/keys", InvalidDatabaseUrl::Scheme),
            ("sqlite://", InvalidDatabaseUrl::NoPath),
            ("sqlite:", InvalidDatabaseUrl::NoPath),
            ("sqlite::memory:", InvalidDatabaseUrl::InMemory),
            ("sqlite://:memory:", InvalidDatabaseUrl::InMemory),
            ("sqlite://a.db?mode=memory", InvalidDatabaseUrl::InMemory),
            ("sqlite://a.db?mode=ro", InvalidDatabaseUrl::Parameters),
            ("sqlite://a\0.db", InvalidDatabaseUrl::NoPath),
            ("postgres://db:port/keys", InvalidDatabaseUrl::Postgres),
            (
                "postgres://keys:secretdb.internal:5433/keys",
                InvalidDatabaseUrl::Postgres,
            ),
            (
                "postgres://db/keys?host=keys:secretdb.internal",
                InvalidDatabaseUrl::Postgres,
            ),
            (
                "postgres://db/keys?sslmode=perhaps",
                InvalidDatabaseUrl::ParameterValue(
                    "sslmode",
                    "disable, allow, prefer, require, verify-ca or verify-full",
                ),
            ),
            (
                "postgres://db/keys?pasword=hunter2",
                InvalidDatabaseUrl::UnknownParameter,
            ),
        ] {
            assert_eq!(DatabaseUrl::parse(text).map(drop), Err(error), "{text:?}");
        }
    }

    #[test]
    fn credentials_are_never_shown() {
        for text in [
            "postgres://user:hunter2@db:5432/keys",
            "postgresql://user:p@ss/hunter2@db/keys",
            "postgresql://user:p@hunter2@db/keys",
            "postgres://db/keys?user=user&password=hunter2",
            "postgres://db/keys@user=user&password=hunter2",
            "postgres://db/keys&user=user&password=hunter2",
            "postgres://db/keys%3Fpassword=hunter2",
        ] {
            let Ok(url) = DatabaseUrl::parse(text) else {
                continue;
            };
            let shown = format!("{url} {url:?}");
            let is_clear = text.matches('@').count() <= 1;
            assert_eq!(shown.contains("db"), is_clear, "{shown}");
            assert!(
                !shown.contains("hunter2") && !shown.contains("user"),
                "{shown}"
            );
        }
    }
}
