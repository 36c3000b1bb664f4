//! API keys: from the places of a route to a key of the table.

use std::cmp::Ordering;

use crate::auth::demand::Denial;
use crate::auth::key_source::{Presented, Token};
use crate::auth::key_sources::Credentials;
use crate::keys::token::{compare_length, is_key_shaped};
use crate::keys::{KeyDigest, KeyTable, KnownKey, Prefix, check_shape};

/// Looks up the key of a request, in whatever state it is.
///
/// # Errors
/// Why there is no key. A malformed key is refused without a look-up.
pub fn authenticate(
    credentials: &Credentials<'_>,
    keys: &KeyTable,
    prefix: &Prefix,
) -> Result<KnownKey, Denial> {
    look_up(credentials.find()?, keys, prefix)
}

/// Looks up what stands in the place of a key, in whatever state the key is.
///
/// # Errors
/// Why there is no key.
pub(super) fn look_up(
    presented: Presented<'_>,
    keys: &KeyTable,
    prefix: &Prefix,
) -> Result<KnownKey, Denial> {
    let look_up = |token: &Token<'_>| {
        check_shape(token, prefix).map_err(Denial::Malformed)?;
        keys.lookup(&KeyDigest::of(token)).ok_or(Denial::Unknown)
    };
    let Some(password) = presented.other else {
        return look_up(&presented.token);
    };
    match (look_up(&presented.token), look_up(&password)) {
        (Ok(_), Ok(_)) => Err(Denial::Twice),
        (Ok(key), Err(_)) | (Err(_), Ok(key)) => Ok(key),
        // A mistyped key says more than a text that is none.
        (Err(Denial::Unknown), Err(denial)) | (Err(denial), Err(_)) => Err(denial),
    }
}

/// Whether a presented token may be a key that was never made here or is gone: a key of this
/// gateway with its checksum, or any other text where keys of other systems are known. Typing
/// errors are not.
#[must_use]
pub fn may_be_key(credentials: &Credentials<'_>, keys: &KeyTable, prefix: &Prefix) -> bool {
    let Ok(presented) = credentials.find() else {
        return false;
    };
    let tokens = [Some(presented.token), presented.other];
    tokens.iter().flatten().any(|token| {
        check_shape(token, prefix).is_ok()
            && (is_key_shaped(token, prefix)
                || keys.may_have_foreign() && !is_mistyped(token, prefix))
    })
}

/// Whether the token is quoted, or has the prefix of this gateway's keys and another length.
fn is_mistyped(token: &[u8], prefix: &Prefix) -> bool {
    is_quoted(token) || compare_length(token, prefix).is_some_and(Ordering::is_ne)
}

/// Whether the token begins or ends with a quotation mark.
pub(super) fn is_quoted(token: &[u8]) -> bool {
    let token = token.trim_ascii();
    let ends = [token.first(), token.last()].into_iter().flatten();
    ends.into_iter()
        .any(|byte| matches!(byte, b'"' | b'\'' | b'`'))
}

#[cfg(test)]
mod tests {
    use actix_http::header::{self, HeaderMap, HeaderValue};

    use super::*;
    use crate::auth::key_sources::KeySources;
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
        let credentials = Credentials {
            sources: &KeySources::default(),
            headers: &headers,
            query: None,
        };
        authenticate(&credentials, &KeyTable::new(), &Prefix::default()).unwrap_err()
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
