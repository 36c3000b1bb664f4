//! Source of GitHub's public keys: a file, or GitHub itself.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::header::{ACCEPT, HOST, HeaderValue, USER_AGENT};
use actix_http::{Payload, RequestHead, StatusCode, Uri};
use futures_util::StreamExt as _;
use thiserror::Error;
use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, timeout};

use crate::leaks::github::{InvalidPublicKeys, NotFromGithub, Proof, PublicKeys};
use crate::proxy::OriginUrl;
use crate::proxy::origin_stream::OriginLimits;
use crate::proxy::pool::{OriginPool, OriginScheme, PoolSettings};
use crate::tls::origin::OriginTls;

/// Time that fetched keys are trusted.
const CACHE_LIFETIME: Duration = Duration::from_hours(1);
/// Shortest interval between fetches: reports with made-up identifiers must not cause a fetch each.
const MIN_FETCH_INTERVAL: Duration = Duration::from_secs(10);
/// Timeout of a fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of connecting, within [`FETCH_TIMEOUT`].
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Limits of the response; [`FETCH_TIMEOUT`] limits its duration.
const LIMITS: OriginLimits = OriginLimits {
    first_byte_timeout: Duration::ZERO,
    idle_timeout: Duration::ZERO,
    write_timeout: Duration::ZERO,
    head_bytes: 64 * 1024,
    fields: 96,
};
/// Maximum bytes of the document.
const MAX_BYTES: usize = 256 * 1024;
/// Maximum of reports read at once: their senders are not yet authenticated.
const MAX_CONCURRENT_REPORTS: usize = 4;

/// Location of the keys.
#[derive(Clone)]
pub enum KeySource {
    /// File, read again for each report.
    File(PathBuf),
    /// Server.
    Server(Box<KeyServer>),
}

/// Server that publishes the keys.
#[derive(Clone)]
pub struct KeyServer {
    origin: OriginUrl,
    path: Uri,
    tls: Option<OriginTls>,
}

/// The text is not a [`KeySource`].
#[derive(Debug, Error)]
pub enum InvalidKeySource {
    /// Not a URL.
    #[error(
        "this is not an address: write it like \"https://api.github.com/meta/public_keys/secret_scanning\""
    )]
    NotAUrl,
    /// Plain HTTP: an attacker on the way could forge keys, and with them reports.
    #[error("public keys are fetched over https; over http only from this machine itself")]
    Insecure,
    /// No CA certificates to verify the server with.
    #[error("{0}")]
    NoAuthorities(String),
}

/// The report cannot be checked, or is not authentic.
#[derive(Debug, Error)]
pub enum Unverified {
    /// No source is configured.
    #[error("no public keys are configured (leaks.github_keys)")]
    NotConfigured,
    /// Displaced by newer reports while it was arriving.
    #[error("{MAX_CONCURRENT_REPORTS} newer reports displaced it")]
    Busy,
    /// Not from GitHub.
    #[error(transparent)]
    NotFromGithub(#[from] NotFromGithub),
    /// The keys cannot be fetched at the moment.
    #[error("cannot get the public keys: {0}")]
    Unavailable(String),
}

/// Cache of GitHub's keys, one per thread that checks reports.
pub struct GithubKeys {
    source: Option<KeySource>,
    pool: OriginPool,
    fetched: Mutex<Fetched>,
    /// Reports being read, oldest first.
    permits: RefCell<VecDeque<Rc<Notify>>>,
}

/// Permit to read and check one report that names a key of GitHub's. A new report displaces the
/// oldest: GitHub itself is fast.
pub struct ReportPermit<'k> {
    keys: &'k GithubKeys,
    known: Arc<PublicKeys>,
    displaced: Rc<Notify>,
}

#[derive(Default)]
struct Fetched {
    keys: Arc<PublicKeys>,
    at: Option<Instant>,
    tried_at: Option<Instant>,
}

