//! Request target: method, host, path and query, in the one reading that gateway and origin share.

use std::net::Ipv6Addr;

use actix_http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_http::uri::PathAndQuery;
use actix_http::{Method, RequestHead, Uri, Version};

use crate::http::path_rules::check_path;
use crate::http::refusal::Refusal;
use crate::http::upgrade::Upgrade;
use crate::wire::head::parse_length;

/// Methods that are proxied: those of RFC 9110, section 9 except `CONNECT` and `TRACE`, plus
/// `PATCH` (RFC 5789).
pub static KNOWN_METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// This gateway's entry in `Via` (RFC 9110, section 7.6.3).
pub const VIA: &str = "1.1 postern";
/// Maximum of gateways of this name on the way of a request.
const MAX_HOPS: usize = 8;

/// Well-formed target of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Host and port from the request, in lower case and without a trailing dot: one spelling for
    /// every origin. `None` in HTTP/1.0 without `Host`.
    pub host: Option<HeaderValue>,
    /// Path and query as forwarded.
    pub path_and_query: PathAndQuery,
}

impl Target {
    /// Parses the target of a request.
    ///
    /// # Errors
    /// A method that is never proxied, or a malformed target or `Host` (RFC 9112, section 3.2).
    pub fn identify(head: &RequestHead) -> Result<Self, Refusal> {
        if !KNOWN_METHODS.contains(&head.method) {
            return Err(Refusal::MethodNotAllowed(KNOWN_METHODS.to_vec()));
        }
        check_expectation(&head.headers)?;
        check_hops(&head.headers)?;
        if Upgrade::requested(head) == Upgrade::Malformed {
            return Err(Refusal::BadRequest(
                "the request for WebSocket is not well formed",
            ));
        }
        let host = host_of(head)?;
        let path_and_query = match head.uri.path_and_query() {
            // The asterisk form has no path to forward.
            Some(path) if path.as_str() == "*" => {
                return Err(Refusal::BadRequest("the target * is not supported"));
            }
            // Includes an absolute target without a path (RFC 9112, section 3.2.1).
            Some(path) if path.as_str() == "/" => PathAndQuery::from_static("/"),
            Some(path) if path.as_str().starts_with('/') => path.clone(),
            Some(path) if path.as_str().starts_with('?') && head.uri.scheme().is_some() => {
                PathAndQuery::try_from(format!("/{}", path.as_str()))
                    .map_err(|_| Refusal::BadRequest("the target is not a path"))?
            }
            None if head.uri.scheme().is_some() => PathAndQuery::from_static("/"),
            _ => return Err(Refusal::BadRequest("the target is not a path")),
        };
        Ok(Self {
            host,
            path_and_query,
        })
    }

    /// Host as text; empty if there is none.
    #[must_use]
    pub fn host(&self) -> &str {
        self.host
            .as_ref()
            .and_then(|host| host.to_str().ok())
            .unwrap_or("")
    }

    /// Path without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path_and_query.path()
    }

    /// Refuses a path that the origin could read differently.
    ///
    /// # Errors
    /// The ambiguity.
    pub fn check_path(&self) -> Result<(), Refusal> {
        check_path(self.path()).map_err(|ambiguity| Refusal::AmbiguousPath(ambiguity.describe()))
    }

    /// Target of the request to the origin.
    #[must_use]
    pub fn to_uri(&self) -> Uri {
        Uri::from(self.path_and_query.clone())
    }
}

/// Accepts `100-continue` only, which the gateway itself meets (RFC 9110, section 10.1.1).
fn check_expectation(headers: &HeaderMap) -> Result<(), Refusal> {
    static EXPECT: HeaderName = header::EXPECT;
    let met = headers
        .get_all(&EXPECT)
        .all(|expectation| expectation.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if met {
        Ok(())
    } else {
        Err(Refusal::ExpectationFailed)
    }
}

/// Detects loops: each round through this gateway adds an entry to `Via`.
fn check_hops(headers: &HeaderMap) -> Result<(), Refusal> {
    static FIELD: HeaderName = header::VIA;
    let hops = headers
        .get_all(&FIELD)
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    let ours = hops
        .filter(|hop| hop.split_ascii_whitespace().nth(1) == VIA.split_ascii_whitespace().nth(1))
        .count();
    if ours < MAX_HOPS {
        Ok(())
    } else {
        Err(Refusal::LoopDetected)
    }
}

fn host_of(head: &RequestHead) -> Result<Option<HeaderValue>, Refusal> {
    static HOST: HeaderName = header::HOST;
    let mut lines = head.headers.get_all(&HOST);
    let host = match (lines.next(), lines.next()) {
        (Some(host), None) if is_host(host.as_bytes()) => Some(host),
        (Some(_), None) => return Err(Refusal::BadRequest("the Host header is not a host")),
        (Some(_), Some(_)) => {
            return Err(Refusal::BadRequest("there is more than one Host header"));
        }
        (None, _) if head.version < Version::HTTP_11 => None,
        (None, _) => return Err(Refusal::BadRequest("there is no Host header")),
    };
    let named = host.map_or(&b""[..], HeaderValue::as_bytes);
    match (head.uri.scheme_str(), head.uri.authority()) {
        (None, None) => {}
        (Some(scheme @ ("http" | "https")), Some(authority))
            if without_default_port(authority.as_str().as_bytes(), scheme)
                .eq_ignore_ascii_case(without_default_port(named, scheme)) => {}
        (Some("http" | "https"), Some(_)) => {
            return Err(Refusal::BadRequest(
                "the target and the Host header name different hosts",
            ));
        }
        _ => {
            return Err(Refusal::BadRequest(
                "the target is neither a path nor an http address",
            ));
        }
    }
    host.map(normalize_host).transpose()
}

/// Strips the port if it is empty or the default one of `scheme` (RFC 9110, section 4.2.3).
fn without_default_port<'a>(host: &'a [u8], scheme: &str) -> &'a [u8] {
    let port: &[u8] = if scheme == "https" { b":443" } else { b":80" };
    let stripped = host.strip_suffix(port).or(host.strip_suffix(b":"));
    stripped.unwrap_or(host)
}

