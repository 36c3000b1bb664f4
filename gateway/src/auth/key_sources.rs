//! [`KeySources`]: the places of a route that a key may come from. The one place that finds a key
//! in a request, and the one that removes it.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use actix_http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_http::uri::{InvalidUri, PathAndQuery};
use bytes::Bytes;
use thiserror::Error;

use crate::auth::Caller;
use crate::auth::demand::Denial;
use crate::auth::key_source::{KeySource, PLAIN_SUBPROTOCOL, Presented, Token};

/// Places that a key may come from: at least one, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySources {
    sources: Arc<[KeySource]>,
    headers: Arc<[HeaderName]>,
}

/// Why places are no set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidKeySources {
    /// Empty list.
    #[error("name one place at least, such as \"bearer\"")]
    Empty,
    /// A place stands there twice; the index of the second.
    #[error("this place stands in the list already")]
    Repeated(usize),
}

impl Default for KeySources {
    /// `Authorization: Bearer`.
    fn default() -> Self {
        Self {
            sources: Self::BEARER.into(),
            headers: [header::AUTHORIZATION].into(),
        }
    }
}

impl KeySources {
    /// The places of the default.
    pub const BEARER: &'static [KeySource] = &[KeySource::Bearer];

    /// Makes a set of `sources`.
    ///
    /// # Errors
    /// There is none, or one is there twice.
    pub fn new(sources: Vec<KeySource>) -> Result<Self, InvalidKeySources> {
        if sources.is_empty() {
            return Err(InvalidKeySources::Empty);
        }
        for (index, source) in sources.iter().enumerate() {
            if sources.iter().take(index).any(|earlier| earlier.is(source)) {
                return Err(InvalidKeySources::Repeated(index));
            }
        }
        let mut headers: Vec<HeaderName> = Vec::new();
        for name in sources.iter().filter_map(KeySource::header) {
            if !headers.contains(&name) {
                headers.push(name);
            }
        }
        Ok(Self {
            sources: sources.into(),
            headers: headers.into(),
        })
    }

