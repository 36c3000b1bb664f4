//! [`Issuer`]: one configured issuer, its keys as they are known at the moment, and what became of
//! its tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::auth::jwt::claims::{self, Identity};
use crate::auth::jwt::compact::Compact;
use crate::auth::jwt::fault::TokenFault;
use crate::auth::jwt::issuer_keys::IssuerKeys;
use crate::auth::jwt::json::Object;
use crate::auth::jwt::key::Key;
use crate::auth::jwt::rules::{IssuerRules, KeySource};
use crate::keys::UnixMillis;

/// One issuer. It does not change but for its keys.
#[derive(Debug)]
pub struct Issuer {
    rules: IssuerRules,
    keys: Arc<IssuerKeys>,
    results: Arc<Results>,
}

/// Counts by [`TokenResult`].
type Results = [AtomicU64; TokenResult::ALL.len()];

/// What became of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenResult {
    /// Its signature was verified, and it was taken.
    Verified,
    /// It was taken, and had been verified before.
    Cached,
    /// It had expired.
    Expired,
    /// It was refused for another reason.
    Refused,
    /// The keys were not there.
    KeysUnavailable,
}

impl TokenResult {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Verified,
        Self::Cached,
        Self::Expired,
        Self::Refused,
        Self::KeysUnavailable,
    ];

    /// Name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Cached => "cached",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::KeysUnavailable => "keys_unavailable",
        }
    }

    fn of(fault: TokenFault) -> Self {
        if fault.is_expired() {
            Self::Expired
        } else if fault.keys_unavailable() {
            Self::KeysUnavailable
        } else {
            Self::Refused
        }
    }
}

impl Issuer {
    /// An issuer with the keys of `of_source`, whose keys come from the same source, and the counts
    /// of `namesake`.
    pub(super) fn new(
        rules: IssuerRules,
        of_source: Option<&Self>,
        namesake: Option<&Self>,
    ) -> Self {
        let keys = match (&rules.keys, of_source) {
            (KeySource::Fixed(set), _) => Arc::new(IssuerKeys::fixed(set)),
            (KeySource::Discovery | KeySource::Url(_), Some(known)) => Arc::clone(&known.keys),
            (KeySource::Discovery | KeySource::Url(_), None) => Arc::default(),
        };
        Self {
            rules,
            keys,
            results: namesake.map_or_else(Arc::default, |known| Arc::clone(&known.results)),
        }
    }

    /// Name in settings, logs and metrics.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.rules.name
    }

    /// Settings.
    #[must_use]
    pub fn rules(&self) -> &IssuerRules {
        &self.rules
    }

    /// Keys.
    #[must_use]
    pub fn keys(&self) -> &Arc<IssuerKeys> {
        &self.keys
    }

    /// Tokens with this result since the gateway started.
    #[must_use]
    pub fn tokens(&self, result: TokenResult) -> u64 {
        let at = TokenResult::ALL.iter().position(|known| *known == result);
        let counter = at.and_then(|at| self.results.get(at));
        counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    pub(super) fn count(&self, result: TokenResult) {
        let at = TokenResult::ALL.iter().position(|known| *known == result);
        if let Some(counter) = at.and_then(|at| self.results.get(at)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn count_fault(&self, fault: TokenFault) {
        self.count(TokenResult::of(fault));
    }

    /// Verifies a token that names this issuer: the key that signed it, and whom it stands for.
    pub(super) fn verify(
        &self,
        token: &Compact<'_>,
        claims: &Object,
        now: UnixMillis,
    ) -> Result<(Arc<Key>, Identity), TokenFault> {
        claims::check_header(&self.rules, token.header())?;
        // Not believed before the signature is verified. But only a token that would be taken makes
        // the gateway fetch keys.
        let identity = claims::check(&self.rules, claims, now);
        let key = self
            .keys
            .look(now, |set| set.verify(token).map(Arc::clone))?;
        if identity.is_ok() && key.as_ref().err() == Some(&TokenFault::KeyUnknown) {
            self.keys.want();
        }
        Ok((key?, identity?))
    }

    /// Checks that a key of an earlier token may still be believed.
    pub(super) fn trusts(&self, key: &Arc<Key>, now: UnixMillis) -> Result<(), TokenFault> {
        if self.keys.look(now, |set| set.has(key))? {
            Ok(())
        } else {
            Err(TokenFault::KeyRemoved)
        }
    }
}
