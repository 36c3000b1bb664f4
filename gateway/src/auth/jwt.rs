//! JSON Web Tokens: strict verification of compact JWS (RFC 7515, 7519) along RFC 8725 and RFC 9068,
//! by the keys of configured issuers. Does no I/O: the control plane brings the keys.

pub mod algorithm;
mod cache;
mod claims;
pub mod compact;
pub mod fault;
pub mod issuer;
pub mod issuer_keys;
pub mod issuers;
mod json;
pub mod key;
pub mod key_set;
mod roca;
pub mod rules;
pub mod verified;

#[cfg(test)]
pub(crate) mod signer;
#[cfg(test)]
mod tests;

pub use self::algorithm::{Algorithm, Algorithms};
pub use self::claims::percent_encoded;
pub use self::compact::Compact;
pub use self::fault::TokenFault;
pub use self::issuer::{Issuer, TokenResult};
pub use self::issuer_keys::{FetchProblem, FetchResult, IssuerKeys, KeyOrigin, KeyState};
pub use self::issuers::{Examination, Issuers};
pub use self::key_set::{InvalidKeySet, KeySet, ParsedKeySet};
pub use self::rules::{
    Audiences, ClaimPath, IssuerRules, KeySource, OnConfirmation, OnUnknownConsumer, RequiredClaim,
};
pub use self::verified::VerifiedToken;

use self::json::JsonFault;

use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine as _, GeneralPurpose, GeneralPurposeConfig};

/// Maximum length of a token in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Reads what strict decoding refuses, too, so that a damaged token is still told from a key.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Whether a credential is a token rather than a key: two dots or more, and a first part that is a
/// JSON object with a string `alg`. So an encrypted token, of five parts, is one, too.
#[must_use]
pub fn is_token(credential: &[u8]) -> bool {
    let Some(first) = first_of_three(credential) else {
        return false;
    };
    let Ok(header) = LENIENT.decode(first) else {
        return false;
    };
    match json::object(&header) {
        Ok(header) => header.get("alg").is_some_and(serde_json::Value::is_string),
        // A bad token is one all the same.
        Err(JsonFault::Duplicate | JsonFault::Depth) => true,
        Err(JsonFault::Form | JsonFault::NotAnObject) => false,
    }
}

/// The part before the first dot, if there is a second one.
fn first_of_three(credential: &[u8]) -> Option<&[u8]> {
    let mut dots = memchr::memchr_iter(b'.', credential);
    let first = dots.next()?;
    dots.next()?;
    credential.get(..first)
}
