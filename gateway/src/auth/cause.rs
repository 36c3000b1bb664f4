//! Reasons for a denied credential, for the access log. The client gets less detail: a guesser must
//! learn nothing from the response.

use actix_http::header::{self, HeaderName, HeaderValue};

use crate::auth::api_key;
use crate::auth::demand::Denial;
use crate::auth::jwt::TokenFault;
use crate::auth::key_source::split_scheme;
use crate::auth::key_sources::Credentials;
use crate::keys::{MalformedKey, Prefix, token};

/// Generates the enum of causes and the list of their names, one row per cause.
macro_rules! causes {
    ($($(#[$meta:meta])+ $cause:ident => $name:literal;)+) => {
        /// Reason for a denied credential.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Cause {
            $($(#[$meta])+ $cause,)+
        }

        impl Cause {
            /// Names of all causes.
            pub const NAMES: [&str; [$($name),+].len()] = [$($name),+];

            /// Name in the access log and in metrics.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$cause => $name,)+
                }
            }
        }
    };
}

causes! {
    /// Nothing in any place that the route takes keys from.
    NoHeader => "no_header";
    /// Nothing there, but in a header that often has keys and is none of the route's.
    OtherHeader => "other_header";
    /// `Authorization` with a scheme that is none of the route's, such as `Basic`.
    OtherScheme => "other_scheme";
    /// `Authorization` with one word, without a scheme before it.
    NoScheme => "no_scheme";
    /// More than one key, or more than one `Authorization` header.
    Twice => "twice";
    /// Nothing after the scheme.
    Empty => "empty";
    /// Quotation marks around the key, or one of them.
    Quoted => "quoted";
    /// A character that no key has.
    BadCharacter => "bad_character";
    /// Longer than any key.
    TooLong => "too_long";
    /// Prefix of this gateway's keys, but too short.
    CutOff => "cut_off";
    /// Prefix of this gateway's keys, but too long.
    Extended => "extended";
    /// Form of this gateway's keys, but a wrong checksum.
    Checksum => "checksum";
    /// Well formed, but in no key table.
    Unknown => "unknown";
    /// The key has expired.
    Expired => "expired";
    /// The key was revoked.
    Revoked => "revoked";
    /// The key is disabled.
    Disabled => "disabled";
    /// The key may not be used from the client's address.
    Address => "address";
    /// The key may not be used with the method.
    Method => "method";
    /// The key may not be used on the route.
    Route => "route";
    /// The route takes no keys of its bucket.
    Bucket => "bucket";
    /// The key or the token lacks a scope of the route.
    Scope => "scope";
    /// A kind of credential that the route does not take, or a token of an issuer that it does not.
    NotAccepted => "not_accepted";
    /// A token that is no well-formed one, or has a header that is not accepted.
    TokenForm => "token_form";
    /// A token of no configured issuer.
    TokenIssuer => "token_issuer";
    /// A token with an algorithm that the issuer does not use.
    TokenAlgorithm => "token_algorithm";
    /// A token of another type than access tokens have.
    TokenType => "token_type";
    /// A token signed with no key of the issuer.
    TokenKey => "token_key";
    /// A token with a wrong signature.
    TokenSignature => "token_signature";
    /// A token that has expired.
    TokenExpired => "token_expired";
    /// A token with a time that is missing, malformed, in the future or too far away.
    TokenTime => "token_time";
    /// A token for another audience.
    TokenAudience => "token_audience";
    /// A token with a claim that is malformed, too large or not one of the accepted.
    TokenClaims => "token_claims";
    /// A token that is bound to a key of its holder.
    TokenBound => "token_bound";
    /// A token that cannot be checked without the keys of its issuer.
    TokenKeysUnavailable => "token_keys_unavailable";
    /// A token that was not checked, because too many forged ones came from the address.
    TokenNotChecked => "token_not_checked";
    /// A token whose issuer is configured in another way now, or dropped the key that signed it.
    TokenWithdrawn => "token_withdrawn";
    /// A token that names a consumer that does not exist.
    ConsumerUnknown => "consumer_unknown";
    /// A token that names a consumer by an id that several have.
    ConsumerUnclear => "consumer_unclear";
}

/// Headers that carry keys at other gateways.
const OTHER_HEADERS: [HeaderName; 4] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("apikey"),
];

