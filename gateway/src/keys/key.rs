//! Keys as the gateway knows them: never the key itself, only what decides about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::ArcSwapOption;

use crate::keys::{Consumer, ConsumerId, KeyDigest, KeyId, Scopes, UnixMillis};

/// What was done to a key. Time is apart: see [`KeyStatus`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// In use.
    Active,
    /// Refused until it is enabled again.
    Disabled,
    /// Refused for ever.
    Revoked,
}

/// Whether a key is good at a moment, and if not, why. Where several reasons hold, the more final one is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStatus {
    /// Good.
    Active,
    /// Its time is over.
    Expired,
    /// Refused for ever.
    Revoked,
    /// Refused until it is enabled again.
    Disabled,
}

/// A key on its way from the store into the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEntry {
    /// What it is looked up by.
    pub digest: KeyDigest,
    /// Its public id.
    pub id: KeyId,
    /// Whose it is.
    pub consumer: ConsumerId,
    /// What was done to it.
    pub state: KeyState,
    /// From when on it is refused; `None` is never.
    pub expires_at: Option<UnixMillis>,
    /// What it may do, at most what its consumer may; `None` is just that.
    pub scopes: Option<Scopes>,
}

/// A key in the table. Small: there may be a million of them.
#[derive(Debug)]
pub(super) struct KeyRecord {
    pub(super) id: KeyId,
    pub(super) consumer: Arc<ConsumerCell>,
    expires_at: UnixMillis,
    pub(super) scopes: Option<Scopes>,
    state: KeyState,
    /// The load of the table that last saw this key.
    pub(super) generation: AtomicU32,
}

/// The place that all keys of a consumer point to, so that a change of the consumer changes all of them at once.
/// Empty when the consumer was deleted: then none of its keys is known any more.
#[derive(Debug)]
pub(super) struct ConsumerCell {
    pub(super) id: ConsumerId,
    pub(super) generation: AtomicU32,
    pub(super) current: ArcSwapOption<Consumer>,
}

impl KeyState {
    /// The word that is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Revoked => "revoked",
        }
    }

    /// Reads the stored word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Disabled, Self::Revoked].into_iter().find(|state| state.as_str() == text)
    }
}

impl KeyStatus {
    /// Decides what a key of this state and end is at `now`. A key ends at the very millisecond of `expires_at`.
    #[must_use]
    pub fn of(state: KeyState, expires_at: Option<UnixMillis>, now: UnixMillis) -> Self {
        let is_over = expires_at.is_some_and(|end| end <= now);
        match state {
            KeyState::Revoked => Self::Revoked,
            KeyState::Active | KeyState::Disabled if is_over => Self::Expired,
            KeyState::Disabled => Self::Disabled,
            KeyState::Active => Self::Active,
        }
    }

    /// The word that is shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Disabled => "disabled",
        }
    }
}

impl KeyRecord {
    /// "Never" in `expires_at`: eight bytes less a key than an `Option`.
    const NEVER: UnixMillis = UnixMillis(i64::MAX);

    pub(super) fn new(entry: KeyEntry, consumer: Arc<ConsumerCell>, generation: u32) -> Self {
        let KeyEntry { digest: _, id, consumer: _, state, expires_at, scopes } = entry;
        let expires_at = expires_at.unwrap_or(Self::NEVER);
        Self { id, consumer, expires_at, scopes, state, generation: AtomicU32::new(generation) }
    }

    pub(super) fn status(&self, now: UnixMillis) -> KeyStatus {
        KeyStatus::of(self.state, self.expires_at(), now)
    }

    pub(super) fn expires_at(&self) -> Option<UnixMillis> {
        (self.expires_at != Self::NEVER).then_some(self.expires_at)
    }

    pub(super) fn says_the_same_as(&self, entry: &KeyEntry) -> bool {
        self.id == entry.id
            && self.consumer.id == entry.consumer
            && self.state == entry.state
            && self.expires_at == entry.expires_at.unwrap_or(Self::NEVER)
            && self.scopes == entry.scopes
    }

    pub(super) fn seen_by(&self, generation: u32) {
        self.generation.store(generation, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_final_reason_is_told() {
        let now = UnixMillis(1_000);
        let (past, moment, future) = (Some(UnixMillis(999)), Some(now), Some(UnixMillis(1_001)));
        for (state, expires_at, status) in [
            (KeyState::Active, None, KeyStatus::Active),
            (KeyState::Active, future, KeyStatus::Active),
            (KeyState::Active, moment, KeyStatus::Expired),
            (KeyState::Active, past, KeyStatus::Expired),
            (KeyState::Disabled, None, KeyStatus::Disabled),
            (KeyState::Disabled, future, KeyStatus::Disabled),
            (KeyState::Disabled, past, KeyStatus::Expired),
            (KeyState::Revoked, None, KeyStatus::Revoked),
            (KeyState::Revoked, past, KeyStatus::Revoked),
        ] {
            assert_eq!(KeyStatus::of(state, expires_at, now), status, "{state:?} {expires_at:?}");
        }
    }

    #[test]
    fn states_read_back() {
        for state in [KeyState::Active, KeyState::Disabled, KeyState::Revoked] {
            assert_eq!(KeyState::parse(state.as_str()), Some(state));
        }
        assert_eq!(KeyState::parse("Active"), None);
    }

    #[test]
    fn a_record_stays_small() {
        assert!(size_of::<KeyRecord>() <= 64, "{}", size_of::<KeyRecord>());
    }
}
