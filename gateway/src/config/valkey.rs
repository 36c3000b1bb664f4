//! `[valkey]`: the server through which gateways share their limits.

use std::path::Path;

use thiserror::Error;
use url::Url;
use zeroize::Zeroizing;

use crate::config::Environment;
use crate::config::reader::Reader;
use crate::config::value::{FilePath, Setting};
use crate::limits::fleet::{Server, ServerTls};
use crate::tls::pem;

/// Variable with the password, where the address is not to hold it.
pub(in crate::config) const PASSWORD: &str = "VALKEY_PASSWORD";

/// Address of a server.
#[derive(Clone)]
pub struct ServerUrl(Server);

/// The text is not the address of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidServerUrl {
    /// Not a URL with a host.
    #[error("it is not an address: {}", ServerUrl::ACCEPTED)]
    NotAnAddress,
    /// Another scheme.
    #[error("it begins with redis://, valkey://, rediss:// or valkeys://, the latter two for TLS")]
    Scheme,
    /// The path is no number.
    #[error("its path is the number of a database, such as /0")]
    Database,
    /// A query or a fragment.
    #[error("it has no query and no fragment; TLS is set by rediss:// and valkey.ca_file")]
    Rest,
}

impl ServerUrl {
    fn parse(text: &str) -> Result<Self, InvalidServerUrl> {
        let url = Url::parse(text).map_err(|_| InvalidServerUrl::NotAnAddress)?;
        let tls = match url.scheme() {
            "redis" | "valkey" => None,
            "rediss" | "valkeys" => Some(ServerTls::default()),
            _ => return Err(InvalidServerUrl::Scheme),
        };
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or(InvalidServerUrl::NotAnAddress)?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidServerUrl::Rest);
        }
        let database = match url.path() {
            "" | "/" => 0,
            path => path
                .strip_prefix('/')
                .and_then(|number| number.parse::<u16>().ok())
                .ok_or(InvalidServerUrl::Database)?,
        };
        let decoded = |text: &str| -> Result<String, InvalidServerUrl> {
            let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
            decoded
                .map(String::from)
                .map_err(|_| InvalidServerUrl::NotAnAddress)
        };
        let user = decoded(url.username())?;
        Ok(Self(Server {
            host: host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            port: url.port().unwrap_or(6379),
            database: database.into(),
            user: Some(user).filter(|user| !user.is_empty()),
            password: url.password().map(decoded).transpose()?.map(Zeroizing::new),
            tls,
            cluster: false,
        }))
    }
}

impl Setting for ServerUrl {
    const ACCEPTED: &'static str = "the address of a Valkey or Redis server, such as \"rediss://user@valkey.internal:6379/0\"; its password is better in VALKEY_PASSWORD";

    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|error| error.to_string())
    }

    /// Without the password.
    fn show(&self) -> String {
        let Server {
            database,
            user,
            tls,
            ..
        } = &self.0;
        let scheme = if tls.is_some() { "rediss" } else { "redis" };
        let user = user.as_ref().map_or(String::new(), |user| {
            let set = percent_encoding::NON_ALPHANUMERIC;
            format!("{}@", percent_encoding::utf8_percent_encode(user, set))
        });
        format!("\"{scheme}://{user}{}/{database}\"", self.0)
    }
}

/// Reads `[valkey]`; `None` if there is no server.
pub(super) fn read(reader: &mut Reader, environment: &Environment) -> Option<Server> {
    let password = environment.secret(PASSWORD, reader.problems());
    let password = password.filter(|password| !password.is_empty());
    if password.is_some() {
        let source = "the environment".to_owned();
        reader.note(PASSWORD, "\"[redacted]\"".to_owned(), source);
    }
    reader.section("valkey", |section| {
        let url = section.take_optional::<ServerUrl>("url");
        let cluster = section.take("cluster", false);
        let authorities = section.take_optional::<FilePath>("ca_file");
        let ServerUrl(mut server) = url?;
        server.cluster = cluster;
        if cluster && server.database != 0 {
            let message = "a cluster has only the database 0: leave the path out".to_owned();
            section.problem("url", "the settings of valkey", message);
        }
        if let Some(FilePath(file)) = authorities {
            match (&mut server.tls, read_authorities(&file)) {
                (_, Err(message)) => section.problem("ca_file", "its file", message),
                (Some(tls), Ok(pem)) => tls.authorities = Some(pem),
                (None, Ok(_)) => {
                    let message =
                        "it is of no use without TLS: write the address with rediss://".to_owned();
                    section.problem("ca_file", "the settings of valkey", message);
                }
            }
        }
        if let Some(password) = password {
            if server.password.is_some() {
                let message =
                    format!("its address has a password, and {PASSWORD} too: leave one out");
                section.problem("url", "the settings of valkey", message);
            }
            server.password = Some(password);
        }
        if server.user.is_some() && server.password.is_none() {
            let message = format!("its user has no password: set {PASSWORD}");
            section.problem("url", "the settings of valkey", message);
        }
        Some(server)
    })
}

fn read_authorities(file: &Path) -> Result<Vec<u8>, String> {
    pem::certificates(file).map_err(|error| error.to_string())?;
    std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_servers_are_read_and_shown_without_a_password() {
        for (text, shown) in [
            ("redis://valkey", "redis://valkey:6379/0"),
            ("redis://valkey:7000/3", "redis://valkey:7000/3"),
            ("rediss://u:hunter2@valkey/", "rediss://u@valkey:6379/0"),
            ("valkeys://:hunter2@[::1]:1", "rediss://[::1]:1/0"),
            (
                "valkey://a%40b:hunter2@10.0.0.1",
                "redis://a%40b@10.0.0.1:6379/0",
            ),
        ] {
            let url = ServerUrl::parse(text).unwrap();
            assert_eq!(url.show(), format!("\"{shown}\""), "{text}");
            let debug = format!("{:?}", url.0);
            assert!(!debug.contains("hunter2"), "{debug}");
        }
        let server = ServerUrl::parse("redis://a%40b:p%2Fw@h").unwrap().0;
        assert_eq!(server.user.as_deref(), Some("a@b"));
        assert_eq!(server.password.unwrap().as_str(), "p/w");
    }

    #[test]
    fn what_is_no_address_of_a_server_is_refused() {
        use InvalidServerUrl::{Database, NotAnAddress, Rest, Scheme};
        for (text, wanted) in [
            ("", NotAnAddress),
            ("valkey:6379x", NotAnAddress),
            ("http://valkey", Scheme),
            ("unix:///run/valkey.sock", Scheme),
            ("redis://", NotAnAddress),
            ("redis://valkey/zero", Database),
            ("redis://valkey/0/1", Database),
            ("redis://valkey/-1", Database),
            ("redis://valkey?db=1", Rest),
            ("rediss://valkey/0#insecure", Rest),
        ] {
            assert_eq!(ServerUrl::parse(text).err(), Some(wanted), "{text}");
        }
    }
}