impl Cause {
    /// Derives the cause of `denial` from the request. Too slow for the path of admitted requests.
    #[must_use]
    pub fn of(denial: Denial, credentials: &Credentials<'_>, prefix: &Prefix) -> Self {
        match denial {
            Denial::Missing => Self::of_missing(credentials),
            Denial::Twice => Self::Twice,
            Denial::Malformed(_) | Denial::Unknown if is_quoted(credentials) => Self::Quoted,
            Denial::Malformed(MalformedKey::Empty) => Self::Empty,
            Denial::Malformed(MalformedKey::TooLong) => Self::TooLong,
            Denial::Malformed(MalformedKey::Charset) => Self::BadCharacter,
            Denial::Malformed(MalformedKey::Checksum) => Self::Checksum,
            Denial::Unknown => Self::of_unknown(credentials, prefix),
            Denial::Expired => Self::Expired,
            Denial::Revoked => Self::Revoked,
            Denial::Disabled => Self::Disabled,
            Denial::Address => Self::Address,
            Denial::Method => Self::Method,
            Denial::Route => Self::Route,
            Denial::Bucket => Self::Bucket,
            Denial::Scope => Self::Scope,
            Denial::NotAccepted => Self::NotAccepted,
            Denial::Token(fault) => Self::of_token(fault),
            Denial::NotChecked => Self::TokenNotChecked,
            Denial::ConsumerUnknown => Self::ConsumerUnknown,
            Denial::ConsumerUnclear => Self::ConsumerUnclear,
        }
    }

    /// Groups the rules that a token can fail. `gateway jwt verify` names each of them.
    fn of_token(fault: TokenFault) -> Self {
        match fault {
            TokenFault::TooLong
            | TokenFault::Parts
            | TokenFault::Encoding
            | TokenFault::Header
            | TokenFault::HeaderTooLong
            | TokenFault::Critical
            | TokenFault::Unencoded
            | TokenFault::Encrypted
            | TokenFault::Nested
            | TokenFault::KeyId
            | TokenFault::TypeForm
            | TokenFault::Claims => Self::TokenForm,
            TokenFault::IssuerMissing | TokenFault::IssuerUnknown => Self::TokenIssuer,
            TokenFault::IssuerNotAccepted => Self::NotAccepted,
            TokenFault::UnknownAlgorithm | TokenFault::Algorithm => Self::TokenAlgorithm,
            TokenFault::Type => Self::TokenType,
            TokenFault::KeysUnavailable => Self::TokenKeysUnavailable,
            TokenFault::KeyUnknown | TokenFault::KeyUnfit | TokenFault::KeyAmbiguous => {
                Self::TokenKey
            }
            TokenFault::Signature => Self::TokenSignature,
            TokenFault::Expired => Self::TokenExpired,
            TokenFault::Expiry
            | TokenFault::NotBeforeForm
            | TokenFault::NotYetValid
            | TokenFault::IssuedAtForm
            | TokenFault::IssuedInFuture
            | TokenFault::Lifetime => Self::TokenTime,
            TokenFault::Audience => Self::TokenAudience,
            TokenFault::Subject
            | TokenFault::RequiredClaim
            | TokenFault::Scopes
            | TokenFault::ForwardedClaim => Self::TokenClaims,
            TokenFault::Confirmation => Self::TokenBound,
            TokenFault::RulesChanged | TokenFault::KeyRemoved => Self::TokenWithdrawn,
        }
    }

