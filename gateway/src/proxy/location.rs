//! Turns `Location` and `Content-Location` into references that clients can use: without the
//! origin's own address, which they cannot reach and should not learn, and with the path that leads
//! to the same place at the gateway. The client resolves a path against the address that it
//! requested (RFC 9110, section 10.2.2).

use actix_http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::proxy::path_mapping::PathMapping;

/// Removes the origin's authority, any of `hosts`, and maps paths back; keeps other addresses,
/// relative references, and paths outside the base path of the origin.
pub fn rewrite<'h>(
    headers: &mut HeaderMap,
    hosts: impl Iterator<Item = &'h HeaderValue> + Clone,
    mapping: PathMapping<'_>,
) {
    static NAMES: [HeaderName; 2] = [header::LOCATION, header::CONTENT_LOCATION];
    for name in &NAMES {
        let Some(location) = headers.get(name).map(HeaderValue::as_bytes) else {
            continue;
        };
        let at_host = |host: &HeaderValue| path_at(location, host.as_bytes());
        let path = hosts.clone().find_map(at_host);
        let is_path = matches!(location, [b'/', rest @ ..] if !begins_network_path(rest));
        let path = match path {
            Some(path) => path,
            None if is_path && !mapping.is_identity() => location.to_vec(),
            None => continue,
        };
        let path = mapped(&path, mapping).unwrap_or(path);
        if let Ok(path) = HeaderValue::from_bytes(&path) {
            headers.insert(name.clone(), path);
        }
    }
}

/// Path for the client of an absolute path, if there is one.
fn mapped(path: &[u8], mapping: PathMapping<'_>) -> Option<Vec<u8>> {
    if mapping.is_identity() {
        return None;
    }
    // A reference is ASCII (RFC 3986, section 2); others stay as they are.
    let path = mapping.to_client(str::from_utf8(path).ok()?)?;
    Some(match path.as_bytes() {
        [b'/', rest @ ..] if begins_network_path(rest) => ["/.", &path].concat().into_bytes(),
        _ => path.into_bytes(),
    })
}

/// Whether `/` with `rest` would be a network-path reference (RFC 3986, section 4.2) and lead to
/// another host. Some clients read a backslash as a slash.
fn begins_network_path(rest: &[u8]) -> bool {
    matches!(rest.first(), Some(b'/' | b'\\'))
}

/// Returns what follows the origin's authority in `location`, as a reference that begins with a
/// path.
fn path_at(location: &[u8], host: &[u8]) -> Option<Vec<u8>> {
    let (scheme, rest) = location.split_at_checked(b"http://".len())?;
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?' | b'#' | b'\\'))
        .unwrap_or(rest.len());
    let (authority, rest) = rest.split_at_checked(end)?;
    if !scheme.eq_ignore_ascii_case(b"http://")
        || !without_port_80(authority).eq_ignore_ascii_case(without_port_80(host))
    {
        return None;
    }
    let before: &[u8] = match rest {
        [b'/', rest @ ..] if begins_network_path(rest) => b"/.",
        [b'\\', ..] => b"/.",
        [b'/', ..] => b"",
        _ => b"/",
    };
    Some([before, rest].concat())
}

fn without_port_80(authority: &[u8]) -> &[u8] {
    authority.strip_suffix(b":80").unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_origins_own_address_is_taken_off() {
        for (location, host, wanted) in [
            ("http://origin:9000/a?b#c", "origin:9000", "/a?b#c"),
            ("HTTP://Origin:9000/a", "origin:9000", "/a"),
            ("http://origin:9000", "origin:9000", "/"),
            ("http://origin:9000?b", "origin:9000", "/?b"),
            ("http://origin:9000#c", "origin:9000", "/#c"),
            ("http://origin:80/a", "origin", "/a"),
            ("http://origin/a", "origin:80", "/a"),
            ("http://[::1]:9000/a", "[::1]:9000", "/a"),
            // The remainder must not become another host's address.
            ("http://origin:9000//evil/a", "origin:9000", "/.//evil/a"),
            ("http://origin:9000/\\evil/a", "origin:9000", "/./\\evil/a"),
            ("http://origin:9000\\evil", "origin:9000", "/.\\evil"),
            ("http://origin:9000\\\\evil", "origin:9000", "/.\\\\evil"),
            (
                "http://origin:9001/a",
                "origin:9000",
                "http://origin:9001/a",
            ),
            (
                "http://origin:9000.evil/a",
                "origin:9000",
                "http://origin:9000.evil/a",
            ),
            (
                "http://user@origin:9000/a",
                "origin:9000",
                "http://user@origin:9000/a",
            ),
            (
                "https://origin:9000/a",
                "origin:9000",
                "https://origin:9000/a",
            ),
            ("https://example.com/a", "origin", "https://example.com/a"),
            ("//origin/a", "origin", "//origin/a"),
            ("/a", "origin", "/a"),
            ("", "origin", ""),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::LOCATION, HeaderValue::from_str(location).unwrap());
            headers.insert(
                header::CONTENT_LOCATION,
                HeaderValue::from_str(location).unwrap(),
            );
            let host = HeaderValue::from_str(host).unwrap();
            let mapping = PathMapping {
                stripped: "",
                base: "",
            };
            rewrite(&mut headers, [&host].into_iter(), mapping);
            let values: Vec<_> = headers
                .iter()
                .map(|(_, value)| value.to_str().unwrap())
                .collect();
            assert_eq!(values, [wanted, wanted], "{location:?}");
        }
    }

    #[test]
    fn paths_lead_to_the_same_place_at_the_gateway_and_to_no_other_host() {
        let hosts = ["one:9000", "two:9000"].map(HeaderValue::from_static);
        for (stripped, base, location, wanted) in [
            ("/orders", "", "/5", "/orders/5"),
            ("/orders", "", "/", "/orders/"),
            ("/orders", "", "/?a=/b#c", "/orders/?a=/b#c"),
            ("/orders", "", "/orders/5", "/orders/orders/5"),
            ("/orders", "", "5", "5"),
            ("/orders", "", "../5", "../5"),
            ("/orders", "", "?a", "?a"),
            ("/orders", "", "//evil/a", "//evil/a"),
            ("/orders", "", "/\\evil", "/\\evil"),
            ("/orders", "", "http://one:9000/5", "/orders/5"),
            ("/orders", "", "http://two:9000", "/orders/"),
            ("/orders", "", "http://one:9000//evil", "/orders/.//evil"),
            (
                "/orders",
                "",
                "https://example.com/5",
                "https://example.com/5",
            ),
            ("/orders", "/v1", "/v1/5?a", "/orders/5?a"),
            ("/orders", "/v1", "/v1", "/orders"),
            ("/orders", "/v1", "/v10/5", "/v10/5"),
            ("/orders", "/v1", "/login", "/login"),
            ("/orders", "/v1", "http://two:9000/v1/5", "/orders/5"),
            ("/orders", "/v1", "http://two:9000/login", "/login"),
            ("", "/v1", "/v1/5", "/5"),
            ("", "/v1", "/v1", "/"),
            ("", "/v1", "/v1?a", "/?a"),
            ("", "/v1", "/v1//evil", "/.//evil"),
            ("", "/v1", "/v1/\\evil", "/./\\evil"),
            ("", "/v1", "http://one:9000/v1//evil", "/.//evil"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::LOCATION, HeaderValue::from_str(location).unwrap());
            rewrite(&mut headers, hosts.iter(), PathMapping { stripped, base });
            let rewritten = headers.get(header::LOCATION).unwrap();
            assert_eq!(rewritten, wanted, "{location} {stripped:?} {base:?}");
        }
    }
}
