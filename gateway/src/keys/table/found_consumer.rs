//! [`FoundConsumer`]: a consumer as of its look-up.

use std::borrow::Cow;
use std::sync::Arc;

use crate::keys::table::consumer_record::ConsumerRecord;
use crate::keys::table::shards::Held;
use crate::keys::{
    Allowance, BucketName, CallerAddress, ConsumerId, ConsumerName, CustomId, Metadata, Plan,
    Scopes, UnixMillis,
};

/// A consumer with its plan, as of the look-up.
#[derive(Clone, Debug)]
pub struct FoundConsumer {
    id: ConsumerId,
    record: Held<ConsumerRecord>,
    plan: Option<Arc<Plan>>,
}

/// The part of a consumer that the origin may know.
#[derive(Clone, Copy, Debug)]
pub struct KnownConsumer<'k> {
    /// Immutable id.
    pub id: &'k ConsumerId,
    /// Namespace of the name.
    pub bucket: &'k BucketName,
    /// Name, unique in the bucket.
    pub name: &'k ConsumerName,
    /// Id from the team's own system.
    pub custom_id: Option<&'k CustomId>,
    /// Metadata from the team for the origin.
    pub metadata: Option<&'k Metadata>,
}

impl FoundConsumer {
    /// Builds the result; `None` if the consumer refers to a plan that is not there, whose bounds
    /// are unknown.
    pub(super) fn new(record: Held<ConsumerRecord>) -> Option<Self> {
        let plan = match record.plan() {
            None => None,
            Some(cell) => Some(cell.plan()?),
        };
        Some(Self {
            id: record.id(),
            record,
            plan,
        })
    }

    /// Returns what the origin may know.
    #[must_use]
    pub fn known(&self) -> KnownConsumer<'_> {
        let record = &self.record;
        KnownConsumer {
            id: &self.id,
            bucket: &record.bucket,
            name: &record.name,
            custom_id: record.custom_id(),
            metadata: record.metadata(),
        }
    }

    /// Returns when it was created.
    #[must_use]
    pub fn created_at(&self) -> UnixMillis {
        self.record.created_at
    }

    /// Returns the numbers of the consumer itself, if it has any.
    #[must_use]
    pub fn allowance(&self) -> Option<&Allowance> {
        self.record.allowance()
    }

    /// Returns the plan, if it has one. Its numbers apply where the consumer has none of its own.
    #[must_use]
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_deref()
    }

    /// Returns the value of the tag `name`.
    #[must_use]
    pub fn tag(&self, name: &str) -> Option<&str> {
        self.record.tag(name)
    }

    /// Returns whether it has `scope`, by itself or by its plan.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.record.scopes.contains(scope)
            || self.plan().is_some_and(|plan| plan.scopes.contains(scope))
    }

    /// Returns its scopes and those of its plan.
    #[must_use]
    pub fn scopes(&self) -> Cow<'_, Scopes> {
        let own = &self.record.scopes;
        match self.plan() {
            None => Cow::Borrowed(own),
            Some(plan) => own.with(&plan.scopes),
        }
    }

    /// Returns whether it may be used from `address`, the client's address as the gateway knows it.
    #[must_use]
    pub fn allows_address(&self, address: impl Into<CallerAddress>) -> bool {
        self.record.allows_address(address.into())
    }
}
