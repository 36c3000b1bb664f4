//! Header rules. Towards the origin: removes hop-by-hop headers and all that only the gateway may
//! set, then sets the gateway's own. Towards the client: removes hop-by-hop headers and the secret.

use std::borrow::Cow;
use std::cell::LazyCell;
use std::ops::Deref;

use actix_http::Method;
use actix_http::header::{self, HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postern_shared::headers as names;

use crate::auth::Caller;
use crate::auth::jwt;
use crate::auth::key_sources::Credentials;
use crate::http::client_address::{ClientAddress, FORWARDED_FOR};
use crate::http::readings::is_plain;
use crate::http::request_id::RequestId;
use crate::http::target::{VIA, is_host};
use crate::keys::{FoundConsumer, KeyTable, KnownConsumer, Prefix, Scopes};
use crate::proxy::header_edits::HeaderEdits;
use crate::proxy::origin_head::{HeadWriter, OriginHead};
use crate::proxy::presented_key::PresentedKey;
use crate::proxy::proxy_headers::ProxyHeaders;
use crate::proxy::secret_finder::SecretFinder;
use crate::proxy::trace_context::TraceContext;

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
static FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

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
    /// Secret of the origin; without one it is sent no identity either.
    pub secret: Option<&'a [u8]>,
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
    /// Edits of the route.
    pub edits: Option<&'a HeaderEdits>,
    /// Path that was stripped from that of the request; empty for none.
    pub stripped: &'a str,
    /// Proxy headers that pass.
    pub proxy_headers: &'a ProxyHeaders,
    /// Headers that only rules of one's own set or read, in lower case.
    pub own_headers: &'a [HeaderName],
    /// Where the key of the request may stand; what stands there does not pass.
    pub credentials: Credentials<'a>,
    /// Headers that carry claims of tokens, in order; none of a client passes.
    pub claims: &'a [HeaderName],
    /// Key prefix; no header that contains such a key passes.
    pub prefix: &'a Prefix,
    /// Key table; no header that contains a known foreign key passes.
    pub keys: &'a KeyTable,
    /// Request id.
    pub request_id: &'a RequestId,
}

