//! JSON views of consumers, keys and buckets with their schemas, for scripts and the admin API
//! alike.

mod adoption;
mod audit;
mod gateways;
mod leaks;
mod plans;
pub mod schemas;
mod usage;

pub use adoption::AdoptionView;
pub use audit::AuditView;
pub use gateways::{ConfirmationView, GatewayView, GatewaysView, RevokedKeyView};
pub use leaks::LeakView;
pub use plans::PlanView;
pub use usage::{TopKeyView, UsageView};

use serde::Serialize;
use utoipa::ToSchema;

use crate::keys::{
    AllowedIps, AllowedMethods, AllowedRoutes, ConsumerId, CustomId, Description, KeyId, Lifetime,
    MaxInFlight, MaxLiveKeys, Metadata, PlanName, Quotas, Rates, RouteName, Scopes, Tags,
    UnixMillis,
};
use crate::store::{
    ConsumerAttributes, KeyAttributes, RolledKeys, StoredBucket, StoredConsumer, StoredKey,
};

/// Maximum number of replaced keys in a view: a consumer may have any number.
pub const MAX_ENDING_SHOWN: usize = 100;

/// A namespace of consumers.
#[derive(Serialize, ToSchema)]
#[schema(as = Bucket)]
pub struct BucketView<'b> {
    /// Immutable name.
    #[schema(schema_with = schemas::bucket_name)]
    pub name: &'b str,
    /// Action on keys reported as leaked.
    #[schema(schema_with = schemas::leak_policy)]
    pub leak_policy: &'static str,
    /// Grace period under the policy `roll`, in seconds.
    #[schema(schema_with = schemas::grace_seconds)]
    pub leak_grace_seconds: u64,
    /// Lifetime of a new key without an expiry of its own, in seconds; null for none.
    #[schema(required, schema_with = schemas::lifetime_or_null)]
    pub default_key_lifetime_seconds: Option<u64>,
    /// Longest lifetime of a key, in seconds; null for none.
    #[schema(required, schema_with = schemas::lifetime_or_null)]
    pub max_key_lifetime_seconds: Option<u64>,
    /// Most live keys of one consumer; null for any number.
    #[schema(required, schema_with = schemas::max_live_keys_or_null)]
    pub max_live_keys: Option<MaxLiveKeys>,
    /// Time after which an unused key is reported or disabled, in seconds; null for never.
    #[schema(required, schema_with = schemas::lifetime_or_null)]
    pub unused_after_seconds: Option<u64>,
    /// What happens to unused keys.
    #[schema(schema_with = schemas::unused_action)]
    pub unused_action: &'static str,
    /// Time of creation.
    #[schema(schema_with = schemas::moment)]
    pub created_at: UnixMillis,
}

/// A consumer, the owner of keys.
#[derive(Serialize, ToSchema)]
#[schema(as = Consumer)]
pub struct ConsumerView<'c> {
    /// Immutable id.
    #[schema(schema_with = schemas::consumer_id)]
    pub id: ConsumerId,
    /// Namespace of the name.
    #[schema(schema_with = schemas::bucket_name)]
    pub bucket: &'c str,
    /// Name, unique in the bucket; sent to the origin.
    #[schema(schema_with = schemas::consumer_name)]
    pub name: &'c str,
    /// Id from your own system, unique in the bucket; sent to the origin.
    #[schema(required, schema_with = schemas::custom_id_or_null)]
    pub custom_id: Option<&'c str>,
    /// Note for administrators; not sent to the origin.
    #[schema(required, schema_with = schemas::description_or_null)]
    pub description: Option<&'c Description>,
    /// Metadata for the origin.
    #[schema(required, schema_with = schemas::metadata_or_null)]
    pub metadata: Option<serde_json::Value>,
    /// Granted scopes, the upper limit for every key of the consumer.
    #[schema(schema_with = schemas::scopes)]
    pub scopes: &'c Scopes,
    /// Addresses that the keys may be used from; empty for any address.
    #[schema(schema_with = schemas::allowed_ips)]
    pub allowed_ips: &'c AllowedIps,
    /// Plan of the consumer, which grants scopes and numbers besides the consumer's own.
    #[schema(required, schema_with = schemas::plan_name_or_null)]
    pub plan: Option<&'c PlanName>,
    /// Rates of the consumer in place of those of the configuration.
    #[schema(schema_with = schemas::limits)]
    pub limits: &'c Rates,
    /// Quotas of the consumer, likewise.
    #[schema(schema_with = schemas::quotas)]
    pub quotas: &'c Quotas,
    /// Requests of the consumer in flight at once; null if it has no number of its own.
    #[schema(required, schema_with = schemas::max_in_flight_or_null)]
    pub max_in_flight: Option<MaxInFlight>,
    /// Tags for administrators; not sent to the origin.
    #[schema(schema_with = schemas::tags)]
    pub tags: &'c Tags,
    /// Time of creation.
    #[schema(schema_with = schemas::moment)]
    pub created_at: UnixMillis,
    /// Time of the last change.
    #[schema(schema_with = schemas::moment)]
    pub updated_at: UnixMillis,
}

