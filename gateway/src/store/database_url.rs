//! [`DatabaseUrl`]: which database, read once, never shown with its password.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use thiserror::Error;
use zeroize::Zeroizing;

/// Where the store is: `sqlite://PATH` (relative to the working directory, or absolute), or `postgres://…`.
///
/// Shown without user and password.
#[derive(Clone)]
pub struct DatabaseUrl(Kind);

#[derive(Clone)]
enum Kind {
    Sqlite(PathBuf),
    /// The whole URL, and what may be shown of it.
    Postgres(Zeroizing<String>, String),
}

/// What a [`DatabaseUrl`] names.
pub(super) enum Place<'u> {
    /// A file.
    Sqlite(&'u Path),
    /// A server, by the whole URL.
    Postgres(&'u str),
}

/// The parameters of a `postgres:` URL that have a meaning here.
const PARAMETERS: [&str; 12] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// Why a text is no [`DatabaseUrl`]. It does not repeat the text, which may hold a password.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidDatabaseUrl {
    /// Neither `sqlite:` nor `postgres:`.
    #[error("a database URL begins with `sqlite://` or `postgres://`")]
    Scheme,
    /// `sqlite://` and nothing after it.
    #[error("the database URL names no file; write for example `sqlite://data/gateway.db`")]
    NoPath,
    /// A database that nobody else could open.
    #[error(
        "a database in memory is private to one process: keys made on the command line would never reach the gateway"
    )]
    InMemory,
    /// `?` or `#` after the path.
    #[error("the database URL must not have parameters; the gateway sets what it needs itself")]
    Parameters,
    /// Not the form of a `postgres:` URL.
    #[error(
        "write `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with what is neither letter nor digit of user and password \
         percent-encoded"
    )]
    Postgres,
    /// A parameter of a `postgres:` URL that is not known.
    #[error(
        "a parameter of the database URL is not known; there are sslmode, sslrootcert, sslcert, sslkey, host, hostaddr, \
             port, dbname, user, password, application_name and options"
    )]
    UnknownParameter,
}

impl DatabaseUrl {
    /// The database when none is configured.
    pub const DEFAULT: &str = "sqlite://data/gateway.db";

    /// Reads a URL. The path is taken as it is written, without percent-decoding.
    pub fn parse(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        let (scheme, rest) = text.split_once(':').ok_or(InvalidDatabaseUrl::Scheme)?;
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        match scheme {
            "sqlite" => Self::sqlite(rest),
            "postgres" | "postgresql" => Self::postgres(text),
            _ => Err(InvalidDatabaseUrl::Scheme),
        }
    }

    /// What it names.
    pub(super) fn place(&self) -> Place<'_> {
        match &self.0 {
            Kind::Sqlite(path) => Place::Sqlite(path),
            Kind::Postgres(url, _) => Place::Postgres(url),
        }
    }

    /// What it names, with a whole path where it is a file: a relative one says nothing without its directory.
    pub(super) fn absolute(&self) -> String {
        match self.place() {
            Place::Sqlite(path) => std::path::absolute(path)
                .unwrap_or_else(|_| path.to_owned())
                .display()
                .to_string(),
            Place::Postgres(_) => self.to_string(),
        }
    }

    /// Whether it is a server that other machines may share.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self.0, Kind::Postgres(..))
    }

    fn postgres(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        let parameters = text
            .split_once('?')
            .map_or("", |(_, parameters)| parameters);
        let mut names = parameters
            .split('&')
            .map(|pair| pair.split('=').next().unwrap_or_default());
        if !names.all(|name| name.is_empty() || PARAMETERS.contains(&name)) {
            return Err(InvalidDatabaseUrl::UnknownParameter);
        }
        let options = text
            .parse::<PgConnectOptions>()
            .map_err(|_| InvalidDatabaseUrl::Postgres)?;
        // A password with `@` in it that is not encoded ends nobody knows where.
        let shown = match text.matches('@').count() {
            0 | 1 => format!("postgres://{}", without_secrets(&options)),
            _ => "postgres://…".to_owned(),
        };
        Ok(Self(Kind::Postgres(Zeroizing::new(text.to_owned()), shown)))
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

/// Host, port and the name of the database, as they were understood and where they are plain: a URL with a mark left out has
/// its password in any of them.
fn without_secrets(options: &PgConnectOptions) -> String {
    let is_plain = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/[:]".contains(&byte);
        text.bytes().all(plain)
    };
    let shown = |text: &str| {
        if is_plain(text) {
            text.to_owned()
        } else {
            "…".to_owned()
        }
    };
    let place = match options.get_port() {
        5432 => shown(options.get_host()),
        port => format!("{}:{port}", shown(options.get_host())),
    };
    match options.get_database() {
        Some(name) => format!("{place}/{}", shown(name)),
        None => place,
    }
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
            Kind::Postgres(_, shown) => f.write_str(shown),
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
                matches!(url.place(), Place::Sqlite(found) if found == Path::new(path)),
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
                "postgres://db/keys?sslmode=perhaps",
                InvalidDatabaseUrl::Postgres,
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
            let url = DatabaseUrl::parse(text).unwrap();
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