impl KeySource {
    /// Parses the path of a file or the address of a server.
    ///
    /// # Errors
    /// The problem with the address.
    pub fn parse(text: &str) -> Result<Self, InvalidKeySource> {
        if !text.contains("://") {
            return Ok(Self::File(text.into()));
        }
        let uri: Uri = text.parse().map_err(|_| InvalidKeySource::NotAUrl)?;
        let (Some(scheme), Some(authority), Some(path)) =
            (uri.scheme_str(), uri.authority(), uri.path_and_query())
        else {
            return Err(InvalidKeySource::NotAUrl);
        };
        let origin = OriginUrl::parse(&format!("{scheme}://{authority}"))
            .map_err(|_| InvalidKeySource::NotAUrl)?;
        let tls = match origin.target().scheme() {
            OriginScheme::Https => {
                let loaded = OriginTls::load(&Default::default());
                Some(loaded.map_err(|error| InvalidKeySource::NoAuthorities(error.to_string()))?)
            }
            OriginScheme::Http if is_loopback(authority.host()) => None,
            OriginScheme::Http => return Err(InvalidKeySource::Insecure),
        };
        let path = path
            .as_str()
            .parse()
            .map_err(|_| InvalidKeySource::NotAUrl)?;
        Ok(Self::Server(Box::new(KeyServer { origin, path, tls })))
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Server(server) => server.fmt(f),
        }
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl GithubKeys {
    /// Creates the cache over `source`. Must be called in the runtime that uses it.
    #[must_use]
    pub fn new(source: Option<KeySource>) -> Self {
        let tls = match &source {
            Some(KeySource::Server(server)) => server.tls.clone(),
            Some(KeySource::File(_)) | None => None,
        };
        let pool = OriginPool::new(PoolSettings {
            connect_timeout: CONNECT_TIMEOUT,
            limits: LIMITS,
            keep_alive: FETCH_TIMEOUT,
            lifetime: FETCH_TIMEOUT,
            dns_refresh: MIN_FETCH_INTERVAL,
            reuse: false,
            tls,
        });
        Self {
            source,
            pool,
            fetched: Mutex::default(),
            permits: RefCell::default(),
        }
    }

    /// Admits a report before any of it is read, if the key that it names is GitHub's.
    ///
    /// # Errors
    /// No source is configured, the key is unknown, or the keys cannot be fetched.
    pub async fn begin(&self, proof: &Proof<'_>) -> Result<ReportPermit<'_>, Unverified> {
        let source = self.source.as_ref().ok_or(Unverified::NotConfigured)?;
        let known = match source {
            KeySource::File(path) => Arc::new(read(path).await?),
            KeySource::Server(server) => self.fetched(server, proof.identifier()).await?,
        };
        if !known.has(proof.identifier()) {
            return Err(NotFromGithub::UnknownKey.into());
        }
        let displaced = Rc::new(Notify::new());
        let mut permits = self.permits.borrow_mut();
        if permits.len() >= MAX_CONCURRENT_REPORTS
            && let Some(longest) = permits.pop_front()
        {
            longest.notify_one();
        }
        permits.push_back(Rc::clone(&displaced));
        Ok(ReportPermit {
            keys: self,
            known,
            displaced,
        })
    }

    /// Returns the cached keys unless they are old or lack the key: GitHub rotates its keys.
    async fn fetched(
        &self,
        server: &KeyServer,
        identifier: &str,
    ) -> Result<Arc<PublicKeys>, Unverified> {
        let mut fetched = self.fetched.lock().await;
        let is_fresh = fetched.at.is_some_and(|at| at.elapsed() < CACHE_LIFETIME);
        if is_fresh && (fetched.keys.has(identifier) || fetched.tried_lately()) {
            return Ok(Arc::clone(&fetched.keys));
        }
        if fetched.tried_lately() {
            return Err(Unverified::Unavailable(
                "fetching them failed a moment ago".to_owned(),
            ));
        }
        fetched.tried_at = Some(Instant::now());
        let keys = timeout(FETCH_TIMEOUT, self.fetch(server)).await;
        let keys = keys.unwrap_or_else(|_| {
            Err(Unverified::Unavailable(format!(
                "no answer within {FETCH_TIMEOUT:?}"
            )))
        })?;
        fetched.keys = Arc::new(keys);
        fetched.at = Some(Instant::now());
        Ok(Arc::clone(&fetched.keys))
    }

    async fn fetch(&self, server: &KeyServer) -> Result<PublicKeys, Unverified> {
        let mut head = RequestHead::default();
        head.uri = server.path.clone();
        head.headers.insert(HOST, server.origin.host().clone());
        head.headers
            .insert(ACCEPT, HeaderValue::from_static("application/json"));
        // GitHub refuses requests without `User-Agent`.
        head.headers
            .insert(USER_AGENT, HeaderValue::from_static("postern"));
        let sent = self.pool.send(server.origin.target(), head, ()).await;
        let (head, payload) =
            sent.map_err(|error| Unverified::Unavailable(format!("{server}: {error}")))?;
        if head.status != StatusCode::OK {
            return Err(Unverified::Unavailable(format!(
                "{server} answers {}",
                head.status.as_u16()
            )));
        }
        let document = collect(payload)
            .await
            .ok_or_else(|| Unverified::Unavailable(format!("{server} broke off")))?;
        PublicKeys::parse(&document).map_err(|error| unreadable(&format!("{server}"), &error))
    }
}

impl ReportPermit<'_> {
    /// Runs `reading` to its end, unless newer reports displace it.
    ///
    /// # Errors
    /// The report was displaced.
    pub async fn read<T>(&self, reading: impl Future<Output = T>) -> Result<T, Unverified> {
        tokio::select! {
            biased;
            read = reading => Ok(read),
            () = self.displaced.notified() => Err(Unverified::Busy),
        }
    }

    /// Verifies that GitHub signed `body`.
    ///
    /// # Errors
    /// GitHub did not.
    pub fn verify(self, proof: &Proof<'_>, body: &[u8]) -> Result<(), NotFromGithub> {
        self.known.verify(proof, body)
    }
}

impl Drop for ReportPermit<'_> {
    fn drop(&mut self) {
        let mut permits = self.keys.permits.borrow_mut();
        permits.retain(|permit| !Rc::ptr_eq(permit, &self.displaced));
    }
}