/// A deleted consumer.
#[derive(Serialize, ToSchema)]
#[schema(as = DeletedConsumer)]
pub struct DeletedConsumerView<'c> {
    /// Former id.
    #[schema(schema_with = schemas::consumer_id)]
    pub id: ConsumerId,
    /// Former name.
    #[schema(schema_with = schemas::consumer_name)]
    pub name: &'c str,
    /// Number of keys deleted with the consumer.
    pub deleted_keys: u64,
}

/// A key. Contains the plain key only once, directly after its creation.
#[derive(Serialize, ToSchema)]
#[schema(as = Key)]
pub struct KeyView<'k> {
    /// Public id.
    #[schema(schema_with = schemas::key_id)]
    pub id: KeyId,
    /// The plain key. Present only in the answer to its creation: it is not stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schemas::plain_key)]
    pub key: Option<&'k str>,
    /// Whether `key` is present. Only in answers to a creation: false for a repeated one, because
    /// the plain key is not stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = bool)]
    pub key_shown: Option<bool>,
    /// Name of the consumer.
    #[schema(schema_with = schemas::consumer_name)]
    pub consumer: &'k str,
    /// Id of the consumer.
    #[schema(schema_with = schemas::consumer_id)]
    pub consumer_id: ConsumerId,
    /// Bucket of the consumer.
    #[schema(schema_with = schemas::bucket_name)]
    pub bucket: &'k str,
    /// First characters of the key, to recognise it by.
    pub hint: &'k str,
    /// Status of the key, the reason for refusal included.
    #[schema(schema_with = schemas::key_status)]
    pub status: &'static str,
    /// Expiry; null for a key that never expires.
    #[schema(required, schema_with = schemas::moment_or_null)]
    pub expires_at: Option<UnixMillis>,
    /// Start of the deprecation; null for a key that needs no replacement.
    #[schema(required, schema_with = schemas::moment_or_null)]
    pub deprecated_at: Option<UnixMillis>,
    /// Successor of a rolled key.
    #[schema(required, schema_with = schemas::key_id_or_null)]
    pub successor: Option<KeyId>,
    /// Scopes of the key; null for all of the consumer's.
    #[schema(required, schema_with = schemas::scopes_or_null)]
    pub scopes: Option<&'k Scopes>,
    /// Rates of the key, which narrow those of its consumer.
    #[schema(schema_with = schemas::limits)]
    pub limits: &'k Rates,
    /// Quotas of the key, likewise.
    #[schema(schema_with = schemas::quotas)]
    pub quotas: &'k Quotas,
    /// Requests of the key in flight at once; null if it has no number of its own.
    #[schema(required, schema_with = schemas::max_in_flight_or_null)]
    pub max_in_flight: Option<MaxInFlight>,
    /// Addresses that the key may be used from, besides those of its consumer; empty for any
    /// address that the consumer allows.
    #[schema(schema_with = schemas::allowed_ips)]
    pub allowed_ips: &'k AllowedIps,
    /// Methods that the key may be used with; empty for any method.
    #[schema(schema_with = schemas::allowed_methods)]
    pub allowed_methods: AllowedMethods,
    /// Names of the routes that the key may be used on; empty for any route.
    #[schema(schema_with = schemas::allowed_routes)]
    pub allowed_routes: &'k AllowedRoutes,
    /// Those of `allowed_routes` that no route of the answering gateway has. Only in answers about
    /// one key, and only if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schemas::allowed_routes)]
    pub unknown_routes: Option<Vec<&'k RouteName>>,
    /// Whether the key may be unused for any time, whatever its bucket says.
    pub exempt_from_unused: bool,
    /// Note for administrators.
    #[schema(required, schema_with = schemas::description_or_null)]
    pub description: Option<&'k Description>,
    /// Time of creation.
    #[schema(schema_with = schemas::moment)]
    pub created_at: UnixMillis,
    /// Time of the last change.
    #[schema(schema_with = schemas::moment)]
    pub updated_at: UnixMillis,
    /// Time of the last use, if known.
    #[schema(required, schema_with = schemas::moment_or_null)]
    pub last_used_at: Option<UnixMillis>,
    /// Time of the revocation, if the audit still has it.
    #[schema(required, schema_with = schemas::moment_or_null)]
    pub revoked_at: Option<UnixMillis>,
    /// Actor of the revocation in the audit.
    #[schema(required)]
    pub revoked_by: Option<&'k str>,
}

