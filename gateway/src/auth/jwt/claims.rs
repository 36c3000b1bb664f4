//! Claims of a token (RFC 7519 section 4, RFC 9068 section 4), checked along the rules of its issuer.

use std::fmt::Write as _;
use std::time::Duration;

use actix_http::header::{HeaderName, HeaderValue};
use serde_json::Value;

use crate::auth::jwt::compact::{Header, media_type};
use crate::auth::jwt::fault::TokenFault;
use crate::auth::jwt::json::Object;
use crate::auth::jwt::rules::{Audiences, ClaimPath, IssuerRules, OnConfirmation};
use crate::keys::{Scopes, UnixMillis};

/// Maximum bytes of `sub` and of the value of `consumer_claim`.
const MAX_NAME_BYTES: usize = 256;
/// Maximum bytes of a forwarded claim, before it is encoded.
const MAX_FORWARDED_BYTES: usize = 1024;

/// What the claims say of the caller.
pub(super) struct Identity {
    pub(super) subject: Option<Box<str>>,
    pub(super) scopes: Scopes,
    pub(super) consumer: Option<Box<str>>,
    pub(super) ends_at: UnixMillis,
    pub(super) forwarded: Vec<(HeaderName, HeaderValue)>,
}

/// Checks what the header says of the kind of the token.
pub(super) fn check_header(rules: &IssuerRules, header: &Header) -> Result<(), TokenFault> {
    if !rules.algorithms.contains(header.algorithm) {
        return Err(TokenFault::Algorithm);
    }
    let kind = header.kind.as_deref().map(media_type);
    let is_accepted = match (&rules.types, kind) {
        (None, None) => true,
        (None, Some(kind)) => ["jwt", "at+jwt"]
            .iter()
            .any(|accepted| kind.eq_ignore_ascii_case(accepted)),
        (Some(_), None) => false,
        (Some(types), Some(kind)) => types
            .iter()
            .any(|accepted| kind.eq_ignore_ascii_case(media_type(accepted))),
    };
    if is_accepted {
        Ok(())
    } else {
        Err(TokenFault::Type)
    }
}

/// Checks the claims and reads the caller's identity from them.
pub(super) fn check(
    rules: &IssuerRules,
    claims: &Object,
    now: UnixMillis,
) -> Result<Identity, TokenFault> {
    let ends_at = check_times(rules, claims, now)?;
    check_audience(&rules.audiences, claims)?;
    if rules.on_confirmation == OnConfirmation::Reject && claims.contains_key("cnf") {
        return Err(TokenFault::Confirmation);
    }
    for required in &rules.required_claims {
        let value = required.claim.find(claims);
        if !value.is_some_and(|value| is_one_of(value, &required.values)) {
            return Err(TokenFault::RequiredClaim);
        }
    }
    let subject = match claims.get("sub") {
        None => None,
        Some(Value::String(subject)) if (1..=MAX_NAME_BYTES).contains(&subject.len()) => {
            Some(subject.as_str().into())
        }
        Some(_) => return Err(TokenFault::Subject),
    };
    let consumer = rules.consumer_claim.as_ref();
    Ok(Identity {
        subject,
        scopes: scopes(rules, claims)?,
        consumer: consumer.and_then(|claim| consumer_id(claim.find(claims)?)),
        ends_at,
        forwarded: forwarded(&rules.forward_claims, claims)?,
    })
}

