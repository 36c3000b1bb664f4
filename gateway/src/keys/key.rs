//! Keys as the gateway knows them: never the key itself, only what decides about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use arc_swap::ArcSwapOption;

use crate::keys::id::PackedId;
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
    /// Since when it is to be replaced; `None` is not.
    pub deprecated_at: Option<UnixMillis>,
    /// What it may do, at most what its consumer may; `None` is just that.
    pub scopes: Option<Scopes>,
}

/// A key in the table. Small: there may be a million of them.
#[derive(Debug)]
pub(super) struct KeyRecord {
    pub(super) digest: KeyDigest,
    id: PackedId,
    /// State and marks in one byte, which fills the id's up to sixteen.
    flags: AtomicU8,
    expires_at: UnixMillis,
    deprecated_at: UnixMillis,
    /// What it may do, if [`NARROWED`].
    own_scopes: Scopes,
    pub(super) consumer: Arc<ConsumerCell>,
}

// The flags of a `KeyRecord`. Disabled and revoked exclude each other.
const DISABLED: u8 = 1;
const REVOKED: u8 = 1 << 1;
/// It has scopes of its own.
const NARROWED: u8 = 1 << 2;
/// The load that is going on has seen it.
const SEEN: u8 = 1 << 3;

/// The place that all keys of a consumer point to, so that a change of the consumer changes all of them at once.
/// Empty when the consumer was deleted: then none of its keys is known any more.
#[derive(Debug)]
pub(super) struct ConsumerCell {
    pub(super) current: ArcSwapOption<Consumer>,
    /// How many keys in the table point here. Only writers look.
    pub(super) keys: AtomicU32,
    /// Whether the load that is going on has seen it. Only writers look.
    pub(super) seen: AtomicBool,
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
    /// "Never" in the times: eight bytes less a key than an `Option`.
    const NEVER: UnixMillis = UnixMillis(i64::MAX);

    /// The record of `entry`, seen by the load that is going on.
    pub(super) fn new(entry: KeyEntry, consumer: Arc<ConsumerCell>) -> Self {
        let flags = SEEN | Self::flags_of(&entry);
        let KeyEntry { digest, id, consumer: _, state: _, expires_at, deprecated_at, scopes } = entry;
        Self {
            digest,
            id: id.pack(),
            flags: AtomicU8::new(flags),
            expires_at: expires_at.unwrap_or(Self::NEVER),
            deprecated_at: deprecated_at.unwrap_or(Self::NEVER),
            own_scopes: scopes.unwrap_or_default(),
            consumer,
        }
    }

    fn flags_of(entry: &KeyEntry) -> u8 {
        let state = match entry.state {
            KeyState::Active => 0,
            KeyState::Disabled => DISABLED,
            KeyState::Revoked => REVOKED,
        };
        if entry.scopes.is_some() { state | NARROWED } else { state }
    }

    pub(super) fn id(&self) -> KeyId {
        KeyId::unpack(self.id)
    }

    pub(super) fn state(&self) -> KeyState {
        let flags = self.flags.load(Ordering::Relaxed);
        if flags & REVOKED != 0 {
            KeyState::Revoked
        } else if flags & DISABLED != 0 {
            KeyState::Disabled
        } else {
            KeyState::Active
        }
    }

    pub(super) fn expires_at(&self) -> Option<UnixMillis> {
        (self.expires_at != Self::NEVER).then_some(self.expires_at)
    }

    pub(super) fn deprecated_at(&self) -> Option<UnixMillis> {
        (self.deprecated_at != Self::NEVER).then_some(self.deprecated_at)
    }

    /// The entry that it was made of, unless its consumer was deleted.
    pub(super) fn entry(&self) -> Option<KeyEntry> {
        Some(KeyEntry {
            digest: self.digest,
            id: self.id(),
            consumer: self.consumer.current.load().as_ref()?.id,
            state: self.state(),
            expires_at: self.expires_at(),
            deprecated_at: self.deprecated_at(),
            scopes: self.own_scopes().cloned(),
        })
    }

