//! [`KeyRecord`]: a key in the table.

use std::sync::Arc;

use crate::keys::id::PackedId;
use crate::keys::table::seen::SeenMark;
use crate::keys::table::shards::Keyed;
use crate::keys::{
    Allowance, ConsumerId, KeyDigest, KeyEntry, KeyId, KeyState, Restrictions, Scopes, UnixMillis,
};

/// A key in the table. Rare attributes sit behind a pointer: there may be a million keys.
#[derive(Clone, Debug)]
pub(super) struct KeyRecord {
    digest: KeyDigest,
    id: PackedId,
    consumer: PackedId,
    state: KeyState,
    pub(super) seen: SeenMark,
    expires_at: UnixMillis,
    // Shared with the look-ups, which then copy nothing.
    rare: Option<Arc<RareOfKey>>,
}

/// Attributes that few keys have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RareOfKey {
    pub(super) deprecated_at: Option<UnixMillis>,
    pub(super) scopes: Option<Scopes>,
    pub(super) allowance: Allowance,
    // A pointer, because most of the keys with other rare attributes have none.
    pub(super) restrictions: Option<Box<Restrictions>>,
    pub(super) chain: Option<PackedId>,
}

impl KeyRecord {
    /// Expiry of a key that never expires: eight bytes less than an `Option`.
    const NEVER: UnixMillis = UnixMillis(i64::MAX);

    /// Builds the record of `entry`, marked as seen by the current load.
    pub(super) fn new(entry: KeyEntry) -> Self {
        let KeyEntry {
            digest,
            id,
            consumer,
            state,
            expires_at,
            deprecated_at,
            scopes,
            allowance,
            restrictions,
            chain,
        } = entry;
        let is_rare = deprecated_at.is_some()
            || scopes.is_some()
            || !allowance.is_empty()
            || !restrictions.is_empty()
            || chain.is_some();
        Self {
            digest,
            id: id.pack(),
            consumer: consumer.pack(),
            state,
            seen: SeenMark::default(),
            expires_at: expires_at.unwrap_or(Self::NEVER),
            rare: is_rare.then(|| {
                Arc::new(RareOfKey {
                    deprecated_at,
                    scopes,
                    allowance,
                    restrictions: (!restrictions.is_empty()).then(|| Box::new(restrictions)),
                    chain: chain.map(|first| first.pack()),
                })
            }),
        }
    }

    /// Returns the owner.
    pub(super) fn consumer(&self) -> &PackedId {
        &self.consumer
    }

    /// Returns the public id.
    pub(super) fn id(&self) -> KeyId {
        KeyId::unpack(self.id)
    }

    /// Returns the attributes that few keys have.
    pub(super) fn rare(&self) -> Option<&Arc<RareOfKey>> {
        self.rare.as_ref()
    }

    pub(super) fn state(&self) -> KeyState {
        self.state
    }

    pub(super) fn expires_at(&self) -> Option<UnixMillis> {
        (self.expires_at != Self::NEVER).then_some(self.expires_at)
    }

    /// Returns whether both records hold equal entries.
    pub(super) fn has_same_content(&self, other: &Self) -> bool {
        let Self {
            digest,
            id,
            consumer,
            state,
            seen: _,
            expires_at,
            rare,
        } = self;
        (digest, id, consumer, state) == (&other.digest, &other.id, &other.consumer, &other.state)
            && (expires_at, rare) == (&other.expires_at, &other.rare)
    }

    /// Rebuilds the entry.
    pub(super) fn entry(&self) -> KeyEntry {
        KeyEntry {
            digest: self.digest,
            id: self.id(),
            consumer: ConsumerId::unpack(self.consumer),
            state: self.state,
            expires_at: self.expires_at(),
            deprecated_at: self.rare.as_ref().and_then(|rare| rare.deprecated_at),
            scopes: self.rare.as_ref().and_then(|rare| rare.scopes.clone()),
            allowance: self
                .rare
                .as_ref()
                .map(|rare| rare.allowance.clone())
                .unwrap_or_default(),
            restrictions: self
                .rare
                .as_ref()
                .and_then(|rare| rare.restrictions.as_deref().cloned())
                .unwrap_or_default(),
            chain: self
                .rare
                .as_ref()
                .and_then(|rare| rare.chain)
                .map(KeyId::unpack),
        }
    }
}

impl Keyed for KeyRecord {
    type Key = KeyDigest;

    fn key(&self) -> &KeyDigest {
        &self.digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_stays_small() {
        assert_eq!(size_of::<KeyRecord>(), 80);
    }

    #[test]
    fn a_record_says_what_its_entry_said() {
        let times = [None, Some(UnixMillis(-1)), Some(UnixMillis(1))];
        for state in [KeyState::Active, KeyState::Disabled, KeyState::Revoked] {
            for (expires_at, deprecated_at) in times
                .iter()
                .flat_map(|end| times.map(|since| (*end, since)))
            {
                for scopes in [None, Some(Scopes::default()), Some("read".parse().unwrap())] {
                    let digest = KeyDigest::of(b"one");
                    let (id, consumer) =
                        (KeyId::generate().unwrap(), ConsumerId::generate().unwrap());
                    let plain = KeyEntry {
                        digest,
                        id,
                        consumer,
                        state,
                        expires_at,
                        deprecated_at,
                        scopes,
                        allowance: Allowance::default(),
                        restrictions: Restrictions::default(),
                        chain: None,
                    };
                    let is_rare = deprecated_at.is_some() || plain.scopes.is_some();
                    assert_eq!(KeyRecord::new(plain.clone()).rare().is_some(), is_rare);
                    let limited = KeyEntry {
                        allowance: Allowance {
                            rates: "burst=5/1m".parse().unwrap(),
                            ..Allowance::default()
                        },
                        ..plain.clone()
                    };
                    let rolled = KeyEntry {
                        chain: Some(KeyId::generate().unwrap()),
                        ..plain.clone()
                    };
                    let restricted = [
                        Restrictions {
                            ips: "192.0.2.0/24".parse().unwrap(),
                            ..Restrictions::default()
                        },
                        Restrictions {
                            methods: "GET".parse().unwrap(),
                            ..Restrictions::default()
                        },
                        Restrictions {
                            routes: r#"["/v1"]"#.parse().unwrap(),
                            ..Restrictions::default()
                        },
                    ]
                    .map(|restrictions| KeyEntry {
                        restrictions,
                        ..plain.clone()
                    });
                    for entry in [plain, limited, rolled].into_iter().chain(restricted) {
                        assert_eq!(KeyRecord::new(entry.clone()).entry(), entry);
                    }
                }
            }
        }
    }
}
