//! [`AdminClient`]: calls the admin API of a running gateway. Blocks; for commands only.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_shared::Secret;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::cli::healthcheck::{own_client, reachable};
use crate::config::Environment;
use crate::config::admin::AdminAccess;
use crate::config::public_url::PublicUrl;
use crate::config::value::Setting as _;
use crate::tls::origin::{OriginTls, OriginTlsFiles, server_name};

/// Variable with the address of the admin listener.
const URL_VARIABLE: &str = "ADMIN_URL";
/// Timeout of connecting, of each read, and of a whole call.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum bytes of an answer.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Where the admin API is. The token comes from the environment or from the settings, never from an
/// argument, which every process of the machine can read.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct AdminOptions {
    /// Address of the admin listener, such as https://10.0.0.1:8081 [default: $ADMIN_URL, or that
    /// of the settings]
    #[arg(long, value_name = "URL")]
    admin_url: Option<String>,
    /// Certificate authorities that may have signed its certificate, in PEM [default: those of the
    /// system]
    #[arg(long, value_name = "FILE")]
    admin_ca: Option<PathBuf>,
}

/// A call that got no answer.
#[derive(Debug, Error)]
pub enum CallError {
    /// No token.
    #[error(
        "there is no admin token: set ADMIN_TOKEN or ADMIN_TOKEN_FILE to that of the gateway, or name its settings with --config"
    )]
    NoToken,
    /// The address is not one.
    #[error("the address of the admin listener is not accepted: {0}")]
    Address(String),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// No answer.
    #[error("no answer from {address}: {cause}")]
    Unanswered {
        /// Scheme, host and port.
        address: String,
        /// Cause.
        cause: io::Error,
    },
    /// An answer of another form.
    #[error("the answer is not that of this version's admin API")]
    Unreadable,
    /// A refusal of the admin API.
    #[error("{0}")]
    Refused(Refusal),
}

/// A refusal of the admin API: its status, its code and its text with every single error.
#[derive(Debug)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Code of the problem; empty if the answer is not of the admin API.
    pub code: String,
    /// Explanation for people.
    pub detail: String,
    /// Single errors.
    pub errors: Vec<String>,
}

/// Client of one admin listener.
pub struct AdminClient {
    address: SocketAddr,
    /// Scheme, host and port, for messages.
    shown: String,
    host: String,
    token: Secret,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl AdminClient {
    /// Client of the listener that `options` or the environment name, else of that in the settings,
    /// whose certificate has to be the one in the settings.
    ///
    /// # Errors
    /// What is missing or not accepted.
    pub fn new(
        options: &AdminOptions,
        access: AdminAccess,
        environment: &Environment,
    ) -> Result<Self, CallError> {
        let token = access.token.ok_or(CallError::NoToken)?;
        let url = options
            .admin_url
            .clone()
            .or_else(|| environment.text(URL_VARIABLE));
        let Some(url) = url else {
            let address = reachable(access.door.address);
            let pairs = &access.door.certificates;
            let tls = if pairs.is_empty() {
                None
            } else {
                let config =
                    own_client(pairs).map_err(|error| CallError::Tls(error.to_string()))?;
                Some((Arc::new(config), ServerName::IpAddress(address.ip().into())))
            };
            let scheme = if tls.is_some() { "https" } else { "http" };
            return Ok(Self {
                address,
                shown: format!("{scheme}://{address}"),
                host: address.to_string(),
                token,
                tls,
            });
        };
        let url = PublicUrl::parse(&url).map_err(CallError::Address)?;
        let shown = url.origin().to_owned();
        let (is_tls, host) = match shown.strip_prefix("https://") {
            Some(host) => (true, host),
            None => (false, shown.strip_prefix("http://").unwrap_or_default()),
        };
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.ends_with(']'));
        let authority = match (has_port, is_tls) {
            (true, _) => host.to_owned(),
            (false, true) => format!("{host}:443"),
            (false, false) => format!("{host}:80"),
        };
        let address = authority.to_socket_addrs().and_then(|mut found| {
            found
                .next()
                .ok_or_else(|| io::Error::other("the name has no address"))
        });
        let address = address.map_err(|cause| CallError::Unanswered {
            address: shown.clone(),
            cause,
        })?;
        let tls = if is_tls {
            let files = OriginTlsFiles {
                authorities: options.admin_ca.clone(),
                ..OriginTlsFiles::default()
            };
            let tls = OriginTls::load(&files).map_err(|error| CallError::Tls(error.to_string()))?;
            let name = server_name(url.host())
                .ok_or_else(|| CallError::Address("its host is no name for TLS".to_owned()))?;
            Some((tls.client_config(), name))
        } else {
            None
        };
        Ok(Self {
            address,
            host: host.to_owned(),
            shown,
            token,
            tls,
        })
    }