impl Fetched {
    fn tried_lately(&self) -> bool {
        self.tried_at
            .is_some_and(|at| at.elapsed() < MIN_FETCH_INTERVAL)
    }
}

impl fmt::Display for KeyServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path)
    }
}

async fn read(path: &Path) -> Result<PublicKeys, Unverified> {
    let shown = path.display().to_string();
    let file = path.to_owned();
    let text = tokio::task::spawn_blocking(move || std::fs::read(file)).await;
    let text = text.map_err(std::io::Error::other).and_then(|read| read);
    let text = text.map_err(|error| Unverified::Unavailable(format!("{shown}: {error}")))?;
    PublicKeys::parse(&text).map_err(|error| unreadable(&shown, &error))
}

fn unreadable(place: &str, error: &InvalidPublicKeys) -> Unverified {
    Unverified::Unavailable(format!("{place}: {error}"))
}

/// Collects a body, unless it breaks off or exceeds the limit.
async fn collect(mut payload: Payload) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = payload.next().await {
        body.extend_from_slice(&chunk.ok()?);
        if body.len() > MAX_BYTES {
            return None;
        }
    }
    Some(body)
}

fn is_loopback(host: &str) -> bool {
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_file_or_a_server_that_can_be_believed() {
        for (text, wanted) in [
            ("github-keys.json", Ok("github-keys.json")),
            ("/etc/postern/keys.json", Ok("/etc/postern/keys.json")),
            (
                "http://127.0.0.1:8000/keys?a=b",
                Ok("http://127.0.0.1:8000/keys?a=b"),
            ),
            ("http://[::1]/", Ok("http://[::1]/")),
            ("http://localhost/keys", Ok("http://localhost/keys")),
            ("http://api.github.com/keys", Err("https")),
            ("http://127.0.0.1.example.org/", Err("https")),
            ("https://user@host/", Err("address")),
            ("ftp://host/", Err("address")),
            ("https://", Err("address")),
        ] {
            match (KeySource::parse(text), wanted) {
                (Ok(source), Ok(wanted)) => assert_eq!(source.to_string(), wanted),
                (Err(error), Err(wanted)) => {
                    assert!(error.to_string().contains(wanted), "{text}: {error}")
                }
                (source, _) => panic!("{text}: {source:?}"),
            }
        }
    }
}
