//! Removes the origin's own address from `Location` and `Content-Location`: clients cannot reach it
//! and should not learn it. The client resolves the remaining path against the address that it
//! requested (RFC 9110, section 10.2.2).

use actix_http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Removes the origin's authority `host`; keeps other addresses and relative references.
pub fn rewrite(headers: &mut HeaderMap, host: &HeaderValue) {
    static NAMES: [HeaderName; 2] = [header::LOCATION, header::CONTENT_LOCATION];
    for name in &NAMES {
        let Some(path) = headers
            .get(name)
            .and_then(|location| path_at(location.as_bytes(), host.as_bytes()))
        else {
            continue;
        };
        if let Ok(path) = HeaderValue::from_bytes(&path) {
            headers.insert(name.clone(), path);
        }
    }
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
        // `//name` would be a network-path reference (RFC 3986, section 4.2) and lead to another
        // host. Some clients read a backslash as a slash.
        [b'/', b'/' | b'\\', ..] | [b'\\', ..] => b"/.",
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
            rewrite(&mut headers, &HeaderValue::from_str(host).unwrap());
            let values: Vec<_> = headers
                .iter()
                .map(|(_, value)| value.to_str().unwrap())
                .collect();
            assert_eq!(values, [wanted, wanted], "{location:?}");
        }
    }
}