impl ForOrigin<'_> {
    /// Writes the head: what of the client's headers passes, ours, and the lines `own` of rules of
    /// one's own. `upgrade` is the protocol that the client may ask for.
    #[must_use]
    pub fn write(
        &self,
        method: &Method,
        path: &str,
        client: &HeaderMap,
        own: &[(HeaderName, HeaderValue)],
        upgrade: Option<&HeaderValue>,
    ) -> OriginHead {
        let mut head = OriginHead::begin(method, path, self.host);
        // Looked for once there is a header to search.
        let key = LazyCell::new(|| self.credentials.of(self.caller));
        let presented = LazyCell::new(|| PresentedKey::new(self.prefix, self.keys, key.as_deref()));
        let nominated = Nominated::by(client);
        let mut trace = TraceContext::default();
        for (name, value) in client {
            let is_edited = |edits: &HeaderEdits| edits.drop_lines_of(name);
            if self.is_kept_back(name.as_str())
                || nominated.has(name)
                || self.edits.is_some_and(is_edited)
            {
                continue;
            }
            match self.credentials.sources.strip(name, value) {
                Some(rest) if presented.is_in(name, &rest) => {}
                Some(Cow::Borrowed(value)) if trace.take(name, value) => {}
                Some(rest) => head.line(name, &rest),
                None => {}
            }
        }
        for (name, value) in trace.well_formed() {
            head.line(name, value);
        }

        for (name, value) in self.edits.into_iter().flat_map(|edits| &edits.set) {
            // A rule of one's own precedes a setting.
            if !self.own_headers.contains(name) {
                head.line(name, value);
            }
        }
        if let Some(secret) = self.secret {
            head.with(&SHARED_SECRET, |line| line.extend_from_slice(secret));
            write_identity(self.caller, self.forward_metadata, &mut head);
            for (name, value) in claims_of(self.caller) {
                head.line(name, value);
            }
        }
        for (name, value) in own {
            head.line(name, value);
        }
        head.with(&REQUEST_ID, |line| {
            line.extend_from_slice(self.request_id.as_bytes());
        });
        self.write_forwarding(client, &presented, &mut head);
        head.with(&header::VIA, |line| line.extend_from_slice(VIA.as_bytes()));
        if let Some(protocol) = upgrade {
            head.upgrade(protocol);
        }
        head.end()
    }

    /// Whether the client's header of this name stays here, whatever its value.
    fn is_kept_back(&self, name: &str) -> bool {
        let trusted = self.address.through_trusted_proxy;
        is_hop_by_hop(name)
            || is_unsafe(name)
            || is_replaced(name)
            || is_claim(name, self.claims)
            || !self.stripped.is_empty() && name == FORWARDED_PREFIX.as_str()
            || self.own_headers.iter().any(|own| own.as_str() == name)
            || self.proxy_headers.blocks(name, trusted)
    }

    /// Lines of `name` among the client's headers, as far as they pass.
    pub fn of_client<'c>(
        &self,
        client: &'c HeaderMap,
        name: &HeaderName,
    ) -> impl Iterator<Item = Cow<'c, [u8]>> {
        let is_kept_back = self.is_kept_back(name.as_str())
            || Nominated::by(client).has(name)
            || self.edits.is_some_and(|edits| edits.drop_lines_of(name));
        let lines = (!is_kept_back).then(|| self.without_keys(client, name));
        lines.into_iter().flatten()
    }

    /// Lines of `name` among the client's headers without the places of keys, and without those
    /// that have a key in them.
    pub fn without_keys<'c>(
        &self,
        client: &'c HeaderMap,
        name: &HeaderName,
    ) -> impl Iterator<Item = Cow<'c, [u8]>> {
        let presented = self.credentials.of(self.caller);
        let presented = PresentedKey::new(self.prefix, self.keys, presented.as_deref());
        let lines = client.get_all(name);
        let lines = lines.filter_map(|line| self.credentials.sources.strip(name, line));
        let passing = lines.filter(|rest| !presented.is_in(name, rest));
        let bytes = passing.map(|rest| match rest {
            Cow::Borrowed(rest) => Cow::Borrowed(rest.as_bytes()),
            Cow::Owned(rest) => Cow::Owned(rest.as_bytes().to_vec()),
        });
        bytes.collect::<Vec<_>>().into_iter()
    }

    fn write_forwarding<'p>(
        &self,
        client: &HeaderMap,
        presented: &impl Deref<Target = PresentedKey<'p>>,
        head: &mut HeadWriter,
    ) {
        let trusted = match self.address.through_trusted_proxy {
            true => Forwarding::of(client, presented),
            false => Forwarding::default(),
        };
        head.with(&FORWARDED_FOR, |line| {
            self.address.write_chain(client, line);
        });
        head.line(&FORWARDED_PROTO, trusted.proto.unwrap_or(self.scheme));
        if let Some(host) = trusted.host.or(self.client_host) {
            head.line(&FORWARDED_HOST, host);
        }
        if !self.stripped.is_empty() {
            let outer = self.outer_prefix(client, presented);
            head.with(&FORWARDED_PREFIX, |line| {
                line.extend_from_slice(outer);
                line.extend_from_slice(self.stripped.as_bytes());
            });
        }
    }

    /// Prefix that a proxy in front has stripped, if its word passes and is a plain path.
    fn outer_prefix<'c>(&self, client: &'c HeaderMap, presented: &PresentedKey<'_>) -> &'c [u8] {
        let trusted = self.address.through_trusted_proxy;
        let mut lines = client.get_all(&FORWARDED_PREFIX);
        match (lines.next(), lines.next()) {
            (Some(line), None)
                if !self
                    .proxy_headers
                    .blocks(FORWARDED_PREFIX.as_str(), trusted)
                    && !presented.is_in(&FORWARDED_PREFIX, line) =>
            {
                let prefix = line.as_bytes();
                let prefix = prefix.strip_suffix(b"/").unwrap_or(prefix);
                let is_path = prefix.starts_with(b"/") && is_plain(prefix);
                if is_path { prefix } else { b"" }
            }
            _ => b"",
        }
    }
}

