//! Header rules. Towards the origin: removes hop-by-hop headers and all that only the gateway may
//! set, then sets the gateway's own. Towards the client: removes hop-by-hop headers and the secret.

use actix_http::RequestHead;
use actix_http::header::{self, HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use postern_shared::headers as names;
use zeroize::Zeroizing;

use crate::auth::Caller;
use crate::auth::key_sources::{Credentials, KeySources};
use crate::http::client_address::{ClientAddress, FORWARDED_FOR};
use crate::http::request_id::RequestId;
use crate::http::target::VIA;
use crate::keys::token::is_key_shaped;
use crate::keys::{KeyTable, Prefix};
use crate::proxy::presented_key::PresentedKey;
use crate::proxy::proxy_headers::ProxyHeaders;
use crate::proxy::secret_finder::SecretFinder;
use crate::proxy::trace_context;

static SHARED_SECRET: HeaderName = HeaderName::from_static(names::SHARED_SECRET);
static CONSUMER_ID: HeaderName = HeaderName::from_static(names::CONSUMER_ID);
static CONSUMER_USERNAME: HeaderName = HeaderName::from_static(names::CONSUMER_USERNAME);
static CONSUMER_CUSTOM_ID: HeaderName = HeaderName::from_static(names::CONSUMER_CUSTOM_ID);
static CONSUMER_GROUPS: HeaderName = HeaderName::from_static(names::CONSUMER_GROUPS);
static CONSUMER_METADATA: HeaderName = HeaderName::from_static(names::CONSUMER_METADATA);
static CREDENTIAL_IDENTIFIER: HeaderName = HeaderName::from_static(names::CREDENTIAL_IDENTIFIER);
static ANONYMOUS_CONSUMER: HeaderName = HeaderName::from_static(names::ANONYMOUS_CONSUMER);
/// Request id, in both directions.
pub static REQUEST_ID: HeaderName = HeaderName::from_static(names::REQUEST_ID);
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Whether the header is hop-by-hop (RFC 9110, section 7.6.1), or `Expect`, which the gateway meets
/// itself.
#[must_use]
pub fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "expect"
            | "http2-settings"
    )
}

/// Whether only the gateway may set the name, or some reader could confuse it with such a name:
/// CGI, WSGI and PHP fold other marks into `-`.
fn is_unsafe(name: &str) -> bool {
    !name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        || names::is_privileged(name)
}

/// Whether the header is set anew.
fn is_replaced(name: &str) -> bool {
    matches!(name, "content-length" | "host" | "x-request-id")
}

/// Input for the request headers of the origin, beside the client's.
pub struct ForOrigin<'a> {
    /// Shared secret.
    pub secret: &'a HeaderValue,
    /// Caller.
    pub caller: &'a Caller,
    /// Whether to send the consumer's metadata.
    pub forward_metadata: bool,
    /// `Host` for the origin.
    pub host: &'a HeaderValue,
    /// `Host` from the client.
    pub client_host: Option<&'a HeaderValue>,
    /// Scheme that the client used: `http` or `https`.
    pub scheme: &'a HeaderValue,
    /// Client and peer address.
    pub address: ClientAddress,
    /// Proxy headers that pass.
    pub proxy_headers: &'a ProxyHeaders,
    /// Places of the route that a key may come from; what stands there does not pass.
    pub key_sources: &'a KeySources,
    /// Query from the client.
    pub query: Option<&'a str>,
    /// Key prefix; no header that contains such a key passes.
    pub prefix: &'a Prefix,
    /// Key table; no header that contains a known foreign key passes.
    pub keys: &'a KeyTable,
    /// Request id.
    pub request_id: &'a RequestId,
}

/// Number of headers that the gateway adds, without those that replace a client's.
const OURS: usize = 10;

/// Allocates a head with room for the client's headers and ours, so that its map never grows.
/// `RequestHead::default()` always reserves 28 entries, 6.7 kB to clear per request.
pub fn head_with_room_beside(client: &HeaderMap) -> RequestHead {
    thread_local! {
        static EMPTY: RequestHead = {
            let mut head = RequestHead::default();
            head.headers = HeaderMap::new();
            head
        };
    }
    let mut head = EMPTY.with(Clone::clone);
    head.headers = HeaderMap::with_capacity(client.len_keys() + OURS);
    head
}

