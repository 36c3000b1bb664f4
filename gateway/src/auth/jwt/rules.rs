//! [`IssuerRules`]: the settings of one issuer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix_http::header::HeaderName;
use serde_json::Value;

use crate::auth::jwt::algorithm::Algorithms;
use crate::auth::jwt::json::Object;
use crate::auth::jwt::key_set::KeySet;
use crate::tls::origin::OriginTls;

/// Settings of an issuer.
#[derive(Clone, Debug, PartialEq)]
pub struct IssuerRules {
    /// Name in settings, logs and metrics.
    pub name: Arc<str>,
    /// Exact text of `iss`.
    pub issuer: Box<str>,
    /// Accepted values of `aud`.
    pub audiences: Audiences,
    /// Accepted algorithms.
    pub algorithms: Algorithms,
    /// Tolerance for clocks that differ, in all comparisons with the time.
    pub clock_skew: Duration,
    /// Accepted values of `typ`, without `application/`; `None` accepts `JWT`, `at+jwt` and none.
    pub types: Option<Vec<Box<str>>>,
    /// Longest time from `iat` to `exp`.
    pub max_lifetime: Option<Duration>,
    /// What happens to a token that is bound to a key of its holder.
    pub on_confirmation: OnConfirmation,
    /// Claim with the scopes; `None` means `scope`, or `scp` where there is no `scope`.
    pub scopes_claim: Option<ClaimPath>,
    /// Claim whose value is the `custom_id` of the consumer.
    pub consumer_claim: Option<ClaimPath>,
    /// What happens where there is no such consumer.
    pub on_unknown_consumer: OnUnknownConsumer,
    /// Claims with the only values that they may have.
    pub required_claims: Vec<RequiredClaim>,
    /// Headers for the origin, with the claims that they carry.
    pub forward_claims: Vec<(HeaderName, ClaimPath)>,
    /// Where the keys come from.
    pub keys: KeySource,
    /// TLS to the servers of published keys, by authorities of its own; `None` means by those of the
    /// system.
    pub tls: Option<OriginTls>,
    /// Time after which published keys are fetched again.
    pub refresh: Duration,
    /// Shortest time between fetches that tokens with an unknown key cause.
    pub cooldown: Duration,
    /// Longest time that fetched keys serve while they cannot be fetched again.
    pub max_stale: Duration,
}

impl IssuerRules {
    /// Headers that carry claims of its tokens.
    pub fn headers_of_claims(&self) -> impl Iterator<Item = &HeaderName> {
        self.forward_claims.iter().map(|(name, _)| name)
    }
}

/// Accepted values of `aud` (RFC 7519 section 4.1.3).
#[derive(Clone, Debug, PartialEq)]
pub enum Audiences {
    /// Tokens for anybody are taken.
    Any,
    /// One of these.
    OneOf(Vec<Box<str>>),
}

/// What happens to a token with `cnf` (RFC 7800), whose binding the gateway cannot check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConfirmation {
    /// It is refused.
    Reject,
    /// It is taken like any other.
    Ignore,
}

/// What happens where no consumer has the value of `consumer_claim`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnknownConsumer {
    /// The request is refused.
    Reject,
    /// The request passes without a consumer.
    Allow,
}

/// A claim that must have one of some values.
#[derive(Clone, Debug, PartialEq)]
pub struct RequiredClaim {
    /// The claim.
    pub claim: ClaimPath,
    /// Accepted values: of a text, or of a number or a boolean as JSON writes it.
    pub values: Vec<Box<str>>,
}

/// Origin of an issuer's keys.
#[derive(Clone, Debug, PartialEq)]
pub enum KeySource {
    /// The document at `/.well-known/openid-configuration` below the issuer says where.
    Discovery,
    /// Key set at a URL.
    Url(Box<str>),
    /// Key set or secret of a file, as it was read with the settings.
    Fixed(Arc<KeySet>),
}

/// Way to a claim: the names of objects within each other.
#[derive(Clone, PartialEq, Eq)]
pub struct ClaimPath(Box<[Box<str>]>);

impl ClaimPath {
    /// A path of at least one name; `None` without one.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = Box<str>>) -> Option<Self> {
        let names: Box<[_]> = names.into_iter().collect();
        (!names.is_empty()).then_some(Self(names))
    }

    /// Value of the claim.
    pub(super) fn find<'c>(&self, claims: &'c Object) -> Option<&'c Value> {
        let (first, rest) = self.0.split_first()?;
        rest.iter()
            .try_fold(claims.get(&**first)?, |value, name| value.get(&**name))
    }
}

impl From<&str> for ClaimPath {
    fn from(name: &str) -> Self {
        Self(Box::new([name.into()]))
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.join(" → "))
    }
}

impl fmt::Debug for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}
