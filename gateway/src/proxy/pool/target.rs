//! Where requests can be sent to, and what is spoken there.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{LazyLock, Mutex, PoisonError},
};

use http::{
    Uri,
    uri::{Authority, Scheme},
};

use crate::proxy::origin_stream::OriginLimits;

/// What is spoken to an origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OriginScheme {
    /// HTTP over TCP.
    #[default]
    Http,
    /// HTTP over TLS.
    Https,
}

impl fmt::Display for OriginScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// One place requests can be sent to. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OriginTarget {
    uri: Uri,
    pub(super) scheme: OriginScheme,
    pub(super) authority: Authority,
    /// Where the connections to `authority` are kept, the same for all targets of this one: a
    /// number is quicker to find.
    pub(super) slot: usize,
    address: Option<SocketAddr>,
    pub(super) limits: Option<OriginLimits>,
}

/// The slot of an authority.
fn slot(authority: &Authority) -> usize {
    static SLOTS: LazyLock<Mutex<HashMap<String, usize>>> = LazyLock::new(Mutex::default);
    let mut slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
    let next = slots.len();
    *slots
        .entry(authority.as_str().to_ascii_lowercase())
        .or_insert(next)
}

impl OriginTarget {
    /// An origin by host and port, over HTTP. Connections are shared by all targets of equal scheme
    /// and authority.
    pub fn new(authority: Authority) -> Self {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(authority.clone());
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
        // All three parts are there, which is all that can be wrong.
        let uri = Uri::from_parts(parts).unwrap_or_default();
        Self {
            uri,
            scheme: OriginScheme::default(),
            slot: slot(&authority),
            authority,
            address: None,
            limits: None,
        }
    }

    /// Speaks `scheme`, whose port is meant when the authority names none.
    #[must_use]
    pub fn over(mut self, scheme: OriginScheme) -> Self {
        self.scheme = scheme;
        self
    }

    /// What is spoken.
    pub fn scheme(&self) -> OriginScheme {
        self.scheme
    }

    /// Connects to this address in place of looking the host up.
    #[must_use]
    pub fn at(mut self, address: SocketAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Holds each exchange to these limits in place of the pool's.
    #[must_use]
    pub fn limited_by(mut self, limits: OriginLimits) -> Self {
        self.limits = Some(limits);
        self
    }

    pub(super) fn connect(&self) -> awc::Connect {
        awc::Connect {
            uri: self.uri.clone(),
            addr: self.address,
        }
    }

    /// Host and port.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }
}