/// Normalizes a host: lower case, no empty port, no trailing dot (RFC 1034, section 3.1), canonical
/// IPv6 (RFC 5952).
fn normalize_host(host: &HeaderValue) -> Result<HeaderValue, Refusal> {
    let bytes = host.as_bytes();
    let odd = |byte: &u8| byte.is_ascii_uppercase() || *byte == b'[';
    let name_end = bytes.iter().position(|&byte| byte == b':');
    let name = &bytes[..name_end.unwrap_or(bytes.len())];
    if !(bytes.iter().any(odd) || name.ends_with(b".") || bytes.ends_with(b":")) {
        return Ok(host.clone());
    }
    let not_a_host = || Refusal::BadRequest("the Host header is not a host");
    let text = host.to_str().map_err(|_| not_a_host())?;
    let text = text.to_ascii_lowercase();
    let text = text.strip_suffix(':').unwrap_or(&text);
    let (name, port) = match text.rfind(']').or_else(|| text.find(':').map(|at| at - 1)) {
        Some(end) => text.split_at(end + 1),
        None => (text, ""),
    };
    let address = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok());
    let text = match address {
        Some(address) => format!("[{address}]{port}"),
        None => format!("{}{port}", name.strip_suffix('.').unwrap_or(name)),
    };
    HeaderValue::try_from(text).map_err(|_| not_a_host())
}

/// Whether `text` is `host [ ":" port ]` (RFC 9110, section 7.2) with a name, an IPv4 address or a
/// bracketed IPv6 address.
#[must_use]
pub fn is_host(text: &[u8]) -> bool {
    if let [b'[', rest @ ..] = text {
        let bracketed = str::from_utf8(rest)
            .ok()
            .and_then(|rest| rest.split_once(']'));
        return bracketed.is_some_and(|(address, port)| {
            address.parse::<Ipv6Addr>().is_ok() && is_port(port.as_bytes())
        });
    }
    let name_end = text.iter().position(|byte| *byte == b':');
    let (name, port) = text.split_at(name_end.unwrap_or(text.len()));
    name.len() <= 253 && is_name(name) && is_port(port)
}

/// Whether `text` is labels between dots. One trailing dot is allowed; an empty label is not.
fn is_name(text: &[u8]) -> bool {
    let mut label_is_empty = true;
    for byte in text.strip_suffix(b".").unwrap_or(text) {
        match byte {
            b'.' if label_is_empty => return false,
            b'.' => label_is_empty = true,
            b'-' | b'_' | b'~' => label_is_empty = false,
            byte if byte.is_ascii_alphanumeric() => label_is_empty = false,
            _ => return false,
        }
    }
    !label_is_empty
}

