//! A `postgres:` URL with the parameters of libpq, as providers hand it out.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use sqlx::any::AnyConnectOptions;
use sqlx::postgres::PgConnectOptions;
use url::Url;
use zeroize::Zeroizing;

use crate::store::database_url::InvalidDatabaseUrl;

/// How long connecting may take when the URL does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest that `connect_timeout` may ask for.
const LONGEST_CONNECT_TIMEOUT: u64 = 60;

/// A server, or several of which one takes writes.
#[derive(Clone)]
pub(in crate::store) struct PostgresUrl {
    /// One URL a host, for the driver. They hold the password.
    pub(in crate::store) hosts: Vec<Zeroizing<String>>,
    /// What may be shown.
    pub(in crate::store) shown: String,
    /// How long connecting to one host may take.
    pub(in crate::store) connect_timeout: Duration,
    /// Whether a server that takes no writes is passed over.
    pub(in crate::store) wants_writes: bool,
    /// What in the URL has no effect, and why.
    pub(in crate::store) remarks: Vec<String>,
}

/// What a parameter does here.
enum Effect {
    /// The driver has it.
    Driver,
    /// It is read here.
    Ours(fn(&mut Reading, &str) -> Result<(), InvalidDatabaseUrl>),
    /// Only these values are taken, which say what is done anyway; and what is said of others.
    Only(&'static [&'static str], &'static str),
    /// Leaving it out changes nothing that matters.
    None(&'static str),
    /// Leaving it out would be unsafe, or something else than what was asked for.
    Refused(&'static str),
}

/// Every parameter of libpq (<https://www.postgresql.org/docs/current/libpq-connect.html>), and what poolers and other
/// drivers add.
#[rustfmt::skip]
const PARAMETERS: &[(&str, Effect)] = &[
    ("host", Effect::Ours(Reading::host)),
    ("hostaddr", Effect::Ours(Reading::hostaddr)),
    ("port", Effect::Ours(Reading::port)),
    ("dbname", Effect::Driver),
    ("user", Effect::Driver),
    ("password", Effect::Driver),
    ("options", Effect::Driver),
    ("application_name", Effect::Driver),
    ("sslmode", Effect::Ours(Reading::sslmode)),
    ("sslrootcert", Effect::Ours(Reading::sslrootcert)),
    ("sslcert", Effect::Driver),
    ("sslkey", Effect::Driver),
    ("channel_binding", Effect::Ours(Reading::channel_binding)),
    ("connect_timeout", Effect::Ours(Reading::connect_timeout)),
    ("target_session_attrs", Effect::Ours(Reading::target_session_attrs)),
    ("load_balance_hosts", Effect::Only(&["disable"], "disable: hosts are tried in their order")),
    ("client_encoding", Effect::Only(&["utf8", "utf-8", "unicode", "auto"], "UTF8")),
    ("sslnegotiation", Effect::Only(&["postgres"], "postgres: the driver asks the server first")),
    ("ssl_min_protocol_version", Effect::Only(&["TLSv1", "TLSv1.1", "TLSv1.2"], "TLSv1.2, which is the oldest that is spoken")),
    ("keepalives", Effect::None("the gateway has limits of its own, of a few seconds")),
    ("keepalives_idle", Effect::None("the gateway has limits of its own, of a few seconds")),
    ("keepalives_interval", Effect::None("the gateway has limits of its own, of a few seconds")),
    ("keepalives_count", Effect::None("the gateway has limits of its own, of a few seconds")),
    ("tcp_user_timeout", Effect::None("the gateway has limits of its own, of a few seconds")),
    ("fallback_application_name", Effect::None("the gateway has a name of its own")),
    ("sslcompression", Effect::None("TLS is never compressed")),
    ("sslsni", Effect::None("the name is always sent")),
    ("gssencmode", Effect::None("there is no GSSAPI; TLS encrypts")),
    ("krbsrvname", Effect::None("there is no GSSAPI")),
    ("gsslib", Effect::None("there is no GSSAPI")),
    ("gssdelegation", Effect::None("there is no GSSAPI")),
    ("pgbouncer", Effect::None("a pooler is recognised when it is met")),
    ("supa", Effect::None("the pooler does not need it")),
    ("connection_limit", Effect::None("the gateway opens few connections")),
    ("pool_timeout", Effect::None("the gateway has limits of its own")),
    ("schema", Effect::Refused("set it on the role: ALTER ROLE … SET search_path")),
    ("replication", Effect::Refused("the gateway needs a session for statements")),
    ("service", Effect::Refused("write the host, the user and the database into the URL")),
    ("passfile", Effect::Refused("write the password into the URL, or use DATABASE_URL_FILE")),
    ("sslpassword", Effect::Refused("sslkey must not be encrypted")),
    ("sslcrl", Effect::Refused("lists of revoked certificates are not read")),
    ("sslcrldir", Effect::Refused("lists of revoked certificates are not read")),
    ("sslcertmode", Effect::Refused("leave sslcert out, or set it")),
    ("ssl_max_protocol_version", Effect::Refused("TLS 1.2 and 1.3 are spoken")),
    ("requirepeer", Effect::Refused("the owner of the socket is not looked at")),
    ("require_auth", Effect::Refused("the driver takes what the server asks for")),
];

/// The names of the parameters that have an effect.
pub(in crate::store) fn accepted() -> String {
    let names: Vec<&str> = PARAMETERS
        .iter()
        .filter(|(_, effect)| matches!(effect, Effect::Driver | Effect::Ours(_) | Effect::Only(..)))
        .map(|(name, _)| *name)
        .collect();
    names.join(", ")
}

/// A URL that is being read.
#[derive(Default)]
struct Reading {
    /// Hosts and ports of the authority, replaced by those of the parameters.
    hosts: Vec<String>,
    ports: Vec<String>,
    sslmode: Option<String>,
    sslrootcert: Option<String>,
    channel_binding: bool,
    connect_timeout: Option<Duration>,
    wants_writes: bool,
    /// What the driver is given.
    kept: Vec<(String, Zeroizing<String>)>,
    remarks: Vec<String>,
}

impl PostgresUrl {
    pub(in crate::store) fn parse(text: &str, shown: String) -> Result<Self, InvalidDatabaseUrl> {
        let (before, authority, after) = split(text);
        let (credentials, places) = match authority.rsplit_once('@') {
            Some((credentials, places)) => (Some(credentials), places),
            None => (None, authority),
        };
        let mut reading = Reading::default();
        for place in places.split(',') {
            let (host, port) = host_and_port(place);
            reading.hosts.push(host.to_owned());
            reading.ports.push(port.to_owned());
        }
        // The driver's own parser for all but the hosts, of which it takes one.
        let credentials = credentials.map_or_else(String::new, |found| format!("{found}@"));
        let plain = Zeroizing::new(format!("{before}{credentials}host.invalid{after}"));
        let mut url: Url = plain.parse().map_err(|_| InvalidDatabaseUrl::Postgres)?;
        for (name, value) in url.clone().query_pairs() {
            reading.take(&name, &value)?;
        }
        url.set_query(None);
        url.set_fragment(None);
        reading.finish(&url, shown)
    }
}

/// The scheme with its slashes, the authority, and the rest.
fn split(text: &str) -> (&str, &str, &str) {
    let begin = text.find("//").map_or(text.len(), |at| at + 2);
    let (before, rest) = text.split_at(begin);
    // A password that was not encoded may hold a slash: the last `@` before the query ends it.
    let query = rest.find(['?', '#']).unwrap_or(rest.len());
    let at = rest[..query].rfind('@').map_or(0, |at| at + 1);
    let end = rest[at..]
        .find(['/', '?', '#'])
        .map_or(rest.len(), |end| at + end);
    let (authority, after) = rest.split_at(end);
    (before, authority, after)
}

/// `[::1]:5432` is a host and a port too.
fn host_and_port(place: &str) -> (&str, &str) {
    match place.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (place, ""),
    }
}

impl Reading {
    fn take(&mut self, name: &str, value: &str) -> Result<(), InvalidDatabaseUrl> {
        let row = PARAMETERS.iter().find(|(known, _)| *known == name);
        match row {
            Some((_, Effect::Driver)) => {
                self.kept
                    .push((name.to_owned(), Zeroizing::new(value.to_owned())));
                Ok(())
            }
            Some((_, Effect::Ours(read))) => read(self, value),
            Some((_, Effect::Only(values, _)))
                if values.iter().any(|only| only.eq_ignore_ascii_case(value)) =>
            {
                Ok(())
            }
            Some((name, Effect::Only(_, accepted))) => {
                Err(InvalidDatabaseUrl::ParameterValue(name, accepted))
            }
            Some((name, Effect::None(why))) => {
                self.remarks.push(format!("`{name}` has no effect: {why}"));
                Ok(())
            }
            Some((name, Effect::Refused(instead))) => {
                Err(InvalidDatabaseUrl::RefusedParameter(name, instead))
            }
            // Its name is not repeated: where a password holds a `?`, it is a part of it.
            None => Err(InvalidDatabaseUrl::UnknownParameter),
        }
    }

