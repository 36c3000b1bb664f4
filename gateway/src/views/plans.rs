//! JSON view of plans.

use serde::Serialize;
use utoipa::ToSchema;

use crate::keys::{
    Description, Lifetime, MaxInFlight, PlanName, Quotas, Rates, Scopes, UnixMillis,
};
use crate::store::{PlanAttributes, StoredPlan};
use crate::views::schemas;

/// A bundle of scopes and numbers that consumers refer to.
#[derive(Serialize, ToSchema)]
#[schema(as = Plan)]
pub struct PlanView<'p> {
    /// Immutable name.
    #[schema(schema_with = schemas::plan_name)]
    pub name: &'p PlanName,
    /// Note for administrators.
    #[schema(required, schema_with = schemas::description_or_null)]
    pub description: Option<&'p Description>,
    /// Scopes granted to every consumer of the plan, besides the consumer's own.
    #[schema(schema_with = schemas::scopes)]
    pub scopes: &'p Scopes,
    /// Rates of every consumer of the plan, unless the consumer has its own of this name.
    #[schema(schema_with = schemas::limits)]
    pub limits: &'p Rates,
    /// Quotas of every consumer of the plan, likewise.
    #[schema(schema_with = schemas::quotas)]
    pub quotas: &'p Quotas,
    /// Requests of each consumer of the plan in flight at once; null if the plan has no number.
    #[schema(required, schema_with = schemas::max_in_flight_or_null)]
    pub max_in_flight: Option<MaxInFlight>,
    /// Lifetime of a new key without an expiry of its own, in seconds; null for that of the bucket.
    #[schema(required, schema_with = schemas::lifetime_or_null)]
    pub default_key_lifetime_seconds: Option<u64>,
    /// Longest lifetime of a key, in seconds; null for that of the bucket.
    #[schema(required, schema_with = schemas::lifetime_or_null)]
    pub max_key_lifetime_seconds: Option<u64>,
    /// Time of creation.
    #[schema(schema_with = schemas::moment)]
    pub created_at: UnixMillis,
    /// Time of the last change.
    #[schema(schema_with = schemas::moment)]
    pub updated_at: UnixMillis,
}

impl<'p> PlanView<'p> {
    /// Builds the view of `stored`.
    #[must_use]
    pub fn of(stored: &'p StoredPlan) -> Self {
        let PlanAttributes {
            description,
            scopes,
            limits,
            quotas,
            max_in_flight,
            default_key_lifetime,
            max_key_lifetime,
        } = &stored.attributes;
        Self {
            name: &stored.name,
            description: description.as_ref(),
            scopes,
            limits,
            quotas,
            max_in_flight: *max_in_flight,
            default_key_lifetime_seconds: default_key_lifetime.map(Lifetime::as_secs),
            max_key_lifetime_seconds: max_key_lifetime.map(Lifetime::as_secs),
            created_at: stored.created_at,
            updated_at: stored.updated_at,
        }
    }
}