    /// What it may do; `None` is all that its consumer may.
    pub(super) fn own_scopes(&self) -> Option<&Scopes> {
        (self.flags.load(Ordering::Relaxed) & NARROWED != 0).then_some(&self.own_scopes)
    }

    /// Whether it is what `entry`, whose consumer is at `consumer`, says.
    pub(super) fn says_the_same_as(&self, entry: &KeyEntry, consumer: &Arc<ConsumerCell>) -> bool {
        self.flags.load(Ordering::Relaxed) & !SEEN == Self::flags_of(entry)
            && self.id == entry.id.pack()
            && self.expires_at == entry.expires_at.unwrap_or(Self::NEVER)
            && self.deprecated_at == entry.deprecated_at.unwrap_or(Self::NEVER)
            && self.own_scopes() == entry.scopes.as_ref()
            && Arc::ptr_eq(&self.consumer, consumer)
    }

    pub(super) fn set_seen(&self, is_seen: bool) {
        if is_seen {
            self.flags.fetch_or(SEEN, Ordering::Relaxed);
        } else {
            self.flags.fetch_and(!SEEN, Ordering::Relaxed);
        }
    }

    pub(super) fn is_seen(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & SEEN != 0
    }
}

impl Clone for KeyRecord {
    fn clone(&self) -> Self {
        let Self { digest, id, flags, expires_at, deprecated_at, own_scopes, consumer } = self;
        Self {
            digest: *digest,
            id: *id,
            flags: AtomicU8::new(flags.load(Ordering::Relaxed)),
            expires_at: *expires_at,
            deprecated_at: *deprecated_at,
            own_scopes: own_scopes.clone(),
            consumer: Arc::clone(consumer),
        }
    }
}

impl ConsumerCell {
    /// The cell of a consumer, seen by the load that is going on.
    pub(super) fn new(consumer: Consumer) -> Self {
        Self { current: ArcSwapOption::from_pointee(consumer), keys: AtomicU32::new(0), seen: AtomicBool::new(true) }
    }

    /// Whether its consumer was deleted.
    pub(super) fn is_empty(&self) -> bool {
        self.current.load().is_none()
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
    fn a_record_and_a_cell_stay_small() {
        assert_eq!(size_of::<KeyRecord>(), 80);
        // With the two counts of an `Arc`, 32 bytes.
        assert_eq!(size_of::<ConsumerCell>(), 16);
    }

    #[test]
    fn a_record_says_what_its_entry_said() {
        let consumer = ConsumerId::generate().unwrap();
        let cell =
            Arc::new(ConsumerCell { current: ArcSwapOption::empty(), keys: AtomicU32::new(0), seen: AtomicBool::new(true) });
        let entries: Vec<KeyEntry> = [KeyState::Active, KeyState::Disabled, KeyState::Revoked]
            .into_iter()
            .flat_map(|state| [None, Some(UnixMillis(-1)), Some(UnixMillis(1))].map(|expires_at| (state, expires_at)))
            .flat_map(|(state, end)| [None, Some(Scopes::default()), Some("read".parse().unwrap())].map(|own| (state, end, own)))
            .map(|(state, expires_at, scopes)| {
                let digest = KeyDigest::of(b"one");
                let id = "key_0123456789abcdefghij".parse().unwrap();
                KeyEntry { digest, id, consumer, state, expires_at, deprecated_at: expires_at, scopes }
            })
            .collect();
        for entry in &entries {
            let record = KeyRecord::new(entry.clone(), Arc::clone(&cell));
            assert_eq!(record.id(), entry.id);
            assert_eq!(
                (record.state(), record.expires_at(), record.deprecated_at(), record.own_scopes()),
                (entry.state, entry.expires_at, entry.deprecated_at, entry.scopes.as_ref())
            );
            for is_seen in [false, true] {
                record.set_seen(is_seen);
                assert_eq!(record.clone().is_seen(), is_seen);
                for other in &entries {
                    assert_eq!(record.says_the_same_as(other, &cell), entry == other, "{entry:?} {other:?}");
                }
            }
        }
    }
}
