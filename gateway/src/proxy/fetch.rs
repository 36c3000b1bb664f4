//! [`Fetcher`]: gets small documents that others publish, such as public keys. Over `https` only,
//! except from this machine; follows no redirect, and believes no answer but 200.

use std::fmt;
use std::time::Duration;

use actix_http::header::{self, ACCEPT, HOST, HeaderMap, HeaderValue, USER_AGENT};
use actix_http::{Payload, RequestHead, StatusCode, Uri};
use futures_util::StreamExt as _;
use thiserror::Error;
use tokio::time::timeout;

use crate::proxy::OriginUrl;
use crate::proxy::origin_stream::OriginLimits;
use crate::proxy::pool::{OriginPool, OriginScheme, PoolSettings};
use crate::tls::origin::OriginTls;

/// Timeout of connecting, within the timeout of a fetch.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time after which a name is looked up again.
const DNS_REFRESH: Duration = Duration::from_secs(10);
/// Limits of the response; the timeout of the fetch limits its duration.
const LIMITS: OriginLimits = OriginLimits {
    first_byte_timeout: Duration::ZERO,
    idle_timeout: Duration::ZERO,
    write_timeout: Duration::ZERO,
    head_bytes: 64 * 1024,
    fields: 96,
};
/// Maximum bytes of a document.
pub const MAX_DOCUMENT_BYTES: usize = 256 * 1024;

/// Address of a document.
#[derive(Clone)]
pub struct DocumentUrl {
    origin: OriginUrl,
    path: Uri,
}

/// The text is not the address of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidDocumentUrl {
    /// Not a URL, or with a user or a fragment.
    #[error("this is not an address: write it like \"https://login.example.com/keys\"")]
    NotAUrl,
    /// Plain HTTP: an attacker on the way could forge what is fetched.
    #[error("public keys are fetched over https; over http only from this machine itself")]
    Insecure,
}

/// Gets documents, one connection each. Belongs to the runtime that made it.
pub struct Fetcher {
    pool: OriginPool,
    timeout: Duration,
}

/// A document, and what its server says about keeping it.
#[derive(Debug)]
pub struct Document {
    /// Its bytes.
    pub body: Vec<u8>,
    /// Its `ETag`.
    pub tag: Option<HeaderValue>,
    /// How long it may be kept, by `max-age` of `Cache-Control` (RFC 9111 section 5.2.2.1).
    pub max_age: Option<Duration>,
}

/// The document could not be fetched.
#[derive(Debug, Error)]
pub enum FetchError {
    /// No connection, or one that broke before the answer.
    #[error("{0}")]
    Unreachable(String),
    /// Not 200: no redirect is followed.
    #[error("it answers {0}")]
    Status(u16),
    /// More than [`MAX_DOCUMENT_BYTES`].
    #[error("its answer has more than {MAX_DOCUMENT_BYTES} bytes")]
    TooLarge,
    /// The answer ended early.
    #[error("its answer broke off")]
    BrokenOff,
    /// No whole answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

impl DocumentUrl {
    /// Parses an address.
    ///
    /// # Errors
    /// The problem with it.
    pub fn parse(text: &str) -> Result<Self, InvalidDocumentUrl> {
        let not_a_url = |_| InvalidDocumentUrl::NotAUrl;
        if text.contains('#') {
            return Err(InvalidDocumentUrl::NotAUrl);
        }
        let uri: Uri = text.parse().map_err(|_| InvalidDocumentUrl::NotAUrl)?;
        let (Some(scheme), Some(authority), Some(path)) =
            (uri.scheme_str(), uri.authority(), uri.path_and_query())
        else {
            return Err(InvalidDocumentUrl::NotAUrl);
        };
        let origin = OriginUrl::parse(&format!("{scheme}://{authority}")).map_err(not_a_url)?;
        let is_believed = match origin.target().scheme() {
            OriginScheme::Https => true,
            OriginScheme::Http => is_loopback(authority.host()),
        };
        if !is_believed {
            return Err(InvalidDocumentUrl::Insecure);
        }
        let path = path.as_str().parse();
        Ok(Self {
            origin,
            path: path.map_err(|_| InvalidDocumentUrl::NotAUrl)?,
        })
    }

    /// Whether its server is spoken to over TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.origin.target().scheme() == OriginScheme::Https
    }
}

impl fmt::Display for DocumentUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path)
    }
}