/// A key created to replace others.
#[derive(Serialize, ToSchema)]
#[schema(as = RolledKey)]
pub struct RolledView<'k> {
    /// The new key.
    #[serde(flatten)]
    pub new: KeyView<'k>,
    /// The replaced keys, at most a hundred.
    pub ending: Vec<KeyView<'k>>,
    /// Total number of replaced keys.
    pub ending_count: usize,
}

impl<'b> BucketView<'b> {
    /// Builds the view of `stored`.
    #[must_use]
    pub fn of(stored: &'b StoredBucket) -> Self {
        let keys = &stored.keys;
        Self {
            name: stored.name.as_str(),
            leak_policy: stored.leaks.policy.as_str(),
            leak_grace_seconds: stored.leaks.grace.as_secs(),
            default_key_lifetime_seconds: keys.default_lifetime.map(Lifetime::as_secs),
            max_key_lifetime_seconds: keys.max_lifetime.map(Lifetime::as_secs),
            max_live_keys: keys.max_live,
            unused_after_seconds: keys.unused_after.map(Lifetime::as_secs),
            unused_action: keys.unused_action.as_str(),
            created_at: stored.created_at,
        }
    }
}

impl<'c> ConsumerView<'c> {
    /// Builds the view of `stored`.
    #[must_use]
    pub fn of(stored: &'c StoredConsumer) -> Self {
        let ConsumerAttributes {
            custom_id,
            description,
            metadata,
            scopes,
            allowed_ips,
            plan,
            limits,
            quotas,
            max_in_flight,
            tags,
        } = &stored.attributes;
        Self {
            id: stored.id,
            bucket: stored.bucket.as_str(),
            name: stored.name.as_str(),
            custom_id: custom_id.as_ref().map(CustomId::as_str),
            description: description.as_ref(),
            metadata: metadata.as_ref().map(Metadata::to_json),
            scopes,
            allowed_ips,
            plan: plan.as_ref(),
            limits,
            quotas,
            max_in_flight: *max_in_flight,
            tags,
            created_at: stored.created_at,
            updated_at: stored.updated_at,
        }
    }
}

impl<'k> KeyView<'k> {
    /// Builds the view of `stored` at `now`.
    #[must_use]
    pub fn of(stored: &'k StoredKey, now: UnixMillis) -> Self {
        let KeyAttributes {
            description,
            expires_at,
            scopes,
            limits,
            quotas,
            max_in_flight,
            allowed_ips,
            allowed_methods,
            allowed_routes,
            exempt_from_unused,
        } = &stored.attributes;
        Self {
            id: stored.id,
            key: None,
            key_shown: None,
            consumer: stored.consumer_name.as_str(),
            consumer_id: stored.consumer,
            bucket: stored.bucket.as_str(),
            hint: &stored.hint,
            status: stored.status(now).as_str(),
            expires_at: *expires_at,
            deprecated_at: stored.rolled.map(|rolled| rolled.at),
            successor: stored.rolled.and_then(|rolled| rolled.successor),
            scopes: scopes.as_ref(),
            limits,
            quotas,
            max_in_flight: *max_in_flight,
            allowed_ips,
            allowed_methods: *allowed_methods,
            allowed_routes,
            unknown_routes: None,
            exempt_from_unused: *exempt_from_unused,
            description: description.as_ref(),
            created_at: stored.created_at,
            updated_at: stored.updated_at,
            last_used_at: stored.last_used_at,
            revoked_at: stored.revoked.as_ref().map(|revoked| revoked.at),
            revoked_by: stored.revoked.as_ref().map(|revoked| &*revoked.by),
        }
    }

    /// Names the allowed routes that do not exist, by `is_route`.
    #[must_use]
    pub fn with_routes(self, is_route: impl Fn(&str) -> bool) -> Self {
        let names = self.allowed_routes.iter();
        let unknown: Vec<&RouteName> = names.filter(|name| !is_route(name.as_str())).collect();
        Self {
            unknown_routes: (!unknown.is_empty()).then_some(unknown),
            ..self
        }
    }
}

impl<'k> RolledView<'k> {
    /// Builds the view of `rolled` at `now`, without the plain key.
    #[must_use]
    pub fn of(rolled: &'k RolledKeys, now: UnixMillis) -> Self {
        let ending = rolled
            .ending
            .iter()
            .take(MAX_ENDING_SHOWN)
            .map(|ending| KeyView::of(ending, now))
            .collect();
        Self {
            new: KeyView::of(&rolled.key, now),
            ending,
            ending_count: rolled.ending.len(),
        }
    }

    /// Adds the plain key.
    #[must_use]
    pub fn with_key(self, key: &'k str) -> Self {
        Self {
            new: KeyView {
                key: Some(key),
                ..self.new
            },
            ..self
        }
    }
}