    fn host(&mut self, value: &str) -> Result<(), InvalidDatabaseUrl> {
        self.hosts = value.split(',').map(str::to_owned).collect();
        Ok(())
    }

    fn hostaddr(&mut self, value: &str) -> Result<(), InvalidDatabaseUrl> {
        if value
            .split(',')
            .all(|address| address.parse::<IpAddr>().is_ok())
        {
            self.host(value)
        } else {
            Err(InvalidDatabaseUrl::ParameterValue(
                "hostaddr",
                "an IP address",
            ))
        }
    }

    fn port(&mut self, value: &str) -> Result<(), InvalidDatabaseUrl> {
        self.ports = value.split(',').map(str::to_owned).collect();
        Ok(())
    }

    fn sslmode(&mut self, value: &str) -> Result<(), InvalidDatabaseUrl> {
        match value {
            "disable" | "allow" | "prefer" | "require" | "verify-ca" | "verify-full" => {
                self.sslmode = Some(value.to_owned());
                Ok(())
            }
            _ => Err(InvalidDatabaseUrl::ParameterValue(
                "sslmode",
                "disable, allow, prefer, require, verify-ca or verify-full",
            )),
        }
    }

    fn sslrootcert(&mut self, value: &str) -> Result<(), InvalidDatabaseUrl> {
        self.sslrootcert = Some(value.to_owned());
        Ok(())
    }

