//! [`Compact`]: a JWS in compact serialization (RFC 7515 section 7.1), split, decoded and not yet
//! believed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::auth::jwt::MAX_TOKEN_BYTES;
use crate::auth::jwt::algorithm::Algorithm;
use crate::auth::jwt::fault::TokenFault;
use crate::auth::jwt::json;

/// Maximum bytes of a header, decoded.
const MAX_HEADER_BYTES: usize = 1024;
/// Maximum bytes of a `kid`.
pub(super) const MAX_KEY_ID_BYTES: usize = 256;

/// A token whose form is right and whose signature has not been verified.
pub struct Compact<'t> {
    header: Header,
    signed: &'t [u8],
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// What the header says of the signature. Members that point to keys (`jku`, `jwk`, `x5u`, `x5c`)
/// are not even read: whoever forges a token writes them.
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    pub(super) kind: Option<String>,
}

impl<'t> Compact<'t> {
    /// Splits and decodes a token.
    ///
    /// # Errors
    /// The rule of form that it fails.
    pub fn parse(token: &'t [u8]) -> Result<Self, TokenFault> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenFault::TooLong);
        }
        let mut dots = memchr::memchr_iter(b'.', token);
        let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
            return Err(TokenFault::Parts);
        };
        let part = |begin: usize, end: usize| token.get(begin..end).ok_or(TokenFault::Parts);
        let (header, payload) = (part(0, first)?, part(first + 1, second)?);
        let signature = part(second + 1, token.len())?;
        Ok(Self {
            header: Header::parse(&decode(header)?)?,
            signed: part(0, second)?,
            payload: decode(payload)?,
            signature: decode(signature)?,
        })
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// The bytes that are signed.
    pub(super) fn signed(&self) -> &[u8] {
        self.signed
    }

    /// The decoded payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    pub(super) fn signature(&self) -> &[u8] {
        &self.signature
    }
}

impl Header {
    fn parse(text: &[u8]) -> Result<Self, TokenFault> {
        if text.len() > MAX_HEADER_BYTES {
            return Err(TokenFault::HeaderTooLong);
        }
        let members = json::object(text).map_err(|_| TokenFault::Header)?;
        for (name, fault) in [
            ("crit", TokenFault::Critical),
            ("b64", TokenFault::Unencoded),
            ("enc", TokenFault::Encrypted),
            ("zip", TokenFault::Encrypted),
        ] {
            if members.contains_key(name) {
                return Err(fault);
            }
        }
        let algorithm = members.get("alg").and_then(Value::as_str);
        let algorithm = algorithm
            .and_then(Algorithm::parse)
            .ok_or(TokenFault::UnknownAlgorithm)?;
        let key_id = text_member(members.get("kid"), TokenFault::KeyId)?;
        if key_id.is_some_and(|id| id.is_empty() || id.len() > MAX_KEY_ID_BYTES) {
            return Err(TokenFault::KeyId);
        }
        let content = text_member(members.get("cty"), TokenFault::Nested)?;
        if content.is_some_and(|content| media_type(content).eq_ignore_ascii_case("jwt")) {
            return Err(TokenFault::Nested);
        }
        let kind = text_member(members.get("typ"), TokenFault::TypeForm)?;
        Ok(Self {
            algorithm,
            key_id: key_id.map(str::to_owned),
            kind: kind.map(str::to_owned),
        })
    }
}

/// A media type without the `application/` that RFC 7515 section 4.1.9 allows to leave out.
pub(super) fn media_type(text: &str) -> &str {
    match text.split_at_checked("application/".len()) {
        Some((before, rest)) if before.eq_ignore_ascii_case("application/") => rest,
        _ => text,
    }
}

fn text_member(value: Option<&Value>, fault: TokenFault) -> Result<Option<&str>, TokenFault> {
    value.map(|value| value.as_str().ok_or(fault)).transpose()
}

/// Base64url without padding, white space or bits that are left over.
fn decode(part: &[u8]) -> Result<Vec<u8>, TokenFault> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenFault::Encoding)
}
