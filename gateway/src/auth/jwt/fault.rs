//! [`TokenFault`]: the rule that a token fails.

use thiserror::Error;

/// Generates the enum of faults, their words and their sentences.
macro_rules! faults {
    ($($fault:ident => $word:literal, $sentence:literal;)+) => {
        /// The rule that a token fails, from the first that is looked at to the last.
        #[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
        pub enum TokenFault {
            $(
                #[doc = concat!($sentence, ".")]
                #[error($sentence)]
                $fault,
            )+
        }

        impl TokenFault {
            /// All of them.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$fault),+];

            /// Words of all of them.
            pub const WORDS: [&str; Self::ALL.len()] = [$($word),+];

            /// One word, for log and metrics.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$fault => $word,)+
                }
            }
        }
    };
}

faults! {
    TooLong => "too_long", "the token has more than 8192 bytes";
    Parts => "parts", "the token does not have three parts: a header, claims and a signature";
    Encoding => "encoding", "a part of the token is not base64url without padding (RFC 7515 section 2)";
    Header => "header", "the header is not a JSON object, or has the same member twice";
    HeaderTooLong => "header_too_long", "the header has more than 1024 bytes";
    UnknownAlgorithm => "unknown_algorithm", "the header names an algorithm that does not exist here, such as \"none\"";
    Critical => "critical", "the header has `crit`: it demands an extension that the gateway does not have (RFC 7515 section 4.1.11)";
    Unencoded => "unencoded", "the header has `b64`: the claims are not encoded (RFC 7797)";
    Encrypted => "encrypted", "the header has `enc` or `zip`: the token is encrypted or compressed";
    Nested => "nested", "the header has the `cty` of a token within a token";
    KeyId => "key_id", "`kid` is not a text of 1 to 256 bytes";
    TypeForm => "type_form", "`typ` is not a text";
    Claims => "claims", "the claims are not a JSON object, have the same member twice or more than 16 levels";
    IssuerMissing => "issuer_missing", "`iss` is missing or is not a text";
    IssuerUnknown => "issuer_unknown", "`iss` is the text of no configured issuer: every character counts, also a `/` at its end";
    IssuerNotAccepted => "issuer_not_accepted", "the issuer is configured, but the route does not take its tokens";
    Algorithm => "algorithm", "the algorithm is not among the issuer's";
    Type => "type", "`typ` is not one that the issuer's access tokens have";
    KeysUnavailable => "keys_unavailable", "the gateway does not have the issuer's keys";
    KeyUnknown => "key_unknown", "`kid` names a key that the issuer does not publish, as far as the gateway knows";
    KeyUnfit => "key_unfit", "none of the issuer's keys that the token may be signed with is for its algorithm";
    KeyAmbiguous => "key_ambiguous", "the token names no key, and the issuer has more than five that it may be signed with";
    Signature => "signature", "the signature is wrong";
    Expiry => "expiry", "`exp` is missing or is not a number from 0";
    Expired => "expired", "the token has expired";
    NotBeforeForm => "not_before_form", "`nbf` is not a number";
    NotYetValid => "not_yet_valid", "`nbf` is in the future";
    IssuedAtForm => "issued_at_form", "`iat` is not a number";
    IssuedInFuture => "issued_in_future", "`iat` is in the future";
    Lifetime => "lifetime", "the token is valid for longer than `max_lifetime`, or has no `iat` to tell";
    Audience => "audience", "`aud` is missing, is no text or list of texts, or has none of the configured audiences";
    Subject => "subject", "`sub` is not a text of 1 to 256 bytes";
    Confirmation => "confirmation", "the token is bound to a key of its holder (`cnf`), which the gateway cannot check";
    RequiredClaim => "required_claim", "a claim of `required_claims` is missing or has another value";
    Scopes => "scopes", "the scopes have more than 4096 bytes together";
    ForwardedClaim => "forwarded_claim", "a claim of `forward_claims` has more than 1024 bytes";
    RulesChanged => "rules_changed", "the issuer is no longer configured as it was when the token was checked";
    KeyRemoved => "key_removed", "the issuer no longer publishes the key that signed the token";
}

impl TokenFault {
    /// Whether the signature is right and only the time is over.
    #[must_use]
    pub fn is_expired(self) -> bool {
        self == Self::Expired
    }

    /// Whether nothing can be said of the token, because the issuer's keys are not there.
    #[must_use]
    pub fn keys_unavailable(self) -> bool {
        self == Self::KeysUnavailable
    }

    /// Whether the token is of a configured issuer that the route does not take.
    #[must_use]
    pub fn not_accepted(self) -> bool {
        self == Self::IssuerNotAccepted
    }

    /// Whether a signature was computed and is wrong.
    #[must_use]
    pub fn is_forged(self) -> bool {
        self == Self::Signature
    }
}