    fn channel_binding(&mut self, value: &str) -> Result<(), InvalidDatabaseUrl> {
        match value {
            "disable" | "prefer" => {
                let remark = "`channel_binding` has no effect: the driver has none";
                self.remarks.push(remark.to_owned());
                Ok(())
            }
            "require" => {
                self.channel_binding = true;
                Ok(())
            }
            _ => Err(InvalidDatabaseUrl::ParameterValue(
                "channel_binding",
                "disable, prefer or require",
            )),
        }
    }

    fn connect_timeout(&mut self, value: &str) -> Result<(), InvalidDatabaseUrl> {
        let seconds = value
            .parse()
            .ok()
            .filter(|seconds| (0..=LONGEST_CONNECT_TIMEOUT).contains(seconds));
        match seconds {
            // To libpq, zero is for ever. Here everything ends.
            Some(0) => {
                let remark = "`connect_timeout=0` has no effect: connecting always has a limit";
                self.remarks.push(remark.to_owned());
            }
            Some(seconds) => self.connect_timeout = Some(Duration::from_secs(seconds)),
            None => {
                return Err(InvalidDatabaseUrl::ParameterValue(
                    "connect_timeout",
                    "a whole number of seconds up to 60",
                ));
            }
        }
        Ok(())
    }

    fn target_session_attrs(&mut self, value: &str) -> Result<(), InvalidDatabaseUrl> {
        match value {
            "any" => {}
            "read-write" | "primary" => self.wants_writes = true,
            _ => {
                return Err(InvalidDatabaseUrl::ParameterValue(
                    "target_session_attrs",
                    "any, read-write or primary: the gateway writes",
                ));
            }
        }
        Ok(())
    }

