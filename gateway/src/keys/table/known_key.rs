//! [`KnownKey`]: the result of a look-up.

use std::sync::Arc;

use crate::keys::table::found_consumer::{FoundConsumer, KnownConsumer};
use crate::keys::table::key_record::{KeyRecord, RareOfKey};
use crate::keys::table::shards::Keyed as _;
use crate::keys::{
    Allowance, CallerAddress, KeyDigest, KeyId, KeyState, KeyStatus, Plan, Restrictions, Scopes,
    UnixMillis,
};

/// A key with its consumer, as of the look-up.
#[derive(Clone, Debug)]
pub struct KnownKey {
    digest: KeyDigest,
    id: KeyId,
    state: KeyState,
    expires_at: Option<UnixMillis>,
    rare: Option<Arc<RareOfKey>>,
    consumer: FoundConsumer,
}

impl KnownKey {
    /// Builds the result.
    pub(super) fn new(record: &KeyRecord, consumer: FoundConsumer) -> Self {
        Self {
            digest: *record.key(),
            id: record.id(),
            state: record.state(),
            expires_at: record.expires_at(),
            rare: record.rare().cloned(),
            consumer,
        }
    }

    /// Returns the digest, the look-up key.
    #[must_use]
    pub fn digest(&self) -> &KeyDigest {
        &self.digest
    }

    /// Returns the public id.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// Returns the id of the first key of the chain of rolls that this key belongs to, its own id
    /// if it replaced none. What is counted by key is counted by this id, so that a roll resets
    /// nothing.
    #[must_use]
    pub fn chain(&self) -> KeyId {
        let first = self.rare.as_ref().and_then(|rare| rare.chain);
        first.map_or(self.id, KeyId::unpack)
    }

    /// Returns the owner.
    #[must_use]
    pub fn consumer(&self) -> KnownConsumer<'_> {
        self.consumer.known()
    }

    /// Returns the owner, with all that its keys have by it.
    #[must_use]
    pub fn owner(&self) -> &FoundConsumer {
        &self.consumer
    }

    /// Returns when the consumer was created.
    #[must_use]
    pub fn consumer_created_at(&self) -> UnixMillis {
        self.consumer.created_at()
    }

    /// Returns the numbers of the key itself, if it has any. They narrow those of its consumer.
    #[must_use]
    pub fn allowance(&self) -> Option<&Allowance> {
        let own = &self.rare.as_ref()?.allowance;
        (!own.is_empty()).then_some(own)
    }

    /// Returns the numbers of the consumer itself, if it has any.
    #[must_use]
    pub fn consumer_allowance(&self) -> Option<&Allowance> {
        self.consumer.allowance()
    }

    /// Returns the plan of the consumer, if it has one. Its numbers apply where the consumer has
    /// none of its own.
    #[must_use]
    pub fn plan(&self) -> Option<&Plan> {
        self.consumer.plan()
    }

    /// Returns the value of the consumer's tag `name`.
    #[must_use]
    pub fn tag(&self, name: &str) -> Option<&str> {
        self.consumer.tag(name)
    }

    /// Returns the status at `now`.
    #[must_use]
    pub fn status(&self, now: UnixMillis) -> KeyStatus {
        KeyStatus::of(self.state, self.expires_at, now)
    }

    /// Returns the expiry; `None` for a key that never expires.
    #[must_use]
    pub fn expires_at(&self) -> Option<UnixMillis> {
        self.expires_at
    }

    /// Returns the start of the deprecation; `None` for a key that needs no replacement.
    #[must_use]
    pub fn deprecated_at(&self) -> Option<UnixMillis> {
        self.rare.as_ref()?.deprecated_at
    }

    /// Returns whether the key has `scope`, and so does its consumer, by itself or by its plan.
    #[must_use]
    pub fn allows(&self, scope: &str) -> bool {
        self.consumer.has_scope(scope) && self.own_scopes().is_none_or(|own| own.contains(scope))
    }

    /// Returns whether key and consumer may be used from `address`, the client's address as the
    /// gateway knows it.
    #[must_use]
    pub fn allows_address(&self, address: impl Into<CallerAddress>) -> bool {
        let address = address.into();
        self.consumer.allows_address(address)
            && self
                .restrictions()
                .is_none_or(|own| own.ips.contains(address))
    }

    /// Returns whether the key may be used with `method`.
    #[must_use]
    pub fn allows_method(&self, method: &str) -> bool {
        self.restrictions()
            .is_none_or(|own| own.methods.contains(method))
    }

    /// Returns whether the key may be used on the route `name`.
    #[must_use]
    pub fn allows_route(&self, name: &str) -> bool {
        self.restrictions()
            .is_none_or(|own| own.routes.contains(name))
    }

    /// Returns every scope that [`allows`](Self::allows) accepts. Allocates only if the key has its
    /// own scopes, or the plan adds some.
    #[must_use]
    pub fn scopes(&self) -> Scopes {
        let granted = self.consumer.scopes();
        match self.own_scopes() {
            None => granted.into_owned(),
            Some(own) => own.within(&granted),
        }
    }

    fn restrictions(&self) -> Option<&Restrictions> {
        self.rare.as_ref()?.restrictions.as_deref()
    }

    /// Returns the scopes of the key; `None` for all of the consumer's.
    fn own_scopes(&self) -> Option<&Scopes> {
        self.rare.as_ref()?.scopes.as_ref()
    }
}