    /// Calls an operation without a body and returns the JSON of its answer.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub fn call(&self, method: &str, path: &str) -> Result<Value, CallError> {
        self.request(method, path, None)
    }

    /// Calls an operation with `body` and returns the JSON of its answer.
    ///
    /// # Errors
    /// As of [`Self::call`].
    pub fn send(&self, method: &str, path: &str, body: &Value) -> Result<Value, CallError> {
        self.request(method, path, Some(body))
    }

    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, CallError> {
        let (status, body) =
            self.exchange(method, path, body)
                .map_err(|cause| CallError::Unanswered {
                    address: self.shown.clone(),
                    cause,
                })?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if (200..300).contains(&status) {
            return Ok(body);
        }
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let errors = body["errors"].as_array().into_iter().flatten();
        Err(CallError::Refused(Refusal {
            status,
            code: text("code"),
            detail: text("detail"),
            errors: errors
                .filter_map(|error| error["detail"].as_str().map(str::to_owned))
                .collect(),
        }))
    }

    fn exchange(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> io::Result<(u16, Vec<u8>)> {
        let request = self.written(method, path, body)?;
        let due = Instant::now() + CALL_TIMEOUT;
        let socket = TcpStream::connect_timeout(&self.address, CONNECT_TIMEOUT)?;
        socket.set_read_timeout(Some(CALL_TIMEOUT))?;
        socket.set_write_timeout(Some(CALL_TIMEOUT))?;
        match &self.tls {
            None => ask(socket, &request, due),
            Some((config, name)) => {
                let tls = ClientConnection::new(Arc::clone(config), name.clone());
                let tls = tls.map_err(io::Error::other)?;
                ask(StreamOwned::new(tls, socket), &request, due)
            }
        }
    }

    fn written(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> io::Result<Zeroizing<Vec<u8>>> {
        let mut request = Zeroizing::new(Vec::new());
        let (media_type, body) = match body {
            Some(body) => ("content-type: application/json\r\n", body.to_string()),
            None => ("", String::new()),
        };
        write!(
            request,
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n{media_type}authorization: Bearer ",
            self.host,
            body.len()
        )?;
        request.extend_from_slice(self.token.expose());
        request.extend_from_slice(b"\r\n\r\n");
        request.extend_from_slice(body.as_bytes());
        Ok(request)
    }
}

/// Writes `request` and reads the answer.
fn ask(mut io: impl Read + Write, request: &[u8], due: Instant) -> io::Result<(u16, Vec<u8>)> {
    io.write_all(request)?;
    io.flush()?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    loop {
        if Instant::now() > due {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if answer.len() > MAX_ANSWER_BYTES {
            return Err(io::Error::other("the answer is too long"));
        }
        if let Some(whole) = whole(&answer) {
            return Ok(whole);
        }
        match io.read(&mut buffer)? {
            0 => return Err(io::Error::other("no whole HTTP/1.1 answer")),
            read => answer.extend_from_slice(buffer.get(..read).unwrap_or_default()),
        }
    }
}

/// Status and body of an answer that is here in full. The admin listener gives the length of each.
fn whole(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = memchr::memmem::find(answer, b"\r\n\r\n")?;
    let (head, rest) = answer.split_at(end);
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split("\r\n");
    let status = lines
        .next()?
        .strip_prefix("HTTP/1.1 ")?
        .get(..3)?
        .parse()
        .ok()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    });
    let body = rest.get(4..)?.get(..length.unwrap_or(0))?;
    Some((status, body.to_vec()))
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            status,
            code,
            detail,
            errors,
        } = self;
        match code.as_str() {
            "" => write!(
                f,
                "the answer is {status}: this is not the admin API of a gateway"
            )?,
            "admin_disabled" => write!(
                f,
                "the gateway has no admin token, so its admin API is off: set ADMIN_TOKEN there"
            )?,
            code => write!(f, "{detail} ({status} {code})")?,
        }
        errors.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_last_byte() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx: y\r\n\r\n{}";
        for length in 0..answer.len() {
            assert_eq!(whole(&answer[..length]), None, "{length}");
        }
        assert_eq!(whole(answer), Some((200, b"{}".to_vec())));
        assert_eq!(
            whole(b"HTTP/1.1 204 No Content\r\n\r\n"),
            Some((204, Vec::new()))
        );
        assert_eq!(whole(b"HTTP/1.0 200 OK\r\n\r\n"), None);
        assert_eq!(whole(b"SSH-2.0\r\n\r\n"), None);
    }
}