impl ForOrigin<'_> {
    /// Fills `headers` with the client's headers that pass and with ours.
    pub fn fill(&self, client: &mut HeaderMap, headers: &mut HeaderMap) {
        let mut chain = Vec::with_capacity(16);
        self.address.write_chain(client, &mut chain);
        let presented = self.foreign_key(client);
        let presented = PresentedKey::new(
            self.prefix,
            self.keys,
            presented.as_ref().map(|key| key.as_slice()),
        );
        let trusted = self.address.through_trusted_proxy;
        let forwarding = trusted.then(|| Forwarding::of(client, &presented));
        // Nominated headers go first, so that a nomination cannot remove what is set below.
        remove_nominated(client);
        // Moved into a map of the final size: the client's own would grow three times. Its
        // allocation stays for the worker's next request.
        let mut passing = None;
        for (name, value) in client.drain() {
            // Of several values of one name, only the first carries the name.
            if let Some(name) = name {
                let text = name.as_str();
                let stays = is_hop_by_hop(text)
                    || is_unsafe(text)
                    || is_replaced(text)
                    || self.proxy_headers.blocks(text, trusted);
                passing = (!stays).then_some(name);
            }
            if let Some(name) = &passing
                && let Some(value) = self.key_sources.strip(name, &value)
                && !presented.is_in(name, &value)
            {
                headers.append(name.clone(), value.into_owned());
            }
        }

        headers.insert(header::HOST, self.host.clone());
        headers.insert(SHARED_SECRET.clone(), self.secret.clone());
        set_identity(self.caller, self.forward_metadata, headers);
        headers.insert(REQUEST_ID.clone(), self.request_id.header_value());
        self.set_forwarding(headers, chain, forwarding.unwrap_or_default());
        headers.append(header::VIA, HeaderValue::from_static(VIA));
        trace_context::remove_malformed(headers);
    }

    /// The presented key, unless it has the form of our own, by which it is found anyway.
    fn foreign_key(&self, client: &HeaderMap) -> Option<Zeroizing<Vec<u8>>> {
        let credentials = Credentials {
            sources: self.key_sources,
            headers: client,
            query: self.query,
        };
        let presented = credentials.of(self.caller)?;
        (!is_key_shaped(&presented, self.prefix)).then(|| Zeroizing::new(presented.to_vec()))
    }

    fn set_forwarding(&self, headers: &mut HeaderMap, chain: Vec<u8>, trusted: Forwarding) {
        if let Ok(chain) = HeaderValue::from_maybe_shared(Bytes::from(chain)) {
            headers.insert(FORWARDED_FOR.clone(), chain);
        }
        headers.insert(
            FORWARDED_PROTO.clone(),
            trusted.proto.unwrap_or_else(|| self.scheme.clone()),
        );
        if let Some(host) = trusted.host.as_ref().or(self.client_host) {
            headers.insert(FORWARDED_HOST.clone(), host.clone());
        }
    }
}

/// Sets the identity headers, with the consumer's metadata if `with_metadata`.
pub fn set_identity(caller: &Caller, with_metadata: bool, headers: &mut HeaderMap) {
    match caller {
        Caller::Anonymous => {
            headers.insert(ANONYMOUS_CONSUMER.clone(), HeaderValue::from_static("true"));
        }
        Caller::Key(key) => {
            let consumer = key.consumer();
            let mut set = |name: &HeaderName, text: &str| match HeaderValue::from_str(text) {
                Ok(value) => drop(headers.insert(name.clone(), value)),
                // Names are validated before they are stored; an invalid one is omitted, never
                // altered.
                Err(_) => log::error!("{name} of consumer {} does not fit a header", consumer.id),
            };
            set(&CONSUMER_ID, consumer.id.as_str());
            set(&CONSUMER_USERNAME, consumer.name.as_str());
            set(&CREDENTIAL_IDENTIFIER, key.id().as_str());
            if let Some(custom_id) = consumer.custom_id {
                set(&CONSUMER_CUSTOM_ID, custom_id.as_str());
            }
            let scopes = key.scopes();
            if !scopes.is_empty() {
                set(&CONSUMER_GROUPS, &scopes.comma_separated());
            }
            if let (true, Some(metadata)) = (with_metadata, consumer.metadata) {
                set(
                    &CONSUMER_METADATA,
                    &URL_SAFE_NO_PAD.encode(metadata.as_str()),
                );
            }
        }
    }
}

/// Sets every identity header, empty where there is no value: a proxy that copies them by name then
/// overwrites what a client sent.
pub fn set_whole_identity(caller: &Caller, with_metadata: bool, headers: &mut HeaderMap) {
    for name in names::identity() {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(""));
    }
    set_identity(caller, with_metadata, headers);
}

/// Forwarding headers of a trusted proxy.
#[derive(Default)]
struct Forwarding {
    proto: Option<HeaderValue>,
    host: Option<HeaderValue>,
}

/// Hosts in `X-Forwarded-Host` of a trusted proxy; `None` for a value that is no text.
pub fn forwarded_hosts(headers: &HeaderMap) -> impl Iterator<Item = Option<&str>> {
    let hosts = headers.get(&FORWARDED_HOST).into_iter();
    let hosts = hosts.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    hosts.map(|host| str::from_utf8(host).ok().map(str::trim))
}

impl Forwarding {
    fn of(headers: &HeaderMap, presented: &PresentedKey<'_>) -> Self {
        Self {
            proto: headers
                .get(&FORWARDED_PROTO)
                .filter(|proto| matches!(proto.as_bytes(), b"http" | b"https"))
                .cloned(),
            host: headers
                .get(&FORWARDED_HOST)
                .filter(|host| !presented.is_in(&FORWARDED_HOST, host))
                .cloned(),
        }
    }
}

/// Turns the origin's headers into those for the client. Returns whether the shared secret was
/// among them, by header name or anywhere in a name or value.
pub fn for_client(headers: &mut HeaderMap, secret: &SecretFinder, request_id: &RequestId) -> bool {
    remove_nominated(headers);
    let mut leaked = false;
    headers.retain(|name, value| {
        let name = name.as_str();
        let hidden = names::is_hidden_from_clients(name);
        let in_name = secret.is_in(name.as_bytes());
        let leaks = in_name
            || hidden && names::is_privileged(name)
            || secret.is_in(value.as_bytes());
        // Logged once per response: a repetitive origin must not flood the log.
        if leaks && !leaked {
            let header = if in_name { "a header's name" } else { name };
            log::warn!(
                "request {}: the origin answered with the shared secret in {header:?}, which was removed",
                request_id.as_str()
            );
        }
        leaked |= leaks;
        !(leaks || hidden || is_hop_by_hop(name))
    });
    headers.insert(REQUEST_ID.clone(), request_id.header_value());
    leaked
}

/// Removes the headers that `Connection` nominates.
fn remove_nominated(headers: &mut HeaderMap) {
    if !headers.contains_key(header::CONNECTION) {
        return;
    }
    let nominated: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect();
    for name in nominated {
        headers.remove(name);
    }
}
