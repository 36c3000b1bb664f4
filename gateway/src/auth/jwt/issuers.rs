//! [`Issuers`]: all configured issuers, and the tokens that they verified.

use std::sync::Arc;

use actix_http::header::HeaderName;
use serde_json::Value;

use crate::auth::jwt::cache::Cache;
use crate::auth::jwt::compact::Compact;
use crate::auth::jwt::fault::TokenFault;
use crate::auth::jwt::issuer::{Issuer, TokenResult};
use crate::auth::jwt::json::{self, Object};
use crate::auth::jwt::rules::IssuerRules;
use crate::auth::jwt::verified::VerifiedToken;
use crate::auth::jwt::{MAX_TOKEN_BYTES, first_of_three};
use crate::keys::{KeyDigest, UnixMillis};

/// All configured issuers, as one generation of the settings has them.
#[derive(Debug, Default)]
pub struct Issuers {
    issuers: Vec<Arc<Issuer>>,
    forwarded_names: Vec<HeaderName>,
    cache: Arc<Cache>,
}

/// What was found out about a token, for whoever asks why it is refused.
#[derive(Debug)]
pub struct Examination {
    /// The issuer that the token names, if it is configured.
    pub issuer: Option<Arc<Issuer>>,
    /// The token, or the first rule that it fails.
    pub result: Result<VerifiedToken, TokenFault>,
}

impl Issuers {
    /// Issuers with these rules. An issuer whose rules are those of `before` stays the same, with
    /// the tokens that it verified; one whose keys come from the same source keeps the keys.
    #[must_use]
    pub fn new(rules: Vec<IssuerRules>, before: Option<&Self>) -> Arc<Self> {
        let known = before.map_or(&[][..], |before| &before.issuers);
        let issuers: Vec<_> = rules
            .into_iter()
            .map(|rules| {
                let same = known.iter().find(|known| *known.rules() == rules);
                let of_source = known.iter().find(|known| {
                    known.rules().issuer == rules.issuer && known.rules().keys == rules.keys
                });
                let namesake = known.iter().find(|known| *known.name() == *rules.name);
                let made = || {
                    Issuer::new(
                        rules,
                        of_source.map(|known| &**known),
                        namesake.map(|known| &**known),
                    )
                };
                same.map_or_else(|| Arc::new(made()), Arc::clone)
            })
            .collect();
        let mut forwarded_names: Vec<_> = issuers
            .iter()
            .flat_map(|issuer| &issuer.rules().forward_claims)
            .map(|(name, _)| name.clone())
            .collect();
        forwarded_names.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        forwarded_names.dedup();
        let cache = before.map_or_else(Arc::default, |before| Arc::clone(&before.cache));
        let made = Self {
            issuers,
            forwarded_names,
            cache,
        };
        // Only room: a token of an issuer that is gone is refused in any case.
        made.cache.retain(|token| made.has(token.issuer()));
        Arc::new(made)
    }