    /// No place at all, for requests whose credential is none of ours and stays.
    #[must_use]
    pub fn none() -> &'static Self {
        static NONE: LazyLock<KeySources> = LazyLock::new(|| KeySources {
            sources: [].into(),
            headers: [].into(),
        });
        &NONE
    }

    /// These places and `Authorization: Bearer`, which is none of them.
    #[must_use]
    pub fn and_bearer(&self) -> Self {
        let sources = self.sources.iter().cloned().chain([KeySource::Bearer]);
        Self::new(sources.collect()).unwrap_or_else(|_| self.clone())
    }

    /// The same places, where requests have credentials that are no keys in further `headers`.
    #[must_use]
    pub fn beside(self, headers: &[HeaderName]) -> Self {
        let more = headers.iter().filter(|name| !self.headers.contains(name));
        let more: Vec<HeaderName> = more.cloned().collect();
        if more.is_empty() {
            return self;
        }
        Self {
            headers: [&self.headers[..], &more].concat().into(),
            sources: self.sources,
        }
    }

    /// The places in their order.
    #[must_use]
    pub fn as_slice(&self) -> &[KeySource] {
        &self.sources
    }

    /// Whether a key may come from `source`.
    #[must_use]
    pub fn contain(&self, source: &KeySource) -> bool {
        self.sources.iter().any(|one| one.is(source))
    }

    /// Headers that can carry a credential. Responses vary by them.
    #[must_use]
    pub fn headers(&self) -> &[HeaderName] {
        &self.headers
    }

    /// Those of these headers that carry a credential and nothing else.
    #[must_use]
    pub fn headers_of_keys_alone(&self) -> Vec<HeaderName> {
        let is_shared =
            |name: &&HeaderName| matches!(**name, header::COOKIE | header::SEC_WEBSOCKET_PROTOCOL);
        let names = self.headers.iter().filter(|name| !is_shared(name));
        names.cloned().collect()
    }

    /// Whether a key may stand in the query.
    #[must_use]
    pub fn read_query(&self) -> bool {
        let is_query = |source: &KeySource| matches!(source, KeySource::Query(_));
        self.sources.iter().any(is_query)
    }

    /// Whether a key may stand in `Authorization`.
    #[must_use]
    pub fn read_authorization(&self) -> bool {
        self.headers.contains(&header::AUTHORIZATION)
    }

    /// Removes the places of this set from a header. Returns the rest, byte for byte; `None` if
    /// nothing is left.
    #[must_use]
    pub fn strip<'v>(
        &self,
        name: &HeaderName,
        value: &'v HeaderValue,
    ) -> Option<Cow<'v, HeaderValue>> {
        if !self.headers.contains(name) {
            return Some(Cow::Borrowed(value));
        }
        let mut rest = Cow::Borrowed(value);
        let of_header = |source: &&KeySource| source.header().as_ref() == Some(name);
        for source in self.sources.iter().filter(of_header) {
            let stripped = match source.strip(rest.as_bytes())? {
                Cow::Borrowed(_) => continue,
                Cow::Owned(stripped) => Bytes::from(stripped),
            };
            // A part of a header value is one.
            rest = Cow::Owned(HeaderValue::from_maybe_shared(stripped).ok()?);
        }
        Some(rest)
    }

    /// Removes the places of this set from the target of a request; the rest stays, byte for byte.
    ///
    /// # Errors
    /// The rest is no target, which a part of one always is.
    pub fn strip_target(&self, target: &PathAndQuery) -> Result<PathAndQuery, InvalidUri> {
        let Some(query) = target.query().filter(|_| self.read_query()) else {
            return Ok(target.clone());
        };
        let mut rest = Some(Cow::Borrowed(query));
        for source in &*self.sources {
            rest = match rest {
                Some(Cow::Borrowed(rest)) => source.strip_query(rest),
                Some(Cow::Owned(rest)) => source
                    .strip_query(&rest)
                    .map(|rest| Cow::Owned(rest.into_owned())),
                None => None,
            };
        }
        match rest {
            Some(Cow::Borrowed(_)) => Ok(target.clone()),
            Some(Cow::Owned(rest)) => PathAndQuery::try_from(format!("{}?{rest}", target.path())),
            None => PathAndQuery::try_from(target.path()),
        }
    }

    /// Whether the client can take [`PLAIN_SUBPROTOCOL`], and a key may stand beside it.
    #[must_use]
    pub fn offer_plain_subprotocol(&self, headers: &HeaderMap) -> bool {
        if !self.sources.contains(&KeySource::Subprotocol) {
            return false;
        }
        let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
        let mut offers = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
        offers.any(|offer| offer.trim_ascii() == PLAIN_SUBPROTOCOL.as_bytes())
    }

    /// How to send a key, to complete "Send your key".
    #[must_use]
    pub fn instruction(&self) -> String {
        let ways: Vec<String> = self.sources.iter().map(KeySource::instruction).collect();
        ways.join(", or ")
    }
}

/// Where the credential of one request may stand.
#[derive(Clone, Copy)]
pub struct Credentials<'r> {
    /// Places of the route.
    pub sources: &'r KeySources,
    /// Headers of the request.
    pub headers: &'r HeaderMap,
    /// Query of the request.
    pub query: Option<&'r str>,
}

impl<'r> Credentials<'r> {
    /// Finds the key.
    ///
    /// # Errors
    /// There is none, it is in more than one place, or it cannot be decoded.
    pub fn find(&self) -> Result<Presented<'r>, Denial> {
        let mut found = None;
        for source in self.sources.as_slice() {
            if let Some(presented) = source.find(self.headers, self.query)? {
                if found.is_some() {
                    return Err(Denial::Twice);
                }
                found = Some(presented);
            }
        }
        found.ok_or(Denial::Missing)
    }

    /// The place that the key stands in, by its number among those of the route.
    #[must_use]
    pub fn place(&self) -> Option<usize> {
        let has_key = |source: &KeySource| {
            let found = source.find(self.headers, self.query);
            found.is_ok_and(|found| found.is_some())
        };
        match self.sources.as_slice() {
            [_] => Some(0),
            sources => sources.iter().position(has_key),
        }
    }

    /// The key or token that `caller` presented, as it stands there.
    #[must_use]
    pub fn of(&self, caller: &Caller) -> Option<Token<'r>> {
        let presented = self.find().ok()?;
        Some(match caller {
            Caller::Key(key) => presented.with_digest(key.digest()),
            Caller::Token(_) | Caller::Anonymous => presented.token,
        })
    }
}
