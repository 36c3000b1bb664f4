//! Converts an HTTP/2 request to the form that the pipeline takes: origin-form target and `Host`,
//! as in HTTP/1.1 (RFC 9113, section 8.3.1).

use actix_http::header::{self, HeaderName, HeaderValue};
use actix_http::{Method, Request, Uri, Version};
use http_1::request::Parts;

use crate::front::client_stream::{ClientFault, ClientLimits};

/// Accounting overhead of a field beside its name and value (RFC 9113, section 6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// Reads the head of a request. The caller adds the body.
///
/// # Errors
/// The fault, which the stream's response reports.
pub(super) fn read(parts: &Parts, limits: &ClientLimits) -> Result<Request, ClientFault> {
    let mut request = Request::new();
    let head = request.head_mut();
    head.version = Version::HTTP_2;
    head.method = Method::from_bytes(parts.method.as_str().as_bytes())
        .map_err(|_| ClientFault::BadRequestLine)?;
    head.uri = target(parts)?;
    let mut bytes = head
        .uri
        .path_and_query()
        .map_or(0, |path| path.as_str().len());
    let mut cookies = Vec::new();
    let mut fields = 0;
    for (name, value) in &parts.headers {
        let is_crumb = name == http_1::header::COOKIE;
        // All crumbs together are one field of HTTP/1.1.
        if !is_crumb || cookies.is_empty() {
            fields += 1;
            bytes += name.as_str().len() + FIELD_OVERHEAD;
        }
        bytes += value.len();
        if fields > limits.fields {
            return Err(ClientFault::TooManyFields);
        }
        if bytes > limits.head_bytes {
            return Err(ClientFault::HeadTooLarge);
        }
        if is_crumb {
            cookies.push(value.as_bytes());
            continue;
        }
        let name =
            HeaderName::from_bytes(name.as_str().as_bytes()).map_err(|_| ClientFault::BadField)?;
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| ClientFault::BadField)?;
        head.headers.append(name, value);
    }
    // Cookie crumbs are joined into one field for HTTP/1.1 (RFC 9113, section 8.2.3).
    if !cookies.is_empty() {
        let cookie = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
            .map_err(|_| ClientFault::BadField)?;
        head.headers.insert(header::COOKIE, cookie);
    }
    name_host(parts, &mut request)?;
    Ok(request)
}

/// Path and query; the authority for CONNECT, which the pipeline refuses.
fn target(parts: &Parts) -> Result<Uri, ClientFault> {
    if !matches!(parts.uri.scheme_str(), None | Some("http" | "https")) {
        return Err(ClientFault::BadTarget);
    }
    let text = match (parts.uri.path_and_query(), parts.uri.authority()) {
        (Some(path), _) => path.as_str(),
        (None, Some(authority)) => authority.as_str(),
        (None, None) => return Err(ClientFault::BadTarget),
    };
    Uri::try_from(text).map_err(|_| ClientFault::BadTarget)
}

/// Turns `:authority` into `Host`; if both are present they must agree.
fn name_host(parts: &Parts, request: &mut Request) -> Result<(), ClientFault> {
    let headers = request.headers_mut();
    let mut hosts = headers.get_all(header::HOST);
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(ClientFault::BadHost("there is more than one Host header"));
    }
    let Some(authority) = parts.uri.authority() else {
        return host.is_some().then_some(()).ok_or(ClientFault::BadHost(
            "there is no :authority and no Host header",
        ));
    };
    let authority = authority.as_str().as_bytes();
    if host.is_some_and(|host| !host.as_bytes().eq_ignore_ascii_case(authority)) {
        return Err(ClientFault::BadHost(
            ":authority and the Host header name different hosts",
        ));
    }
    let host = HeaderValue::from_bytes(authority)
        .map_err(|_| ClientFault::BadHost(":authority is no host"))?;
    headers.insert(header::HOST, host);
    Ok(())
}

#[cfg(test)]
mod tests {
    use actix_http::HttpMessage as _;

    use super::*;

    const LIMITS: ClientLimits = ClientLimits {
        head_bytes: 400,
        fields: 4,
        ..crate::front::client_stream::ClientLimits::UNLIMITED
    };

    fn parts(method: &str, uri: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = http_1::Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_head_becomes_one_of_http_1_1_or_is_refused() {
        let long = "a".repeat(400);
        for (method, uri, fields, wanted) in [
            (
                "GET",
                "https://a.test/x?y",
                &[][..],
                Ok(("/x?y", "a.test", "")),
            ),
            (
                "GET",
                "https://A.test:80/",
                &[("host", "a.test:80")],
                Ok(("/", "A.test:80", "")),
            ),
            ("GET", "/x", &[("host", "a.test")], Ok(("/x", "a.test", ""))),
            (
                "GET",
                "https://a.test/",
                &[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")],
                Ok(("/", "a.test", "a=1; b=2")),
            ),
            (
                "OPTIONS",
                "*",
                &[("host", "a.test")],
                Ok(("*", "a.test", "")),
            ),
            (
                "CONNECT",
                "a.test:443",
                &[],
                Ok(("a.test:443", "a.test:443", "")),
            ),
            ("GET", "/x", &[], Err("bad_host")),
            (
                "GET",
                "https://a.test/",
                &[("host", "b.test")],
                Err("bad_host"),
            ),
            (
                "GET",
                "https://a.test/",
                &[("host", "a.test"), ("host", "a.test")],
                Err("bad_host"),
            ),
            ("GET", "ftp://a.test/", &[], Err("bad_target")),
            (
                "GET",
                "https://a.test/",
                &[("cookie", "a"); 6],
                Ok(("/", "a.test", "a; a; a; a; a; a")),
            ),
            (
                "GET",
                "https://a.test/",
                &[("a", "1"); 5],
                Err("too_many_fields"),
            ),
            (
                "GET",
                "https://a.test/",
                &[("a", long.as_str())],
                Err("head_too_large"),
            ),
        ] {
            let read = read(&parts(method, uri, fields), &LIMITS).map(|request| {
                let field = |name| {
                    let value = request.headers().get(name);
                    value.map_or("", |value| value.to_str().unwrap()).to_owned()
                };
                (
                    request.uri().to_string(),
                    field(header::HOST),
                    field(header::COOKIE),
                )
            });
            let wanted = wanted.map(|(target, host, cookie): (&str, &str, &str)| {
                (target.to_owned(), host.to_owned(), cookie.to_owned())
            });
            assert_eq!(
                read.map_err(ClientFault::name),
                wanted,
                "{method} {uri} {fields:?}"
            );
        }
    }
}
