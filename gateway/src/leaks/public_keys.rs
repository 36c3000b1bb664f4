//! Source of GitHub's public keys: a file, or GitHub itself.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use crate::leaks::github::{InvalidPublicKeys, NotFromGithub, Proof, PublicKeys};
use crate::proxy::fetch::{DocumentUrl, Fetcher, InvalidDocumentUrl};
use crate::tls::origin::OriginTls;

/// Time that fetched keys are trusted.
const CACHE_LIFETIME: Duration = Duration::from_hours(1);
/// Shortest interval between fetches: reports with made-up identifiers must not cause a fetch each.
const MIN_FETCH_INTERVAL: Duration = Duration::from_secs(10);
/// Timeout of a fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
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
    url: DocumentUrl,
    tls: Option<OriginTls>,
}

/// The text is not a [`KeySource`].
#[derive(Debug, Error)]
pub enum InvalidKeySource {
    /// Not the address of a document.
    #[error(transparent)]
    Url(#[from] InvalidDocumentUrl),
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
    fetcher: Fetcher,
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
        let url = DocumentUrl::parse(text)?;
        let tls = if url.is_https() {
            let loaded = OriginTls::load(&Default::default());
            Some(loaded.map_err(|error| InvalidKeySource::NoAuthorities(error.to_string()))?)
        } else {
            None
        };
        Ok(Self::Server(Box::new(KeyServer { url, tls })))
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
        Self {
            source,
            fetcher: Fetcher::new(tls, FETCH_TIMEOUT),
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
        let keys = self.fetch(server).await?;
        fetched.keys = Arc::new(keys);
        fetched.at = Some(Instant::now());
        Ok(Arc::clone(&fetched.keys))
    }

    async fn fetch(&self, server: &KeyServer) -> Result<PublicKeys, Unverified> {
        let unavailable =
            |error: &dyn fmt::Display| Unverified::Unavailable(format!("{server}: {error}"));
        let fetched = self.fetcher.get(&server.url, None).await;
        let document = fetched.map_err(|error| unavailable(&error))?;
        let document = document.map(|document| document.body).unwrap_or_default();
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
        self.url.fmt(f)
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