    fn of_missing(credentials: &Credentials<'_>) -> Self {
        let (sources, headers) = (credentials.sources, credentials.headers);
        let line = headers
            .get(header::AUTHORIZATION)
            .filter(|_| sources.read_authorization());
        match line {
            Some(line) if has_credential(line) => Self::OtherScheme,
            Some(line) if is_scheme(line) => Self::OtherScheme,
            Some(_) => Self::NoScheme,
            None if OTHER_HEADERS.iter().any(|name| headers.contains_key(name)) => {
                Self::OtherHeader
            }
            None => Self::NoHeader,
        }
    }

    fn of_unknown(credentials: &Credentials<'_>, prefix: &Prefix) -> Self {
        let compared = credentials.find().ok();
        let compared = compared.map(|found| token::compare_length(&found.token, prefix));
        match compared.flatten() {
            Some(std::cmp::Ordering::Less) => Self::CutOff,
            Some(std::cmp::Ordering::Greater) => Self::Extended,
            Some(std::cmp::Ordering::Equal) | None => Self::Unknown,
        }
    }
}

fn is_quoted(credentials: &Credentials<'_>) -> bool {
    let found = credentials.find();
    found.is_ok_and(|found| api_key::is_quoted(&found.token))
}

/// Whether the line is a scheme with a credential after it.
fn has_credential(line: &HeaderValue) -> bool {
    let (_, credential) = split_scheme(line.as_bytes().trim_ascii());
    credential.is_some()
}

/// Whether the line is a scheme without a credential.
fn is_scheme(line: &HeaderValue) -> bool {
    ["basic", "digest", "negotiate", "ntlm", "token", "apikey"]
        .iter()
        .any(|scheme| line.as_bytes().eq_ignore_ascii_case(scheme.as_bytes()))
}

#[cfg(test)]
mod tests {
    use actix_http::header::HeaderMap;

    use super::*;
    use crate::auth::api_key::authenticate;
    use crate::auth::key_sources::KeySources;
    use crate::keys::KeyTable;
    use crate::keys::token::PlainKey;

    #[test]
    fn each_way_not_to_send_a_key_has_a_cause_of_its_own() {
        let prefix = Prefix::default();
        let key = PlainKey::generate(&prefix).unwrap();
        let key = key.expose();
        let bearer = |token: &str| vec![("authorization", format!("Bearer {token}"))];
        let typo = format!(
            "{}{}",
            &key[..key.len() - 1],
            if key.ends_with('0') { '1' } else { '0' }
        );
        for (lines, cause) in [
            (vec![], Cause::NoHeader),
            (vec![("x-api-key", key.to_owned())], Cause::OtherHeader),
            (
                vec![("authorization", "Basic dXNlcjpwYXNz".to_owned())],
                Cause::OtherScheme,
            ),
            (
                vec![("authorization", "basic".to_owned())],
                Cause::OtherScheme,
            ),
            (vec![("authorization", key.to_owned())], Cause::NoScheme),
            (
                vec![("authorization", format!("Bearer{key}"))],
                Cause::NoScheme,
            ),
            ([bearer(key), bearer(key)].concat(), Cause::Twice),
            (bearer(""), Cause::Empty),
            (bearer(&format!("\"{key}\"")), Cause::Quoted),
            (bearer(&format!("'{key}")), Cause::Quoted),
            (bearer(&format!("{key},")), Cause::BadCharacter),
            (bearer(&"a".repeat(600)), Cause::TooLong),
            (bearer(&key[..key.len() - 1]), Cause::CutOff),
            (bearer(&format!("{key}x")), Cause::Extended),
            (bearer(&typo), Cause::Checksum),
            (bearer(key), Cause::Unknown),
            (bearer("of-another-gateway"), Cause::Unknown),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in &lines {
                headers.append(
                    HeaderName::from_static(name),
                    HeaderValue::from_str(value).unwrap(),
                );
            }
            let credentials = Credentials {
                sources: &KeySources::default(),
                headers: &headers,
                query: None,
            };
            let denial = authenticate(&credentials, &KeyTable::new(), &prefix).unwrap_err();
            assert_eq!(Cause::of(denial, &credentials, &prefix), cause, "{lines:?}");
        }
    }
}