/// Checks the times, and returns the moment from which the token is not valid any more.
fn check_times(
    rules: &IssuerRules,
    claims: &Object,
    now: UnixMillis,
) -> Result<UnixMillis, TokenFault> {
    let latest = now.after(rules.clock_skew);
    let moment = |name: &str, fault: TokenFault| {
        let seconds = claims.get(name).map(|value| value.as_f64().ok_or(fault));
        seconds.transpose().map(|seconds| seconds.map(millis))
    };
    let expiry = moment("exp", TokenFault::Expiry)?
        .filter(|expiry| expiry.0 >= 0)
        .ok_or(TokenFault::Expiry)?;
    let not_before = moment("nbf", TokenFault::NotBeforeForm)?;
    let issued_at = moment("iat", TokenFault::IssuedAtForm)?;
    let ends_at = expiry.after(rules.clock_skew);
    if now >= ends_at {
        return Err(TokenFault::Expired);
    }
    if not_before.is_some_and(|not_before| not_before > latest) {
        return Err(TokenFault::NotYetValid);
    }
    if issued_at.is_some_and(|issued_at| issued_at > latest) {
        return Err(TokenFault::IssuedInFuture);
    }
    if let Some(most) = rules.max_lifetime {
        let is_short = issued_at.is_some_and(|issued_at| expiry <= issued_at.after(most));
        if !is_short {
            return Err(TokenFault::Lifetime);
        }
    }
    Ok(ends_at)
}

/// A NumericDate (RFC 7519 section 2) in milliseconds, rounded down; saturates.
#[expect(
    clippy::cast_possible_truncation,
    reason = "saturates at the ends of time, which is what is wanted"
)]
fn millis(seconds: f64) -> UnixMillis {
    UnixMillis((seconds * Duration::from_secs(1).as_millis() as f64).floor() as i64)
}

fn check_audience(audiences: &Audiences, claims: &Object) -> Result<(), TokenFault> {
    let Audiences::OneOf(ours) = audiences else {
        return Ok(());
    };
    let is_ours = |audience: &str| ours.iter().any(|own| **own == *audience);
    let is_accepted = match claims.get("aud") {
        Some(Value::String(audience)) => is_ours(audience),
        Some(Value::Array(listed)) => {
            let texts: Option<Vec<&str>> = listed.iter().map(Value::as_str).collect();
            texts.is_some_and(|texts| texts.into_iter().any(is_ours))
        }
        _ => false,
    };
    if is_accepted {
        Ok(())
    } else {
        Err(TokenFault::Audience)
    }
}

/// Whether the value, or one of a list, is among `accepted`.
fn is_one_of(value: &Value, accepted: &[Box<str>]) -> bool {
    let is_accepted = |text: &str| accepted.iter().any(|accepted| **accepted == *text);
    match value {
        Value::Array(values) => values
            .iter()
            .any(|value| primitive(value).is_some_and(|text| is_accepted(&text))),
        value => primitive(value).is_some_and(|text| is_accepted(&text)),
    }
}

/// Scopes of the token: a text of words, or a list of them. What is no well-formed scope grants
/// nothing.
fn scopes(rules: &IssuerRules, claims: &Object) -> Result<Scopes, TokenFault> {
    let value = match &rules.scopes_claim {
        Some(claim) => claim.find(claims),
        None => claims.get("scope").or_else(|| claims.get("scp")),
    };
    let texts: Vec<&str> = match value {
        Some(Value::String(text)) => text.split(' ').collect(),
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let well_formed = texts.into_iter().filter_map(|text| text.parse().ok());
    Scopes::new(well_formed).map_err(|_| TokenFault::Scopes)
}

/// The id of a consumer: a text or a whole number.
fn consumer_id(value: &Value) -> Option<Box<str>> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
        _ => return None,
    };
    (1..=MAX_NAME_BYTES)
        .contains(&text.len())
        .then(|| text.into())
}

fn forwarded(
    wanted: &[(HeaderName, ClaimPath)],
    claims: &Object,
) -> Result<Vec<(HeaderName, HeaderValue)>, TokenFault> {
    let found = wanted.iter().filter_map(|(name, claim)| {
        let text = primitive(claim.find(claims)?)?;
        Some((name, text))
    });
    let headers = found.map(|(name, text)| {
        if text.len() > MAX_FORWARDED_BYTES {
            return Err(TokenFault::ForwardedClaim);
        }
        let value = HeaderValue::try_from(percent_encoded(&text));
        let value = value.map_err(|_| TokenFault::ForwardedClaim)?;
        Ok((name.clone(), value))
    });
    headers.collect()
}

/// A primitive value as text.
fn primitive(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Percent-encodes every byte that is not visible ASCII, and `%` itself.
#[must_use]
pub fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