/// Names and values of the identity headers, with the consumer's metadata if `with_metadata`. `set`
/// returns whether the value fits a header.
fn identity(
    caller: &Caller,
    with_metadata: bool,
    mut set: impl FnMut(&'static HeaderName, &str) -> bool,
) {
    match caller {
        Caller::Key(key) => {
            identity_of(&key.consumer(), key.id().as_str(), with_metadata, &mut set);
            scopes_of(&key.scopes(), &mut set);
        }
        Caller::Token(holder) => {
            let token = holder.token();
            let credential = format!("jwt:{}", token.issuer().name());
            match holder.consumer().map(FoundConsumer::known) {
                Some(consumer) => identity_of(&consumer, &credential, with_metadata, &mut set),
                None => {
                    if let Some(subject) = token.subject() {
                        set(&CONSUMER_USERNAME, &jwt::percent_encoded(subject));
                    }
                    set(&CREDENTIAL_IDENTIFIER, &credential);
                }
            }
            scopes_of(&holder.scopes(), &mut set);
        }
        Caller::Anonymous => {
            set(&ANONYMOUS_CONSUMER, "true");
        }
    }
}

/// The headers of a consumer with this credential.
fn identity_of(
    consumer: &KnownConsumer<'_>,
    credential: &str,
    with_metadata: bool,
    mut set: impl FnMut(&'static HeaderName, &str) -> bool,
) {
    let mut set = |name, text: &str| {
        // Names are validated before they are stored; an invalid one is omitted, never altered.
        if !set(name, text) {
            log::error!("{name} of consumer {} does not fit a header", consumer.id);
        }
    };
    set(&CONSUMER_ID, consumer.id.as_str());
    set(&CONSUMER_USERNAME, consumer.name.as_str());
    set(&CREDENTIAL_IDENTIFIER, credential);
    if let Some(custom_id) = consumer.custom_id {
        set(&CONSUMER_CUSTOM_ID, custom_id.as_str());
    }
    if let (true, Some(metadata)) = (with_metadata, consumer.metadata) {
        set(
            &CONSUMER_METADATA,
            &URL_SAFE_NO_PAD.encode(metadata.as_str()),
        );
    }
}

/// The header of the scopes of a credential.
fn scopes_of(scopes: &Scopes, mut set: impl FnMut(&'static HeaderName, &str) -> bool) {
    if !scopes.is_empty() {
        set(&CONSUMER_GROUPS, &scopes.comma_separated());
    }
}

/// Headers with the claims of the caller's token.
fn claims_of(caller: &Caller) -> &[(HeaderName, HeaderValue)] {
    match caller {
        Caller::Token(holder) => holder.token().forwarded(),
        Caller::Key(_) | Caller::Anonymous => &[],
    }
}

/// Whether the header, in lower case, is one of `claims`, the ordered names of those that carry
/// claims of tokens.
fn is_claim(name: &str, claims: &[HeaderName]) -> bool {
    !claims.is_empty()
        && claims
            .binary_search_by(|claim| claim.as_str().cmp(name))
            .is_ok()
}

fn write_identity(caller: &Caller, with_metadata: bool, head: &mut HeadWriter) {
    identity(caller, with_metadata, |name, text| head.text(name, text));
}

/// Sets every identity header and those of `claims`, empty where there is no value: a proxy that
/// copies them by name then overwrites what a client sent. Without a `caller` all are empty.
pub fn set_whole_identity(
    caller: Option<&Caller>,
    with_metadata: bool,
    claims: &[HeaderName],
    headers: &mut HeaderMap,
) {
    let of_identity = names::identity().map(HeaderName::from_static);
    for name in of_identity.chain(claims.iter().cloned()) {
        headers.insert(name, HeaderValue::from_static(""));
    }
    let Some(caller) = caller else { return };
    for (name, value) in claims_of(caller) {
        headers.insert(name.clone(), value.clone());
    }
    identity(caller, with_metadata, |name, text| {
        let value = HeaderValue::from_str(text);
        value.is_ok_and(|value| {
            headers.insert(name.clone(), value);
            true
        })
    });
}

/// Forwarding headers of a trusted proxy.
#[derive(Default)]
struct Forwarding<'a> {
    proto: Option<&'a HeaderValue>,
    host: Option<&'a HeaderValue>,
}

/// Hosts in `X-Forwarded-Host` of a trusted proxy; `None` for a value that is no text.
pub fn forwarded_hosts(headers: &HeaderMap) -> impl Iterator<Item = Option<&str>> {
    let hosts = headers.get(&FORWARDED_HOST).into_iter();
    let hosts = hosts.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    hosts.map(|host| str::from_utf8(host).ok().map(str::trim))
}

/// Scheme and host that the client used, as a trusted proxy names them.
#[must_use]
pub fn forwarded_base(headers: &HeaderMap, address: ClientAddress) -> (Option<&str>, Option<&str>) {
    if !address.through_trusted_proxy {
        return (None, None);
    }
    let scheme = headers.get(&FORWARDED_PROTO);
    let scheme = scheme.and_then(|scheme| scheme.to_str().ok());
    let mut hosts = forwarded_hosts(headers).flatten();
    let host = hosts.next().filter(|host| is_host(host.as_bytes()));
    (
        scheme.filter(|scheme| matches!(*scheme, "http" | "https")),
        host,
    )
}

impl<'a> Forwarding<'a> {
    fn of(headers: &'a HeaderMap, presented: &PresentedKey<'_>) -> Self {
        Self {
            proto: headers
                .get(&FORWARDED_PROTO)
                .filter(|proto| matches!(proto.as_bytes(), b"http" | b"https")),
            host: headers
                .get(&FORWARDED_HOST)
                .filter(|host| !presented.is_in(&FORWARDED_HOST, host)),
        }
    }
}

/// What becomes of a header of the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It reaches the client.
    Passes,
    /// It is between origin and gateway.
    Stays,
    /// It is of the guard; no client may see it.
    Hidden,
    /// It contains the shared secret.
    Leaks,
}

/// Decides on a header by `name`, in lower case, and value.
pub(super) fn fate(name: &str, value: &[u8], secret: &SecretFinder) -> Fate {
    let hidden = names::is_hidden_from_clients(name);
    if hidden && names::is_privileged(name) || secret.is_in(name.as_bytes()) || secret.is_in(value)
    {
        Fate::Leaks
    } else if hidden {
        Fate::Hidden
    } else if is_hop_by_hop(name) {
        Fate::Stays
    } else {
        Fate::Passes
    }
}

/// Turns the origin's headers into those for the client. Returns whether the shared secret was
/// among them, by header name or anywhere in a name or value.
pub fn for_client(headers: &mut HeaderMap, secret: &SecretFinder, request_id: &RequestId) -> bool {
    let nominated = Nominated::by(headers);
    let mut leaked = false;
    headers.retain(|name, value| {
        if nominated.has(name) {
            return false;
        }
        let name = name.as_str();
        let fate = fate(name, value.as_bytes(), secret);
        let leaks = fate == Fate::Leaks;
        // Logged once per response: a repetitive origin must not flood the log.
        if leaks && !leaked {
            let header = match secret.is_in(name.as_bytes()) {
                true => "a header's name",
                false => name,
            };
            log::warn!(
                "request {}: the origin answered with the shared secret in {header:?}, which was removed",
                request_id.as_str()
            );
        }
        leaked |= leaks;
        fate == Fate::Passes
    });
    headers.insert(REQUEST_ID.clone(), request_id.header_value());
    leaked
}

/// Names that `Connection` nominates, sorted.
struct Nominated(Vec<HeaderName>);

impl Nominated {
    fn by(headers: &HeaderMap) -> Self {
        static CONNECTION: HeaderName = header::CONNECTION;
        let lines = headers.get_all(&CONNECTION);
        let names = lines
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','))
            .map(str::trim)
            // Hop-by-hop in any case, and the usual one.
            .filter(|name| !name.eq_ignore_ascii_case("keep-alive"))
            .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok());
        let mut names: Vec<_> = names.collect();
        names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        Self(names)
    }

    fn has(&self, name: &HeaderName) -> bool {
        !self.0.is_empty()
            && self
                .0
                .binary_search_by(|nominated| nominated.as_str().cmp(name.as_str()))
                .is_ok()
    }
}

#[cfg(test)]
mod tests;
