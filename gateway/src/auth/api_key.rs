//! API keys in `Authorization: Bearer` (RFC 6750, section 2.1; the scheme is case-insensitive, RFC
//! 9110, section 11.1).

use actix_http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::auth::demand::Denial;
use crate::keys::{KeyDigest, KeyTable, KnownKey, Prefix, check_shape, token::is_key_shaped};

/// Headers that can carry a key. Responses vary by them.
pub static KEY_HEADERS: [HeaderName; 1] = [header::AUTHORIZATION];

/// Looks up the key in these headers, in whatever state it is.
///
/// # Errors
/// Why there is no key. A malformed key is refused without a look-up.
pub fn authenticate(
    headers: &HeaderMap,
    keys: &KeyTable,
    prefix: &Prefix,
) -> Result<KnownKey, Denial> {
    let token = bearer_token(headers)?;
    check_shape(token, prefix).map_err(Denial::Malformed)?;
    keys.lookup(&KeyDigest::of(token)).ok_or(Denial::Unknown)
}

/// Whether the presented token may be a key that was never made here or is gone: a key of this
/// gateway with its checksum, or any other text where keys of other systems are known. Typing
/// errors are not.
#[must_use]
pub fn may_be_key(headers: &HeaderMap, keys: &KeyTable, prefix: &Prefix) -> bool {
    let Ok(token) = bearer_token(headers) else {
        return false;
    };
    check_shape(token, prefix).is_ok() && (is_key_shaped(token, prefix) || keys.may_have_foreign())
}

fn bearer_token(headers: &HeaderMap) -> Result<&[u8], Denial> {
    let mut credentials = headers.get_all(header::AUTHORIZATION);
    let credential = match (credentials.next(), credentials.next()) {
        (None, _) => return Err(Denial::Missing),
        (Some(_), Some(_)) => return Err(Denial::Twice),
        (Some(credential), None) => credential,
    };
    token_of(credential).ok_or(Denial::Missing)
}

/// Extracts the token, possibly empty, of a `Bearer` credential; `None` for another scheme.
#[must_use]
pub fn token_of(credential: &HeaderValue) -> Option<&[u8]> {
    let credential = credential.as_bytes();
    let (scheme, rest) = credential.split_at(
        credential
            .iter()
            .position(|byte| *byte == b' ')
            .unwrap_or(credential.len()),
    );
    scheme
        .eq_ignore_ascii_case(b"bearer")
        .then(|| rest.trim_ascii_start())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::MalformedKey;

    /// Denial of each credential against an empty key table.
    fn denial(credentials: &[&[u8]]) -> Denial {
        let mut headers = HeaderMap::new();
        for credential in credentials {
            headers.append(
                header::AUTHORIZATION,
                HeaderValue::from_bytes(credential).unwrap(),
            );
        }
        authenticate(&headers, &KeyTable::new(), &Prefix::default()).unwrap_err()
    }

    #[test]
    fn what_is_no_key_is_denied_for_what_it_is() {
        let long = [b"Bearer ".as_slice(), &[b'a'; 10_000]].concat();
        for (credentials, wanted) in [
            (&[][..], Denial::Missing),
            (&[b"".as_slice()], Denial::Missing),
            (&[b"Basic dXNlcjpwYXNz"], Denial::Missing),
            (&[b"Bearerabc"], Denial::Missing),
            (&[b"abc"], Denial::Missing),
            (&[b"Bearer"], Denial::Malformed(MalformedKey::Empty)),
            (&[b"Bearer "], Denial::Malformed(MalformedKey::Empty)),
            (
                &[b"Bearer \xc3\xa9abc"],
                Denial::Malformed(MalformedKey::Charset),
            ),
            (&[b"Bearer a b"], Denial::Malformed(MalformedKey::Charset)),
            (&[b"Bearer a,b"], Denial::Malformed(MalformedKey::Charset)),
            (&[&long], Denial::Malformed(MalformedKey::TooLong)),
            (
                &[b"Bearer pstn_00000000000000000000000000000000000000"],
                Denial::Malformed(MalformedKey::Checksum),
            ),
            (&[b"Bearer foreign-key"], Denial::Unknown),
            (&[b"bEARER   foreign-key"], Denial::Unknown),
            (&[b"Bearer a", b"Bearer a"], Denial::Twice),
            (&[b"Bearer a", b"Basic b"], Denial::Twice),
        ] {
            let shown: Vec<_> = credentials
                .iter()
                .map(|credential| String::from_utf8_lossy(&credential[..credential.len().min(40)]))
                .collect();
            assert_eq!(denial(credentials), wanted, "{shown:?}");
        }
    }
}
