//! [`Issuer`]: one configured issuer, its keys as they are known at the moment, and what became of
//! its tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use crate::auth::jwt::claims::{self, Identity};
use crate::auth::jwt::compact::Compact;
use crate::auth::jwt::fault::TokenFault;
use crate::auth::jwt::json::Object;
use crate::auth::jwt::key::Key;
use crate::auth::jwt::key_set::KeySet;
use crate::auth::jwt::rules::{IssuerRules, KeySource};
use crate::keys::UnixMillis;

/// One issuer. It does not change but for its keys.
#[derive(Debug)]
pub struct Issuer {
    rules: IssuerRules,
    keys: Arc<IssuerKeys>,
    results: [AtomicU64; TokenResult::ALL.len()],
}

/// Keys of an issuer, shared by all generations of settings that take them from one source.
#[derive(Debug)]
pub struct IssuerKeys {
    held: ArcSwapOption<KeyState>,
    is_wanted: AtomicBool,
    wanted: Notify,
}

/// Keys as they are known at the moment.
#[derive(Debug)]
pub struct KeyState {
    /// The keys.
    pub set: KeySet,
    /// When they were fetched; for keys of a file, when the gateway read it.
    pub fetched_at: UnixMillis,
    /// When they are too old to be believed; `None` means never.
    pub good_until: Option<UnixMillis>,
}

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
    /// An issuer with the keys of `keys`, if these come from its source.
    pub(super) fn new(rules: IssuerRules, keys: Option<&Arc<IssuerKeys>>) -> Self {
        let keys = match (&rules.keys, keys) {
            (KeySource::Fixed(set), _) => Arc::new(IssuerKeys::fixed(set)),
            (KeySource::Discovery | KeySource::Url(_), Some(keys)) => Arc::clone(keys),
            (KeySource::Discovery | KeySource::Url(_), None) => Arc::new(IssuerKeys::none()),
        };
        Self {
            rules,
            keys,
            results: Default::default(),
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

    /// Tokens with this result since the settings of the issuer were put in force.
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
        let state = self.keys.usable(now)?;
        let key = state.set.verify(token).map(Arc::clone);
        if identity.is_ok() && key.as_ref().err() == Some(&TokenFault::KeyUnknown) {
            self.keys.want();
        }
        Ok((key?, identity?))
    }

    /// Checks that a key of an earlier token may still be believed.
    pub(super) fn trusts(&self, key: &Arc<Key>, now: UnixMillis) -> Result<(), TokenFault> {
        let held = self.keys.held.load();
        let state = held.as_ref().filter(|state| state.is_good(now));
        match state {
            None => {
                self.keys.want();
                Err(TokenFault::KeysUnavailable)
            }
            Some(state) if state.set.has(key) => Ok(()),
            Some(_) => Err(TokenFault::KeyRemoved),
        }
    }
}

impl IssuerKeys {
    fn none() -> Self {
        Self {
            held: ArcSwapOption::empty(),
            is_wanted: AtomicBool::new(false),
            wanted: Notify::new(),
        }
    }

    fn fixed(set: &Arc<KeySet>) -> Self {
        let state = KeyState {
            set: KeySet::clone(set),
            fetched_at: UnixMillis::now(),
            good_until: None,
        };
        Self {
            held: ArcSwapOption::from_pointee(state),
            ..Self::none()
        }
    }

    /// Keys as they are known at the moment, however old.
    #[must_use]
    pub fn state(&self) -> Option<Arc<KeyState>> {
        self.held.load_full()
    }

    /// Puts fetched keys in force. Tokens that were signed with a key that is gone are not taken any
    /// more.
    pub fn replace(&self, state: KeyState) {
        let before = self.held.load();
        let set = match before.as_ref() {
            Some(before) => state.set.succeeding(&before.set),
            None => state.set,
        };
        self.held.store(Some(Arc::new(KeyState { set, ..state })));
    }

    /// Waits until a request lacks a key. Requests of the past count once.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
        self.is_wanted.store(false, Ordering::Release);
    }

    /// Asks the control plane for keys. Waits for nothing.
    fn want(&self) {
        if !self.is_wanted.swap(true, Ordering::AcqRel) {
            self.wanted.notify_one();
        }
    }

    fn usable(&self, now: UnixMillis) -> Result<Arc<KeyState>, TokenFault> {
        let state = self.state().filter(|state| state.is_good(now));
        state.ok_or_else(|| {
            self.want();
            TokenFault::KeysUnavailable
        })
    }
}

impl KeyState {
    /// Whether the keys may still be believed.
    #[must_use]
    pub fn is_good(&self, now: UnixMillis) -> bool {
        self.good_until.is_none_or(|until| now < until)
    }
}
