//! `Vary` (RFC 9110, section 12.5.5): a response depends on the key. A shared cache must not serve
//! one key's response to the holder of another, or to a request without a key (RFC 9111, section
//! 4.1).

use actix_http::header::{self, HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;

/// Adds `names` to `Vary`; keeps the existing names and `*`.
pub fn add(headers: &mut HeaderMap, names: &[HeaderName]) {
    let lines: Vec<_> = headers
        .get_all(header::VARY)
        .map(HeaderValue::as_bytes)
        .collect();
    let Some(merged) = merged(&lines, names) else {
        return;
    };
    // Joined members of header values are a header value.
    let merged = HeaderValue::from_maybe_shared(Bytes::from(merged));
    headers.insert(
        header::VARY,
        merged.unwrap_or(HeaderValue::from_static("*")),
    );
}

/// The value that replaces these values of `Vary`, with `names` at the end; `None` if they are
/// right as they are.
pub fn merged(lines: &[&[u8]], names: &[HeaderName]) -> Option<Vec<u8>> {
    if names.is_empty() {
        return None;
    }
    // Some caches read one line only (nginx before 1.23).
    if let [line] = lines
        && names.iter().all(|name| {
            members(line).any(|member| member.eq_ignore_ascii_case(name.as_str().as_bytes()))
        })
    {
        return None;
    }
    let mut all: Vec<&[u8]> = Vec::new();
    let named = lines.iter().flat_map(|line| members(line));
    for member in named.chain(names.iter().map(|name| name.as_str().as_bytes())) {
        // Already means that nothing matches.
        if member == b"*" {
            return Some(member.to_vec());
        }
        if !all.iter().any(|known| known.eq_ignore_ascii_case(member)) {
            all.push(member);
        }
    }
    Some(all.join(&b", "[..]))
}

fn members(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_varies_is_added_to_and_never_replaced() {
        for (lines, wanted) in [
            (&[][..], "authorization"),
            (&[""], "authorization"),
            (&["Accept-Encoding"], "Accept-Encoding, authorization"),
            (
                &["accept-encoding,accept"],
                "accept-encoding, accept, authorization",
            ),
            (&["Accept", "Origin"], "Accept, Origin, authorization"),
            (
                &["Accept", "accept, ORIGIN"],
                "Accept, ORIGIN, authorization",
            ),
            (&["Authorization"], "Authorization"),
            (&["Accept , AUTHORIZATION"], "Accept , AUTHORIZATION"),
            (&["Authorization", "Accept"], "Authorization, Accept"),
            (&["authorization-x"], "authorization-x, authorization"),
            (&["*"], "*"),
            (&["Accept, *"], "*"),
            (&["Accept", "*"], "*"),
            (&["*", "*"], "*"),
            (&[" , ,"], "authorization"),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::VARY, HeaderValue::from_static(line));
            }
            add(&mut headers, &[header::AUTHORIZATION]);
            let all: Vec<_> = headers
                .get_all(header::VARY)
                .map(|line| line.to_str().unwrap())
                .collect();
            assert_eq!(all, [wanted], "{lines:?}");
        }
    }

    #[test]
    fn several_names_are_added_where_they_are_missing() {
        let names = [header::AUTHORIZATION, HeaderName::from_static("x-api-key")];
        for (line, wanted) in [
            (None, "authorization, x-api-key"),
            (Some("X-Api-Key"), "X-Api-Key, authorization"),
            (Some("accept"), "accept, authorization, x-api-key"),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(line) = line {
                headers.insert(header::VARY, HeaderValue::from_static(line));
            }
            add(&mut headers, &names);
            assert_eq!(headers.get(header::VARY).unwrap(), wanted);
        }
    }
}
