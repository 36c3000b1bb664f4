//! A `postgres:` URL with libpq parameters, as providers issue it.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use sqlx::any::AnyConnectOptions;
use sqlx::postgres::PgConnectOptions;
use url::Url;
use zeroize::Zeroizing;

use crate::store::database_url::InvalidDatabaseUrl;

/// Default connection timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum of `connect_timeout`.
const LONGEST_CONNECT_TIMEOUT: u64 = 60;

/// A server, or several of which one is writable.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::store) struct PostgresUrl {
    /// One URL per host, for the driver. Contains the password.
    pub(in crate::store) hosts: Vec<Zeroizing<String>>,
    /// Text without credentials.
    pub(in crate::store) shown: String,
    /// Connection timeout per host.
    pub(in crate::store) connect_timeout: Duration,
    /// Whether to skip read-only servers.
    pub(in crate::store) wants_writes: bool,
    /// Remarks about parameters without effect.
    pub(in crate::store) remarks: Vec<String>,
}

/// Handling of a parameter.
enum Effect {
    /// Passed to the driver.
    Driver,
    /// Parsed here.
    Ours(fn(&mut Reading, &str) -> Result<(), InvalidDatabaseUrl>),
    /// Only these values, which match the actual behaviour; the text explains the refusal of
    /// others.
    Only(&'static [&'static str], &'static str),
    /// Ignored without harm.
    None(&'static str),
    /// Refused, because ignoring it would be unsafe or contrary to its purpose.
    Refused(&'static str),
}

/// Every parameter of libpq (<https://www.postgresql.org/docs/current/libpq-connect.html>), of
/// poolers and of other drivers.
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
    ("ssl_min_protocol_version", Effect::Only(&["TLSv1", "TLSv1.1", "TLSv1.2"], "TLSv1.2, the oldest supported version")),
    ("keepalives", Effect::None("the gateway has its own timeouts of a few seconds")),
    ("keepalives_idle", Effect::None("the gateway has its own timeouts of a few seconds")),
    ("keepalives_interval", Effect::None("the gateway has its own timeouts of a few seconds")),
    ("keepalives_count", Effect::None("the gateway has its own timeouts of a few seconds")),
    ("tcp_user_timeout", Effect::None("the gateway has its own timeouts of a few seconds")),
    ("fallback_application_name", Effect::None("the gateway sets its own name")),
    ("sslcompression", Effect::None("TLS is never compressed")),
    ("sslsni", Effect::None("the name is always sent")),
    ("gssencmode", Effect::None("there is no GSSAPI; TLS encrypts")),
    ("krbsrvname", Effect::None("there is no GSSAPI")),
    ("gsslib", Effect::None("there is no GSSAPI")),
    ("gssdelegation", Effect::None("there is no GSSAPI")),
    ("pgbouncer", Effect::None("a pooler is detected automatically")),
    ("supa", Effect::None("the pooler does not need it")),
    ("connection_limit", Effect::None("the gateway opens few connections")),
    ("pool_timeout", Effect::None("the gateway has its own timeouts")),
    ("schema", Effect::Refused("set it on the role: ALTER ROLE … SET search_path")),
    ("replication", Effect::Refused("the gateway needs a session for statements")),
    ("service", Effect::Refused("write the host, the user and the database into the URL")),
    ("passfile", Effect::Refused("write the password into the URL, or use DATABASE_URL_FILE")),
    ("sslpassword", Effect::Refused("sslkey must not be encrypted")),
    ("sslcrl", Effect::Refused("lists of revoked certificates are not read")),
    ("sslcrldir", Effect::Refused("lists of revoked certificates are not read")),
    ("sslcertmode", Effect::Refused("leave sslcert out, or set it")),
    ("ssl_max_protocol_version", Effect::Refused("TLS 1.2 and 1.3 are spoken")),
    ("requirepeer", Effect::Refused("the owner of the socket is not checked")),
    ("require_auth", Effect::Refused("the driver accepts the server's choice")),
];

/// Returns the names of the supported parameters.
pub(in crate::store) fn accepted() -> String {
    let names: Vec<&str> = PARAMETERS
        .iter()
        .filter(|(_, effect)| matches!(effect, Effect::Driver | Effect::Ours(_) | Effect::Only(..)))
        .map(|(name, _)| *name)
        .collect();
    names.join(", ")
}

/// Parser state.
#[derive(Default)]
struct Reading {
    /// Hosts and ports of the authority; replaced by those of the parameters.
    hosts: Vec<String>,
    ports: Vec<String>,
    sslmode: Option<String>,
    sslrootcert: Option<String>,
    channel_binding: bool,
    connect_timeout: Option<Duration>,
    wants_writes: bool,
    /// Parameters for the driver.
    kept: Vec<(String, Zeroizing<String>)>,
    remarks: Vec<String>,
}

impl PostgresUrl {
    pub(in crate::store) fn parse(text: &str, shown: String) -> Result<Self, InvalidDatabaseUrl> {
        let (before, authority, after) = split(text);
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (Some(credentials), hosts),
            None => (None, authority),
        };
        let mut reading = Reading::default();
        for host in hosts.split(',') {
            let (host, port) = host_and_port(host);
            reading.hosts.push(host.to_owned());
            reading.ports.push(port.to_owned());
        }
        // The driver's own parser for everything but the hosts, of which it takes only one.
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

/// Returns the scheme with its slashes, the authority, and the rest.
fn split(text: &str) -> (&str, &str, &str) {
    let begin = text.find("//").map_or(text.len(), |at| at + 2);
    let (before, rest) = text.split_at(begin);
    // An unencoded password may contain a slash: it ends at the last `@` before the query.
    let query = rest.find(['?', '#']).unwrap_or(rest.len());
    let at = rest[..query].rfind('@').map_or(0, |at| at + 1);
    let end = rest[at..]
        .find(['/', '?', '#'])
        .map_or(rest.len(), |end| at + end);
    let (authority, after) = rest.split_at(end);
    (before, authority, after)
}

/// Splits host and port, also of `[::1]:5432`.
fn host_and_port(text: &str) -> (&str, &str) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (text, ""),
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
            // The name is not quoted: after a `?` in the password it is a part of the password.
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
            // Zero means no timeout in libpq. Here every operation has one.
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
                    "any, read-write or primary: the gateway needs to write",
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
            // With several hosts, the choice must not depend on chance.
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
        // Only an IPv6 address has colons. Otherwise the `@` is missing, and the text before is
        // user and password.
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
        // Reports driver errors now instead of at the first connection.
        let options: AnyConnectOptions = text.parse().map_err(|_| InvalidDatabaseUrl::Postgres)?;
        PgConnectOptions::try_from(&options).map_err(|_| InvalidDatabaseUrl::Postgres)?;
        Ok(text)
    }

    /// Returns the TLS mode for a host. An explicit mode wins. Otherwise a remote server must
    /// present a certificate: one that claims not to support TLS would receive the password.
    fn sslmode_to(&self, is_near: bool) -> Result<&'static str, InvalidDatabaseUrl> {
        let system = self.sslrootcert.as_deref() == Some("system");
        Ok(match self.sslmode.as_deref() {
            // The certificate gives the same proof as channel binding.
            Some("disable" | "allow" | "prefer") if self.channel_binding || system => {
                return Err(InvalidDatabaseUrl::ParameterValue(
                    "sslmode",
                    "require or more, because the server must authenticate itself",
                ));
            }
            _ if self.channel_binding || system => "verify-full",
            Some("disable") => "disable",
            Some("allow") => "allow",
            Some("prefer") => "prefer",
            // As in libpq: verifies the certificate if an authority is given.
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
    // The query parser undoes escapes. A plus would become a space, and no socket path contains one
    // unescaped.
    url::form_urlencoded::parse(format!("h={}", text.replace('+', "%2B")).as_bytes())
        .next()
        .map_or_else(String::new, |(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests;
