//! Pages of other origins (CORS; WHATWG Fetch, section 3.3): which may call, and the headers that
//! tell a browser so. The gateway answers preflights itself; they carry no key.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix_http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_http::{Method, RequestHead};
use thiserror::Error;

use crate::http::target::{KNOWN_METHODS, is_host};

/// Headers of the gateway's own that pages may read, on every answer of a route with CORS.
const OWN_EXPOSED: [&str; 9] = [
    "x-request-id",
    "retry-after",
    "ratelimit",
    "ratelimit-policy",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "deprecation",
    "sunset",
];

/// Headers of the protocol in answers. Those of an origin are replaced.
static ANSWERS: [HeaderName; 6] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
];

/// What answers vary by.
static VARY: [HeaderName; 1] = [header::ORIGIN];
/// What answers to preflights vary by.
static VARY_OF_PREFLIGHTS: [HeaderName; 3] = [
    header::ORIGIN,
    header::ACCESS_CONTROL_REQUEST_METHOD,
    header::ACCESS_CONTROL_REQUEST_HEADERS,
];

/// Origin of a page, as browsers send it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageOrigin {
    /// Every one.
    Any,
    /// This one: scheme, host and port.
    Exact(String),
}

/// Why a text is no origin of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotAnOrigin {
    /// The origin of sandboxed pages and of files.
    #[error(
        "\"null\" is the origin of every sandboxed page and every local file: name the page's own, such as \"https://app.example.com\""
    )]
    Null,
    /// A path, a query or a slash at the end.
    #[error("an origin ends with its host and port: leave out the path and the slash")]
    Path,
    /// The port of the scheme, which browsers leave out.
    #[error("browsers leave out port 80 of http and port 443 of https: leave it out here too")]
    DefaultPort,
    /// A port with zeros in front, which browsers never send.
    #[error(
        "browsers write a port without zeros in front, such as \":5173\": leave them out here too"
    )]
    ZerosInPort,
    /// Something else.
    #[error(
        "this is no origin of a page: such as \"https://app.example.com\" or \"http://localhost:5173\", or \"*\" for every one"
    )]
    Malformed,
}

impl PageOrigin {
    /// Parses an origin; case makes no difference.
    ///
    /// # Errors
    /// What browsers would never send.
    pub fn parse(text: &str) -> Result<Self, NotAnOrigin> {
        let text = text.to_ascii_lowercase();
        match text.as_str() {
            "*" => return Ok(Self::Any),
            "null" => return Err(NotAnOrigin::Null),
            _ => {}
        }
        let (scheme, authority) = text.split_once("://").ok_or(NotAnOrigin::Malformed)?;
        let of_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if !scheme.starts_with(|c: char| c.is_ascii_lowercase()) || !scheme.bytes().all(of_scheme) {
            return Err(NotAnOrigin::Malformed);
        }
        if authority.contains(['/', '?', '#']) {
            return Err(NotAnOrigin::Path);
        }
        if !is_host(authority.as_bytes()) || authority.ends_with([':', '.']) {
            return Err(NotAnOrigin::Malformed);
        }
        // The end of an IPv6 address is no number: it has a bracket.
        let port = authority.rsplit_once(':').map(|(_, port)| port);
        match (scheme, port.and_then(|port| port.parse::<u16>().ok())) {
            ("http", Some(80)) | ("https", Some(443)) => return Err(NotAnOrigin::DefaultPort),
            (_, Some(number)) if port != Some(number.to_string().as_str()) => {
                return Err(NotAnOrigin::ZerosInPort);
            }
            _ => {}
        }
        Ok(Self::Exact(text))
    }
}

impl fmt::Display for PageOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "*",
            Self::Exact(origin) => origin,
        })
    }
}

/// Name of a header that pages may send or read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldName {
    /// Every one.
    Any,
    /// This one.
    Exact(HeaderName),
}

/// Why a text is no header name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("this is no header name, such as \"X-Page\", and not \"*\" for every one")]
pub struct NotAField;

impl FieldName {
    /// Parses a header name or `*`.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, NotAField> {
        let is_literal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        match text {
            "*" => Ok(Self::Any),
            text if text.bytes().all(is_literal) => HeaderName::from_bytes(text.as_bytes())
                .map(Self::Exact)
                .map_err(|_| NotAField),
            _ => Err(NotAField),
        }
    }

    fn is(&self, name: &HeaderName) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(own) => own == name,
        }
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "*",
            Self::Exact(name) => name.as_str(),
        })
    }
}

/// What pages may do, as settings have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorsSettings {
    /// Origins of pages; none switches CORS off.
    pub origins: Vec<PageOrigin>,
    /// Methods; none means those of the route.
    pub methods: Vec<Method>,
    /// Request headers, beside those that keys come in.
    pub headers: Vec<FieldName>,
    /// Response headers that pages may read, beside the gateway's own.
    pub exposed_headers: Vec<FieldName>,
    /// Whether pages may send cookies and other credentials of the browser.
    pub credentials: bool,
    /// How long a browser may keep the answer to a preflight.
    pub max_age: Duration,
}

/// What pages may do on one route.
#[derive(Debug, Clone)]
pub struct Cors {
    origins: Vec<PageOrigin>,
    methods: Vec<Method>,
    headers: Vec<FieldName>,
    credentials: bool,
    exposed: HeaderValue,
    max_age: HeaderValue,
}

