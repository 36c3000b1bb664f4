//! Kinds of settings: the accepted texts of each, and its display.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::ServerName;

use crate::http::upgrade::UpgradeProtocol;
use crate::keys::AddressRange;
use crate::keys::address::ACCEPTED_RANGE;

/// Kind of value that a setting can have.
pub trait Setting: Sized {
    /// Description of the accepted texts, for error messages.
    const ACCEPTED: &'static str;

    /// Parses a value.
    ///
    /// # Errors
    /// Message with the problem and what is accepted.
    fn parse(text: &str) -> Result<Self, String>;

    /// Value as TOML.
    fn show(&self) -> String;
}

fn refuse<T: Setting>(text: &str) -> String {
    format!("{text:?} is not accepted here: {}", T::ACCEPTED)
}

impl Setting for SocketAddr {
    const ACCEPTED: &'static str = "an IP address and a port, such as \"127.0.0.1:8080\" or \"[::1]:8080\"; port 0 picks a free one";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| refuse::<Self>(text))
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Setting for AddressRange {
    const ACCEPTED: &'static str = ACCEPTED_RANGE;

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| refuse::<Self>(text))
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Setting for UpgradeProtocol {
    const ACCEPTED: &'static str =
        "a protocol as Upgrade names it, such as \"websocket\"; no version of HTTP or TLS";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| refuse::<Self>(text))
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Setting for bool {
    const ACCEPTED: &'static str = "true or false";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| refuse::<Self>(text))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for u64 {
    const ACCEPTED: &'static str = "a whole number that is not negative";

    fn parse(text: &str) -> Result<Self, String> {
        text.replace('_', "")
            .parse()
            .map_err(|_| refuse::<Self>(text))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// Positive number: workers, connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count(pub usize);

impl Setting for Count {
    const ACCEPTED: &'static str = "a whole number, 1 or more";

    fn parse(text: &str) -> Result<Self, String> {
        text.replace('_', "")
            .parse()
            .ok()
            .filter(|count| *count > 0)
            .map(Self)
            .ok_or_else(|| refuse::<Self>(text))
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

/// Generates a count with an upper limit, that of the HTTP parser.
macro_rules! bounded {
    ($($(#[$meta:meta])+ $name:ident: $most:literal, $accepted:literal;)+) => {$(
        $(#[$meta])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name(pub usize);

        impl Setting for $name {
            const ACCEPTED: &'static str = $accepted;

            fn parse(text: &str) -> Result<Self, String> {
                text.replace('_', "")
                    .parse()
                    .ok()
                    .filter(|count| (1..=$most).contains(count))
                    .map(Self)
                    .ok_or_else(|| refuse::<Self>(text))
            }

            fn show(&self) -> String {
                self.0.to_string()
            }
        }
    )+};
}

bounded! {
    /// Bytes of a head.
    HeadBytes: 131_072, "a number of bytes from 1 to 131072, the most that is read of a head";
    /// Header fields of a head.
    HeadFields: 96, "a whole number from 1 to 96, the most header fields that are read of a head";
    /// Concurrent streams of an HTTP/2 connection.
    Streams: 1_000, "a whole number from 1 to 1000";
}

/// Positive duration: nothing at this boundary waits for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Setting for Span {
    const ACCEPTED: &'static str =
        "a span of time from 1ms to 1day with its unit, such as \"500ms\", \"30s\" or \"2min\"";

    fn parse(text: &str) -> Result<Self, String> {
        let accepted = Duration::from_millis(1)..=Duration::from_hours(24);
        humantime::parse_duration(text)
            .ok()
            .filter(|span| accepted.contains(span))
            .map(Self)
            .ok_or_else(|| refuse::<Self>(text))
    }

    fn show(&self) -> String {
        format!("\"{}\"", humantime::format_duration(self.0))
    }
}

/// Duration in days, for retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days(pub Duration);

impl Setting for Days {
    const ACCEPTED: &'static str =
        "a span of time from 1day to 100years with its unit, such as \"90days\" or \"1year\"";

    fn parse(text: &str) -> Result<Self, String> {
        let day = Duration::from_hours(24);
        let accepted = day..=day * 36_525;
        humantime::parse_duration(text)
            .ok()
            .filter(|span| accepted.contains(span))
            .map(Self)
            .ok_or_else(|| refuse::<Self>(text))
    }

    fn show(&self) -> String {
        format!("\"{}\"", humantime::format_duration(self.0))
    }
}

/// Text for a quoted string in a header: visible ASCII and inner spaces, without quotes and
/// backslashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotableText(pub String);

impl Setting for QuotableText {
    const ACCEPTED: &'static str = "1 to 100 visible ASCII characters or spaces, without \" and \\";

    fn parse(text: &str) -> Result<Self, String> {
        let accepted = text
            .bytes()
            .all(|byte| (b' '..=b'~').contains(&byte) && !matches!(byte, b'"' | b'\\'));
        let accepted = accepted && (1..=100).contains(&text.len()) && text.trim() == text;
        accepted
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| refuse::<Self>(text))
    }

    fn show(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

/// Host of a route: a name or address in lower case, without port and trailing dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(pub String);

impl Setting for HostName {
    const ACCEPTED: &'static str =
        "a host name or an IP address without a port, such as \"api.example.com\"";

    fn parse(text: &str) -> Result<Self, String> {
        let address = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().ok());
        if let Some(address) = address {
            return Ok(Self(format!("[{address}]")));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_literal =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~');
        let accepted = name.len() <= 253
            && name
                .split('.')
                .all(|label| !label.is_empty() && label.bytes().all(is_literal));
        accepted
            .then(|| Self(name.to_ascii_lowercase()))
            .ok_or_else(|| refuse::<Self>(text))
    }

    fn show(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

/// File; its content is read with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePath(pub PathBuf);

impl Setting for FilePath {
    const ACCEPTED: &'static str = "the path of a file";

    fn parse(text: &str) -> Result<Self, String> {
        let accepted = !text.is_empty() && !text.chars().any(char::is_control);
        accepted
            .then(|| Self(text.into()))
            .ok_or_else(|| refuse::<Self>(text))
    }

    fn show(&self) -> String {
        format!("{:?}", self.0)
    }
}

/// Server name that an origin's certificate must contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateName(pub ServerName<'static>);

impl Setting for CertificateName {
    const ACCEPTED: &'static str = "a host name or an IP address, such as \"origin.internal\"";

    fn parse(text: &str) -> Result<Self, String> {
        ServerName::try_from(text.to_owned())
            .map(Self)
            .map_err(|_| refuse::<Self>(text))
    }

    fn show(&self) -> String {
        format!("\"{}\"", self.0.to_str())
    }
}

/// Implements [`Setting`] for a closed list of words.
macro_rules! words {
    ($type:ty { $($word:literal => $value:path),+ $(,)? } $accepted:literal) => {
        impl Setting for $type {
            const ACCEPTED: &'static str = $accepted;

            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok($value),)+
                    _ => Err(refuse::<Self>(text)),
                }
            }

            fn show(&self) -> String {
                match self {
                    $($value => concat!("\"", $word, "\"").to_owned(),)+
                }
            }
        }
    };
}

words!(crate::telemetry::access_log::Sink { "stdout" => Self::Stdout, "off" => Self::Off } "\"stdout\" or \"off\"");
words!(crate::telemetry::process_log::Format { "text" => Self::Text, "json" => Self::Json } "\"text\" or \"json\"");
words!(crate::proxy::upstream::Balance { "round_robin" => Self::RoundRobin, "least_connections" => Self::LeastConnections } "\"round_robin\" or \"least_connections\"");
words!(crate::http::rate_limit_fields::LimitFields { "draft-11" => Self::Draft11, "x-ratelimit" => Self::XRateLimit, "off" => Self::Off } "\"draft-11\", \"x-ratelimit\" or \"off\"");
words!(crate::limits::Mode { "local" => Self::Local, "split" => Self::Split, "shared" => Self::Shared } "\"shared\", \"split\" or \"local\"");
words!(crate::limits::OnOutage { "split" => Self::Split, "local" => Self::Local, "open" => Self::Open, "closed" => Self::Closed } "\"split\", \"local\", \"open\" or \"closed\"");
words!(crate::auth::jwt::OnConfirmation { "reject" => Self::Reject, "ignore" => Self::Ignore } "\"reject\" or \"ignore\"");
words!(crate::auth::jwt::OnUnknownConsumer { "reject" => Self::Reject, "allow" => Self::Allow } "\"reject\" or \"allow\"");
words!(crate::auth::demand::MissingKey { "reject" => Self::Reject, "anonymous" => Self::Anonymous } "\"reject\" or \"anonymous\"");

/// Implements [`Setting`] for types that parse themselves and whose errors describe what is
/// accepted.
macro_rules! parsed {
    ($($type:ty: $accepted:literal),+ $(,)?) => {$(
        impl Setting for $type {
            const ACCEPTED: &'static str = $accepted;

            fn parse(text: &str) -> Result<Self, String> {
                <$type>::parse(text).map_err(|error| format!("{error}"))
            }

            fn show(&self) -> String {
                format!("\"{self}\"")
            }
        }
    )+};
}

parsed! {
    crate::leaks::public_keys::KeySource: "the path of a file, or an address that begins with \"https://\"",
    crate::keys::Prefix: "2 to 12 lower-case letters and digits",
    crate::proxy::OriginUrl: "the address of an origin, such as \"http://127.0.0.1:9000\"",
    crate::http::health_path::HealthPath: "a path, such as \"/healthz\"",
    crate::http::self_path::SelfPath: "a path, such as \"/whoami\"",
    crate::proxy::upstream::health::HealthPath: "a path, such as \"/healthz\"",
    crate::http::cors::PageOrigin: "the origin of a page, such as \"https://app.example.com\", or \"*\" for every one",
    crate::http::cors::FieldName: "the name of a header, such as \"X-Page\", or \"*\" for every one",
    crate::routes::PathPrefix: "a path, such as \"/v1\"",
    crate::routes::MethodName: "a method of HTTP, such as \"GET\"",
}

impl Setting for crate::proxy::proxy_headers::ProxyHeader {
    const ACCEPTED: &'static str = "the name of a proxy header, such as \"CF-Connecting-IP\"";

    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text)
            .map_err(|error| format!("{text:?} {error}; accepted is {}", Self::ACCEPTED))
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Setting for crate::keys::Scope {
    const ACCEPTED: &'static str = "a scope, such as \"orders:read\"";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|error: crate::keys::scope::InvalidScope| error.to_string())
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Setting for crate::keys::BucketName {
    const ACCEPTED: &'static str = "the name of a bucket, such as \"partners\"";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|error: crate::keys::InvalidText| error.to_string())
    }

    fn show(&self) -> String {
        // JSON and TOML quote visible ASCII alike.
        serde_json::Value::from(self.as_str()).to_string()
    }
}

impl Setting for crate::store::DatabaseUrl {
    const ACCEPTED: &'static str =
        "the address of a database, such as \"sqlite://data/gateway.db\"";

    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|error| error.to_string())
    }

    /// Without the password.
    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}