/// Whether `text` is a port after its colon, or nothing.
fn is_port(text: &[u8]) -> bool {
    match text {
        // The second is the default one (RFC 3986, section 3.2.3).
        [] | [b':'] => true,
        [b':', digits @ ..] => {
            digits.len() <= 5
                && parse_length(digits).is_some_and(|port| u16::try_from(port).is_ok())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Host and target of `method target HTTP/1.1` with these `Host` lines, or the code of the
    /// refusal.
    fn identified(
        method: &str,
        target: &str,
        hosts: &[&str],
        version: Version,
    ) -> Result<(String, String), &'static str> {
        let mut head = RequestHead::default();
        head.method = Method::from_bytes(method.as_bytes()).unwrap();
        head.uri = target.parse().unwrap();
        head.version = version;
        for host in hosts {
            head.headers
                .append(header::HOST, HeaderValue::from_str(host).unwrap());
        }
        Target::identify(&head)
            .map(|target| (target.host().to_owned(), target.to_uri().to_string()))
            .map_err(|refusal| refusal.code())
    }

    #[test]
    fn targets_and_hosts_are_read_one_way_or_refused() {
        let new = Version::HTTP_11;
        for (method, target, hosts, version, wanted) in [
            (
                "GET",
                "/a?b=c",
                &["api.example.com"][..],
                new,
                Ok(("api.example.com", "/a?b=c")),
            ),
            ("GET", "/a?", &["h:8080"], new, Ok(("h:8080", "/a?"))),
            ("GET", "/", &["[::1]:8080"], new, Ok(("[::1]:8080", "/"))),
            ("GET", "http://h/a?b", &["h"], new, Ok(("h", "/a?b"))),
            ("GET", "http://H:80/a", &["h:80"], new, Ok(("h:80", "/a"))),
            (
                "GET",
                "/a",
                &["API.Example.com"],
                new,
                Ok(("api.example.com", "/a")),
            ),
            (
                "GET",
                "/a",
                &["api.example.com."],
                new,
                Ok(("api.example.com", "/a")),
            ),
            ("GET", "/a", &["H.:8080"], new, Ok(("h:8080", "/a"))),
            ("GET", "/a", &["[0:0::1]:80"], new, Ok(("[::1]:80", "/a"))),
            ("GET", "/a", &["[FE80::A]"], new, Ok(("[fe80::a]", "/a"))),
            ("GET", "/a", &["h.."], new, Err("bad_request")),
            ("GET", "/a", &["."], new, Err("bad_request")),
            ("GET", "/a", &[".h"], new, Err("bad_request")),
            ("GET", "/a", &["a..h"], new, Err("bad_request")),
            ("GET", "http://h", &["h"], new, Ok(("h", "/"))),
            ("GET", "/a", &[], Version::HTTP_10, Ok(("", "/a"))),
            ("GET", "//evil/a", &["h"], new, Ok(("h", "//evil/a"))),
            ("GET", "/a", &[], new, Err("bad_request")),
            ("GET", "/a", &["h", "h"], new, Err("bad_request")),
            ("GET", "/a", &[""], new, Err("bad_request")),
            ("GET", "/a", &["a b"], new, Err("bad_request")),
            ("GET", "/a", &["a/b"], new, Err("bad_request")),
            ("GET", "/a", &["user@h"], new, Err("bad_request")),
            ("GET", "/a", &["h:1:2"], new, Err("bad_request")),
            ("GET", "/a", &["H:"], new, Ok(("h", "/a"))),
            ("GET", "/a", &["[::1]:"], new, Ok(("[::1]", "/a"))),
            ("GET", "http://h:80/a", &["h"], new, Ok(("h", "/a"))),
            ("GET", "https://h/a", &["h:443"], new, Ok(("h:443", "/a"))),
            ("GET", "https://h:80/a", &["h"], new, Err("bad_request")),
            ("GET", "http://h:8080/a", &["h"], new, Err("bad_request")),
            ("GET", "/a", &[":"], new, Err("bad_request")),
            ("GET", "/a", &["h:99999"], new, Err("bad_request")),
            ("GET", "/a", &["[::1"], new, Err("bad_request")),
            ("GET", "/a", &["[evil]"], new, Err("bad_request")),
            ("GET", "/a", &["a,b"], new, Err("bad_request")),
            ("GET", "http://other/a", &["h"], new, Err("bad_request")),
            (
                "GET",
                "http://169.254.169.254/",
                &["h"],
                new,
                Err("bad_request"),
            ),
            ("GET", "ftp://h/a", &["h"], new, Err("bad_request")),
            ("GET", "h:80", &["h:80"], new, Err("bad_request")),
            ("OPTIONS", "*", &["h"], new, Err("bad_request")),
            ("CONNECT", "h:80", &["h:80"], new, Err("method_not_allowed")),
            ("TRACE", "/a", &["h"], new, Err("method_not_allowed")),
            ("TRACK", "/a", &["h"], new, Err("method_not_allowed")),
            ("get", "/a", &["h"], new, Err("method_not_allowed")),
        ] {
            let wanted =
                wanted.map(|(host, target): (&str, &str)| (host.to_owned(), target.to_owned()));
            assert_eq!(
                identified(method, target, hosts, version),
                wanted,
                "{method} {target} {hosts:?}"
            );
        }
    }

    #[test]
    fn a_request_that_goes_around_in_a_loop_is_stopped() {
        for (lines, stopped) in [
            (vec!["1.1 postern"; MAX_HOPS - 1], false),
            (vec!["1.1 postern"; MAX_HOPS], true),
            (
                vec!["1.1 postern, 1.0 fred, 1.1 postern"; MAX_HOPS / 2],
                true,
            ),
            (vec!["1.1 other"; MAX_HOPS * 2], false),
        ] {
            let mut headers = HeaderMap::new();
            for line in &lines {
                headers.append(header::VIA, HeaderValue::from_static(line));
            }
            assert_eq!(check_hops(&headers).is_err(), stopped, "{lines:?}");
        }
    }

    #[test]
    fn only_one_expectation_can_be_met() {
        for (expectation, met) in [
            ("100-continue", true),
            ("100-Continue", true),
            ("200-ok", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::EXPECT, HeaderValue::from_static(expectation));
            assert_eq!(check_expectation(&headers).is_ok(), met, "{expectation:?}");
        }
    }
}