    /// Whether no issuer is configured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.issuers.is_empty()
    }

    /// Issuers in the order of the settings.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Issuer>> {
        self.issuers.iter()
    }

    /// Issuer with this name in the settings.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Arc<Issuer>> {
        self.issuers.iter().find(|issuer| issuer.name() == name)
    }

    /// Headers that carry claims, of any issuer, in order: only the gateway may set them.
    #[must_use]
    pub fn forwarded_names(&self) -> &[HeaderName] {
        &self.forwarded_names
    }

    /// Verifies a token. Its issuer is the one whose `issuer` is exactly its `iss`, and only the
    /// keys of this issuer are tried.
    ///
    /// # Errors
    /// The first rule that the token fails.
    pub fn verify(
        &self,
        token: &[u8],
        accepted: impl Fn(&Issuer) -> bool,
        now: UnixMillis,
    ) -> Result<Arc<VerifiedToken>, TokenFault> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenFault::TooLong);
        }
        let digest = KeyDigest::of(token);
        self.known(&digest, &accepted, now)
            .unwrap_or_else(|| self.verify_anew(token, digest, accepted, now))
    }

    /// Checks that a verified token is still one: its issuer is configured with the same rules, its
    /// key is still the issuer's, and it has not expired.
    ///
    /// # Errors
    /// What has changed.
    pub fn still_admits(&self, token: &VerifiedToken, now: UnixMillis) -> Result<(), TokenFault> {
        if !self.has(token.issuer()) {
            return Err(TokenFault::RulesChanged);
        }
        token.issuer().trusts(&token.key, now)?;
        if now >= token.ends_at() {
            return Err(TokenFault::Expired);
        }
        Ok(())
    }

    /// Verifies a token without the tokens that were verified before, and without counting it.
    #[must_use]
    pub fn examine(&self, token: &[u8], now: UnixMillis) -> Examination {
        let named = || {
            let compact = Compact::parse(token)?;
            let claims = json::object(compact.payload()).map_err(|_| TokenFault::Claims)?;
            let issuer = self.named(&claims)?;
            Ok((compact, claims, Arc::clone(issuer)))
        };
        match named() {
            Err(fault) => Examination {
                issuer: None,
                result: Err(fault),
            },
            Ok((compact, claims, issuer)) => Examination {
                result: verified(&issuer, &compact, &claims, KeyDigest::of(token), now),
                issuer: Some(issuer),
            },
        }
    }

    /// Result for a token that was verified before, without a look at its form or signature; `None`
    /// for any other.
    #[must_use]
    pub fn cached(
        &self,
        credential: &[u8],
        accepted: impl Fn(&Issuer) -> bool,
        now: UnixMillis,
    ) -> Option<Result<Arc<VerifiedToken>, TokenFault>> {
        first_of_three(credential)?;
        if credential.len() > MAX_TOKEN_BYTES {
            return None;
        }
        self.known(&KeyDigest::of(credential), accepted, now)
    }

    /// Result for a token that was verified before, if that still says something.
    fn known(
        &self,
        digest: &KeyDigest,
        accepted: impl Fn(&Issuer) -> bool,
        now: UnixMillis,
    ) -> Option<Result<Arc<VerifiedToken>, TokenFault>> {
        let token = self.cache.get(digest)?;
        if !self.has(token.issuer()) {
            // Another generation of the settings verified it.
            return None;
        }
        if !accepted(token.issuer()) {
            return Some(Err(TokenFault::IssuerNotAccepted));
        }
        match self.still_admits(&token, now) {
            Ok(()) => {
                token.issuer().count(TokenResult::Cached);
                Some(Ok(token))
            }
            Err(TokenFault::KeyRemoved | TokenFault::RulesChanged) => {
                self.cache.remove(digest);
                None
            }
            Err(fault) => {
                token.issuer().count_fault(fault);
                Some(Err(fault))
            }
        }
    }

    fn verify_anew(
        &self,
        token: &[u8],
        digest: KeyDigest,
        accepted: impl Fn(&Issuer) -> bool,
        now: UnixMillis,
    ) -> Result<Arc<VerifiedToken>, TokenFault> {
        let compact = Compact::parse(token)?;
        let claims = json::object(compact.payload()).map_err(|_| TokenFault::Claims)?;
        let issuer = self.named(&claims)?;
        if !accepted(issuer) {
            return Err(TokenFault::IssuerNotAccepted);
        }
        match verified(issuer, &compact, &claims, digest, now) {
            Ok(verified) => {
                issuer.count(TokenResult::Verified);
                let verified = Arc::new(verified);
                self.cache.insert(&verified, now);
                Ok(verified)
            }
            Err(fault) => {
                issuer.count_fault(fault);
                Err(fault)
            }
        }
    }

    /// The issuer that the claims name.
    fn named(&self, claims: &Object) -> Result<&Arc<Issuer>, TokenFault> {
        let name = claims.get("iss").and_then(Value::as_str);
        let name = name.ok_or(TokenFault::IssuerMissing)?;
        let mut issuers = self.issuers.iter();
        issuers
            .find(|issuer| *issuer.rules().issuer == *name)
            .ok_or(TokenFault::IssuerUnknown)
    }

    fn has(&self, issuer: &Arc<Issuer>) -> bool {
        self.issuers.iter().any(|own| Arc::ptr_eq(own, issuer))
    }
}

fn verified(
    issuer: &Arc<Issuer>,
    token: &Compact<'_>,
    claims: &Object,
    digest: KeyDigest,
    now: UnixMillis,
) -> Result<VerifiedToken, TokenFault> {
    let (key, identity) = issuer.verify(token, claims, now)?;
    Ok(VerifiedToken {
        issuer: Arc::clone(issuer),
        key,
        digest,
        identity,
    })
}