impl fmt::Debug for DocumentUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Fetcher {
    /// Creates a fetcher. `tls` is needed for documents at `https`; a fetch ends after `timeout`.
    #[must_use]
    pub fn new(tls: Option<OriginTls>, timeout: Duration) -> Self {
        let pool = OriginPool::new(PoolSettings {
            connect_timeout: CONNECT_TIMEOUT,
            limits: LIMITS,
            keep_alive: timeout,
            lifetime: timeout,
            dns_refresh: DNS_REFRESH,
            reuse: false,
            tls,
        });
        Self { pool, timeout }
    }

    /// Gets a document; `None` if it is still the one of `tag`.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn get(
        &self,
        url: &DocumentUrl,
        tag: Option<&HeaderValue>,
    ) -> Result<Option<Document>, FetchError> {
        let fetched = timeout(self.timeout, self.get_untimed(url, tag)).await;
        fetched.unwrap_or(Err(FetchError::Timeout(self.timeout)))
    }

    async fn get_untimed(
        &self,
        url: &DocumentUrl,
        tag: Option<&HeaderValue>,
    ) -> Result<Option<Document>, FetchError> {
        let mut head = RequestHead::default();
        head.uri = url.path.clone();
        head.headers.insert(HOST, url.origin.host().clone());
        head.headers
            .insert(ACCEPT, HeaderValue::from_static("application/json"));
        // Some servers refuse requests without `User-Agent`.
        head.headers
            .insert(USER_AGENT, HeaderValue::from_static("postern"));
        if let Some(tag) = tag {
            head.headers.insert(header::IF_NONE_MATCH, tag.clone());
        }
        let sent = self.pool.send(url.origin.target(), head, ()).await;
        let (head, payload) = sent.map_err(|error| FetchError::Unreachable(error.to_string()))?;
        match head.status {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if tag.is_some() => return Ok(None),
            status => return Err(FetchError::Status(status.as_u16())),
        }
        let body = collect(payload).await?;
        Ok(Some(Document {
            body,
            tag: head.headers.get(header::ETAG).cloned(),
            max_age: max_age(&head.headers),
        }))
    }
}

/// Collects a body, unless it breaks off or exceeds the limit.
async fn collect(mut payload: Payload) -> Result<Vec<u8>, FetchError> {
    let mut body = Vec::new();
    while let Some(chunk) = payload.next().await {
        body.extend_from_slice(&chunk.map_err(|_| FetchError::BrokenOff)?);
        if body.len() > MAX_DOCUMENT_BYTES {
            return Err(FetchError::TooLarge);
        }
    }
    Ok(body)
}

fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all(header::CACHE_CONTROL);
    let texts = lines.filter_map(|line| line.to_str().ok());
    let mut directives = texts.flat_map(|text| text.split(','));
    directives.find_map(|directive| {
        let (name, seconds) = directive.trim().split_once('=')?;
        let seconds = seconds.trim_matches('"').parse().ok()?;
        name.eq_ignore_ascii_case("max-age")
            .then(|| Duration::from_secs(seconds))
    })
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
    fn documents_are_fetched_from_servers_that_can_be_believed() {
        use InvalidDocumentUrl::{Insecure, NotAUrl};
        for (text, wanted) in [
            ("https://login.example.com/keys?a=b", None),
            ("https://login.example.com", None),
            ("http://127.0.0.1:8000/keys", None),
            ("http://[::1]/", None),
            ("http://localhost/keys", None),
            ("http://login.example.com/keys", Some(Insecure)),
            ("http://127.0.0.1.example.org/", Some(Insecure)),
            ("https://user@host/", Some(NotAUrl)),
            ("https://host/keys#a", Some(NotAUrl)),
            ("ftp://host/", Some(NotAUrl)),
            ("https://", Some(NotAUrl)),
            ("login.example.com/keys", Some(NotAUrl)),
            ("", Some(NotAUrl)),
        ] {
            assert_eq!(DocumentUrl::parse(text).err(), wanted, "{text}");
        }
    }

    #[test]
    fn the_age_of_a_document_is_read() {
        for (line, wanted) in [
            ("max-age=600", Some(600)),
            ("public, Max-Age=\"60\", must-revalidate", Some(60)),
            ("no-store", None),
            ("max-age=-1", None),
            ("s-maxage=5", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(line));
            let wanted = wanted.map(Duration::from_secs);
            assert_eq!(max_age(&headers), wanted, "{line}");
        }
    }
}
