//! Keys as the gateway knows them: never the key itself, only what decides about it.

use std::str::FromStr;

use thiserror::Error;

use crate::keys::{ConsumerId, KeyDigest, KeyId, Scopes, UnixMillis};

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
    /// Since when it is to be replaced; `None` is not.
    pub deprecated_at: Option<UnixMillis>,
    /// What it may do, at most what its consumer may; `None` is just that.
    pub scopes: Option<Scopes>,
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
        [Self::Active, Self::Disabled, Self::Revoked]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// Why a text is no [`KeyStatus`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a status is one of active, expired, revoked and disabled")]
pub struct InvalidKeyStatus;

impl FromStr for KeyStatus {
    type Err = InvalidKeyStatus;

    fn from_str(word: &str) -> Result<Self, InvalidKeyStatus> {
        let all = [Self::Active, Self::Expired, Self::Revoked, Self::Disabled];
        all.into_iter()
            .find(|status| status.as_str() == word)
            .ok_or(InvalidKeyStatus)
    }
}

impl KeyStatus {
    /// Each of them, by its word.
    pub const WORDS: [&str; 4] = ["active", "expired", "revoked", "disabled"];

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
            assert_eq!(
                KeyStatus::of(state, expires_at, now),
                status,
                "{state:?} {expires_at:?}"
            );
        }
    }

    #[test]
    fn states_read_back() {
        for state in [KeyState::Active, KeyState::Disabled, KeyState::Revoked] {
            assert_eq!(KeyState::parse(state.as_str()), Some(state));
        }
        assert_eq!(KeyState::parse("Active"), None);
    }
}