    fn finish(mut self, url: &Url, shown: String) -> Result<PostgresUrl, InvalidDatabaseUrl> {
        let hosts = std::mem::take(&mut self.hosts);
        let several = hosts.len() > 1;
        let count_is_right = self.ports.len() == hosts.len() || self.ports.len() == 1;
        if !count_is_right {
            return Err(InvalidDatabaseUrl::ParameterValue(
                "port",
                "one, or one a host",
            ));
        }
        let urls = hosts.iter().enumerate().map(|(index, host)| {
            let port = self.ports.get(index).or(self.ports.first());
            self.url_of(url, host, port.map_or("", String::as_str))
        });
        Ok(PostgresUrl {
            hosts: urls.collect::<Result<_, _>>()?,
            shown,
            connect_timeout: self.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
            // Of several, which one the gateway follows must not be chance.
            wants_writes: self.wants_writes || several,
            remarks: self.remarks,
        })
    }

    fn url_of(
        &self,
        url: &Url,
        host: &str,
        port: &str,
    ) -> Result<Zeroizing<String>, InvalidDatabaseUrl> {
        let mut url = url.clone();
        let decoded = percent_decoded(host);
        let is_socket = decoded.starts_with('/');
        let bare = decoded.trim_start_matches('[').trim_end_matches(']');
        let is_near = is_socket
            || bare.is_empty()
            || bare.eq_ignore_ascii_case("localhost")
            || bare
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback());
        // Only an IPv6 address has colons. Else an `@` was left out, and what stands before is a user and a password.
        let address = bare.split('%').next().unwrap_or_default();
        if bare.contains(':') && !is_socket && address.parse::<Ipv6Addr>().is_err() {
            return Err(InvalidDatabaseUrl::Postgres);
        }
        let host_in_url = if is_socket || bare.is_empty() {
            "localhost"
        } else {
            host
        };
        url.set_host(Some(host_in_url))
            .map_err(|_| InvalidDatabaseUrl::Postgres)?;
        if !port.is_empty() {
            let port = port.parse().map_err(|_| InvalidDatabaseUrl::Postgres)?;
            url.set_port(Some(port))
                .map_err(|()| InvalidDatabaseUrl::Postgres)?;
        }
        let sslmode = self.sslmode_to(is_near)?;
        {
            let mut query = url.query_pairs_mut();
            if is_socket {
                query.append_pair("host", &decoded);
            }
            query.append_pair("sslmode", sslmode);
            if let Some(file) = self.sslrootcert.as_deref().filter(|file| *file != "system") {
                query.append_pair("sslrootcert", file);
            }
            for (name, value) in &self.kept {
                query.append_pair(name, value);
            }
            if self.kept.iter().all(|(name, _)| name != "application_name") {
                query.append_pair("application_name", "postern");
            }
        }
        let text = Zeroizing::new(String::from(url));
        // What the driver does not take is told now, and not when the first connection is made.
        let options: AnyConnectOptions = text.parse().map_err(|_| InvalidDatabaseUrl::Postgres)?;
        PgConnectOptions::try_from(&options).map_err(|_| InvalidDatabaseUrl::Postgres)?;
        Ok(text)
    }

    /// How TLS is spoken to a host. What is written down counts. Else a server on another machine must show a certificate:
    /// one that says that it speaks no TLS would be sent the password.
    fn sslmode_to(&self, is_near: bool) -> Result<&'static str, InvalidDatabaseUrl> {
        let system = self.sslrootcert.as_deref() == Some("system");
        Ok(match self.sslmode.as_deref() {
            // The proof that channel binding gives, the certificate gives too.
            Some("disable" | "allow" | "prefer") if self.channel_binding || system => {
                return Err(InvalidDatabaseUrl::ParameterValue(
                    "sslmode",
                    "require or more, where the server has to prove who it is",
                ));
            }
            _ if self.channel_binding || system => "verify-full",
            Some("disable") => "disable",
            Some("allow") => "allow",
            Some("prefer") => "prefer",
            // As libpq: with an authority to check, it is checked.
            Some("require") if self.sslrootcert.is_some() => "verify-ca",
            Some("require") => "require",
            Some("verify-ca") => "verify-ca",
            Some(_) => "verify-full",
            None if is_near => "prefer",
            None => "verify-full",
        })
    }
}

fn percent_decoded(text: &str) -> String {
    // The parser of queries undoes escapes; a plus would become a space, and stands in no path of a socket unescaped.
    url::form_urlencoded::parse(format!("h={}", text.replace('+', "%2B")).as_bytes())
        .next()
        .map_or_else(String::new, |(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests;
