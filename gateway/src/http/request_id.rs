//! Request id, shared by both access logs, the response and every refusal.

use std::cell::Cell;
use std::hash::{BuildHasher as _, RandomState};

use actix_http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::keys::{Prefix, token};

/// Maximum length in bytes of an id that a client sends.
const MAX_BYTES: usize = 128;

/// Number of digits of an id that is made here.
const MADE_DIGITS: usize = 32;

/// Id of a request: the client's if well formed, otherwise 32 hexadecimal digits.
#[derive(Debug, Clone)]
pub struct RequestId(Origin);

#[derive(Debug, Clone)]
enum Origin {
    /// In place: most ids are made here, and a header value would be allocated twice.
    Made([u8; MADE_DIGITS]),
    Given(HeaderValue),
}

impl RequestId {
    /// Id as bytes, all of them ASCII.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Origin::Made(digits) => digits,
            Origin::Given(id) => id.as_bytes(),
        }
    }

    /// Id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).unwrap_or("")
    }

    /// Id as a header value.
    #[must_use]
    pub fn header_value(&self) -> HeaderValue {
        match &self.0 {
            Origin::Made(digits) => {
                HeaderValue::from_bytes(digits).unwrap_or(HeaderValue::from_static("0"))
            }
            Origin::Given(id) => id.clone(),
        }
    }
}

/// Generates ids; one generator per worker thread.
#[derive(Debug)]
pub struct RequestIds {
    /// Random, so that ids of different workers, gateways and starts differ.
    worker: u64,
    next: Cell<u64>,
}

impl RequestIds {
    /// Starts at a random value. Ids are not secret: the randomness of hash maps suffices.
    #[must_use]
    pub fn new() -> Self {
        let random = RandomState::new();
        Self {
            worker: random.hash_one("worker"),
            next: Cell::new(random.hash_one("next")),
        }
    }

    /// Keeps the client's id if it is one value of 1 to 128 letters, digits and `-._~`; otherwise
    /// generates one. Logs and headers must carry nothing but an id, in particular no API key:
    /// neither one with `prefix` nor the credential of the request.
    pub fn identify(&self, headers: &HeaderMap, prefix: &Prefix) -> RequestId {
        static NAME: HeaderName = HeaderName::from_static(postern_shared::headers::REQUEST_ID);
        let mut given = headers.get_all(&NAME);
        match (given.next(), given.next()) {
            (Some(id), None)
                if is_well_formed(id.as_bytes())
                    && !token::contains_key(id.as_bytes(), prefix)
                    && !is_credential(id.as_bytes(), headers) =>
            {
                RequestId(Origin::Given(id.clone()))
            }
            _ => self.make(),
        }
    }

    /// Generates an id.
    pub fn make(&self) -> RequestId {
        let counter = self.next.get();
        self.next.set(counter.wrapping_add(1));
        // splitmix64 spreads the counter over all bits, so that ids neither resemble each other nor
        // sort.
        let mut mixed = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let number = u128::from(self.worker) << 64 | u128::from(mixed);
        let mut digits = [0; MADE_DIGITS];
        let (pairs, _) = digits.as_chunks_mut();
        // No table, so that the compiler can vectorise the loop.
        for (pair, byte) in pairs.iter_mut().zip(number.to_be_bytes()) {
            *pair = [hexadecimal(byte >> 4), hexadecimal(byte & 0xf)];
        }
        RequestId(Origin::Made(digits))
    }
}

fn hexadecimal(digit: u8) -> u8 {
    digit + if digit < 10 { b'0' } else { b'a' - 10 }
}

impl Default for RequestIds {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether `Authorization` equals or contains `id`: keys of other systems have no recognizable
/// form.
fn is_credential(id: &[u8], headers: &HeaderMap) -> bool {
    /// Shorter ids can be part of a key by chance.
    const FEWEST: usize = 16;
    headers
        .get_all(header::AUTHORIZATION)
        .map(HeaderValue::as_bytes)
        .any(|credential| {
            let mut words = credential.split(u8::is_ascii_whitespace);
            words.any(|word| word == id)
                || id.len() >= FEWEST && memchr::memmem::find(credential, id).is_some()
        })
}

fn is_well_formed(id: &[u8]) -> bool {
    (1..=MAX_BYTES).contains(&id.len())
        && id
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::keys::PlainKey;

    fn given(values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(
                HeaderName::from_static("x-request-id"),
                HeaderValue::from_bytes(value).unwrap(),
            );
        }
        headers
    }

    #[test]
    fn a_well_formed_id_is_kept_and_anything_else_is_replaced() {
        let ids = RequestIds::new();
        let long = "a".repeat(129);
        let key = PlainKey::generate(&Prefix::default()).unwrap();
        for (values, kept) in [
            (&[key.expose().as_bytes()][..], false),
            (&[b"abc-DEF_1.2~3".as_slice()][..], true),
            (&[&long.as_bytes()[..128]], true),
            (&[long.as_bytes()], false),
            (&[b""], false),
            (&[b"a b"], false),
            (&[b"a\"b"], false),
            (&[b"a{b}"], false),
            (&[b"\xff"], false),
            (&[b"a", b"b"], false),
            (&[], false),
        ] {
            let id = ids.identify(&given(values), &Prefix::default());
            assert_eq!(
                values
                    .first()
                    .is_some_and(|value| id.as_str().as_bytes() == *value),
                kept,
                "{values:?}"
            );
            assert!(is_well_formed(id.as_str().as_bytes()), "{id:?}");
        }
    }

    #[test]
    fn an_id_that_is_the_credential_is_replaced() {
        let ids = RequestIds::new();
        for (id, credential, kept) in [
            ("sk-live-0123456789", "Bearer sk-live-0123456789", false),
            (
                "sk-live-0123456789",
                "bearer  sk-live-0123456789.more",
                false,
            ),
            ("sk-live-0123456789", "sk-live-0123456789", false),
            ("short", "Bearer short", false),
            ("short", "Bearer short-key", true),
            ("sk-live-0123456789", "Bearer sk-live-9876543210", true),
        ] {
            let mut headers = given(&[id.as_bytes()]);
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(credential));
            let made = ids.identify(&headers, &Prefix::default());
            assert_eq!(made.as_str() == id, kept, "{id} {credential}");
        }
    }

    #[test]
    fn made_ids_are_32_hexadecimal_digits_and_never_repeat() {
        let workers = [RequestIds::new(), RequestIds::new()];
        let made: HashSet<String> = workers
            .iter()
            .flat_map(|worker| (0..1000).map(|_| worker.make().as_str().to_owned()))
            .collect();
        assert_eq!(made.len(), 2000);
        assert!(
            made.iter()
                .all(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
        );
    }
}