impl Cors {
    /// Applies `settings` to a route with these methods (all, if there are none) whose keys come in
    /// `key_headers`; `None` where CORS is off.
    #[must_use]
    pub fn new(
        settings: &CorsSettings,
        methods: &[Method],
        key_headers: &[HeaderName],
    ) -> Option<Arc<Self>> {
        if settings.origins.is_empty() {
            return None;
        }
        let methods = match (settings.methods.as_slice(), methods) {
            ([], []) => &KNOWN_METHODS[..],
            ([], of_route) => of_route,
            (own, _) => own,
        };
        let mut methods = methods.to_vec();
        // As in routing, `GET` includes `HEAD`.
        if methods.contains(&Method::GET) && !methods.contains(&Method::HEAD) {
            methods.push(Method::HEAD);
        }
        let key_headers = key_headers.iter().cloned().map(FieldName::Exact);
        let own = OWN_EXPOSED.map(str::to_owned).into_iter();
        let exposed = own.chain(settings.exposed_headers.iter().map(FieldName::to_string));
        Some(Arc::new(Self {
            origins: settings.origins.clone(),
            methods,
            headers: settings
                .headers
                .iter()
                .cloned()
                .chain(key_headers)
                .collect(),
            credentials: settings.credentials,
            exposed: list(exposed),
            max_age: HeaderValue::from(settings.max_age.as_secs()),
        }))
    }

    /// The answer to a page, if the request comes from one.
    #[must_use]
    pub fn answer(self: &Arc<Self>, headers: &HeaderMap) -> CorsAnswer {
        CorsAnswer {
            cors: Arc::clone(self),
            origin: self.allowed_origin(headers),
            preflight: None,
        }
    }

    /// The answer to a preflight.
    ///
    /// # Errors
    /// What the page may not do.
    pub fn answer_preflight(
        self: &Arc<Self>,
        headers: &HeaderMap,
    ) -> Result<CorsAnswer, &'static str> {
        let answer = self.answer(headers);
        if answer.origin.is_none() {
            return Err("pages of this origin may not call");
        }
        let method = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD);
        let is_it = |known: &Method| method.is_some_and(|method| *method == *known.as_str());
        if !self.methods.iter().any(is_it) {
            return Err("pages may not use this method");
        }
        let asked =
            asked_headers(headers).ok_or("Access-Control-Request-Headers is no list of names")?;
        let is_allowed = |name: &HeaderName| self.headers.iter().any(|known| known.is(name));
        if !asked.iter().all(is_allowed) {
            return Err("pages may not send one of these headers");
        }
        let preflight = Preflight {
            methods: list(self.methods.iter().map(|method| method.as_str().to_owned())),
            headers: (!asked.is_empty())
                .then(|| list(asked.iter().map(|name| name.as_str().to_owned()))),
        };
        Ok(CorsAnswer {
            preflight: Some(preflight),
            ..answer
        })
    }

    fn allowed_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let mut lines = headers.get_all(header::ORIGIN);
        let (Some(origin), None) = (lines.next(), lines.next()) else {
            return None;
        };
        self.origins.iter().find_map(|allowed| match allowed {
            PageOrigin::Any => Some(HeaderValue::from_static("*")),
            PageOrigin::Exact(allowed) => (*origin == **allowed).then(|| origin.clone()),
        })
    }
}

/// Method that a preflight asks for; `None` for another request.
#[must_use]
pub fn requested_method(head: &RequestHead) -> Option<Method> {
    let headers = &head.headers;
    if head.method != Method::OPTIONS || !headers.contains_key(header::ORIGIN) {
        return None;
    }
    let mut lines = headers.get_all(header::ACCESS_CONTROL_REQUEST_METHOD);
    match (lines.next(), lines.next()) {
        (Some(method), None) => Method::from_bytes(method.as_bytes()).ok(),
        _ => None,
    }
}

/// Headers that a preflight asks for; `None` if one is no name.
fn asked_headers(headers: &HeaderMap) -> Option<Vec<HeaderName>> {
    let lines = headers.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS);
    let members = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let members = members
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty());
    members
        .map(|member| HeaderName::from_bytes(member).ok())
        .collect()
}

/// Joins names, which are tokens, to a header value.
fn list(names: impl Iterator<Item = String>) -> HeaderValue {
    let names: Vec<String> = names.collect();
    HeaderValue::try_from(names.join(", ")).unwrap_or(HeaderValue::from_static(""))
}

/// What a preflight may do.
#[derive(Debug, Clone)]
struct Preflight {
    methods: HeaderValue,
    headers: Option<HeaderValue>,
}

/// The headers for one answer.
#[derive(Debug, Clone)]
pub struct CorsAnswer {
    cors: Arc<Cors>,
    /// Allowed origin of the page; `None` for another origin, or none.
    origin: Option<HeaderValue>,
    preflight: Option<Preflight>,
}

impl CorsAnswer {
    /// Headers that the answer varies by, also where no page asked.
    #[must_use]
    pub fn vary(&self) -> &'static [HeaderName] {
        match self.preflight {
            Some(_) => &VARY_OF_PREFLIGHTS,
            None => &VARY,
        }
    }

    /// Replaces the headers of the protocol in an answer.
    pub fn write(&self, headers: &mut HeaderMap) {
        for name in &ANSWERS {
            headers.remove(name);
        }
        let Some(origin) = &self.origin else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.cors.credentials {
            let allowed = HeaderValue::from_static("true");
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, allowed);
        }
        match &self.preflight {
            None => {
                let exposed = self.cors.exposed.clone();
                headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
            }
            Some(Preflight {
                methods,
                headers: asked,
            }) => {
                headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods.clone());
                if let Some(asked) = asked {
                    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
                }
                let max_age = self.cors.max_age.clone();
                headers.insert(header::ACCESS_CONTROL_MAX_AGE, max_age);
            }
        }
    }
}

#[cfg(test)]
mod tests;
