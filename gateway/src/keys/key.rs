//! Keys without their plain text: digest, owner, state and limits.

use std::str::FromStr;

use thiserror::Error;

use crate::keys::{Allowance, ConsumerId, KeyDigest, KeyId, Restrictions, Scopes, UnixMillis};

/// State set by an administrator. Expiry is separate: see [`KeyStatus`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// In use.
    Active,
    /// Refused until it is enabled again.
    Disabled,
    /// Refused for ever.
    Revoked,
}

/// Status of a key at a moment. The most final reason for refusal wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStatus {
    /// Accepted.
    Active,
    /// Past its expiry.
    Expired,
    /// Refused for ever.
    Revoked,
    /// Refused until it is enabled again.
    Disabled,
}

/// A key on its way from the store to the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEntry {
    /// Digest, the look-up key.
    pub digest: KeyDigest,
    /// Public id.
    pub id: KeyId,
    /// Owner of the key.
    pub consumer: ConsumerId,
    /// State set by an administrator.
    pub state: KeyState,
    /// Expiry; `None` for a key that never expires.
    pub expires_at: Option<UnixMillis>,
    /// Start of the deprecation; `None` for a key that needs no replacement.
    pub deprecated_at: Option<UnixMillis>,
    /// Scopes of the key, limited by those of the consumer; `None` for all of the consumer's.
    pub scopes: Option<Scopes>,
    /// Numbers of the key in place of those of the configuration.
    pub allowance: Allowance,
    /// What the key may be used for, within what its consumer may.
    pub restrictions: Restrictions,
    /// First key of the chain of rolls that made this one; `None` for a key that replaced none.
    pub chain: Option<KeyId>,
}

impl KeyState {
    /// Returns the word that is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Revoked => "revoked",
        }
    }

    /// Parses the stored word.
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

    /// Decides what a key of this state and end is at `now`. A key ends at the very millisecond of
    /// `expires_at`.
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
