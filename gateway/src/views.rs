//! What scripts and the admin API see of consumers, keys and buckets: one JSON for both, with its schema.

mod audit;
mod gateways;
mod leaks;
pub mod schemas;
mod usage;

pub use audit::AuditView;
pub use gateways::{ConfirmationView, GatewayView, GatewaysView, RevokedKeyView};
pub use leaks::LeakView;
pub use usage::{TopKeyView, UsageView};

use serde::Serialize;
use utoipa::ToSchema;

use crate::keys::{
    AllowedIps, ConsumerId, CustomId, Description, KeyId, Metadata, Scopes, Tags, UnixMillis,
};
use crate::store::{
    ConsumerAttributes, KeyAttributes, RolledKeys, StoredBucket, StoredConsumer, StoredKey,
};

/// Most of the keys that a new one takes the place of that are shown: a consumer may have any number.
pub const MAX_ENDING_SHOWN: usize = 100;

/// A namespace of consumers.
#[derive(Serialize, ToSchema)]
#[schema(as = Bucket)]
pub struct BucketView<'b> {
    /// Its name, which never changes.
    #[schema(schema_with = schemas::bucket_name)]
    pub name: &'b str,
    /// What is done to its keys that are reported as leaked.
    #[schema(schema_with = schemas::leak_policy)]
    pub leak_policy: &'static str,
    /// How long such a key goes on under the policy `roll`.
    #[schema(schema_with = schemas::grace_seconds)]
    pub leak_grace_seconds: u64,
    /// When it was made.
    #[schema(schema_with = schemas::moment)]
    pub created_at: UnixMillis,
}

/// A consumer: who keys belong to.
#[derive(Serialize, ToSchema)]
#[schema(as = Consumer)]
pub struct ConsumerView<'c> {
    /// Its id, which never changes.
    #[schema(schema_with = schemas::consumer_id)]
    pub id: ConsumerId,
    /// The namespace that its name is unique in.
    #[schema(schema_with = schemas::bucket_name)]
    pub bucket: &'c str,
    /// Its name, unique in its bucket; the origin sees it.
    #[schema(schema_with = schemas::consumer_name)]
    pub name: &'c str,
    /// The id that your own system gave it, unique in its bucket; the origin sees it.
    #[schema(required, schema_with = schemas::custom_id_or_null)]
    pub custom_id: Option<&'c str>,
    /// A note; the origin does not see it.
    #[schema(required, schema_with = schemas::description_or_null)]
    pub description: Option<&'c Description>,
    /// What the origin may learn about it.
    #[schema(required, schema_with = schemas::metadata_or_null)]
    pub metadata: Option<serde_json::Value>,
    /// What it may do. No key of it may do more.
    #[schema(schema_with = schemas::scopes)]
    pub scopes: &'c Scopes,
    /// Where its keys may be used from; empty is anywhere.
    #[schema(schema_with = schemas::allowed_ips)]
    pub allowed_ips: &'c AllowedIps,
    /// What it is sorted by; the origin does not see them.
    #[schema(schema_with = schemas::tags)]
    pub tags: &'c Tags,
    /// When it was made.
    #[schema(schema_with = schemas::moment)]
    pub created_at: UnixMillis,
    /// When it was last changed.
    #[schema(schema_with = schemas::moment)]
    pub updated_at: UnixMillis,
}

/// A consumer that was deleted.
#[derive(Serialize, ToSchema)]
#[schema(as = DeletedConsumer)]
pub struct DeletedConsumerView<'c> {
    /// The id it had.
    #[schema(schema_with = schemas::consumer_id)]
    pub id: ConsumerId,
    /// The name it had.
    #[schema(schema_with = schemas::consumer_name)]
    pub name: &'c str,
    /// How many keys went with it.
    pub deleted_keys: u64,
}

/// A key. The key itself is in here only once, right after it was made.
#[derive(Serialize, ToSchema)]
#[schema(as = Key)]
pub struct KeyView<'k> {
    /// Its public id.
    #[schema(schema_with = schemas::key_id)]
    pub id: KeyId,
    /// The key itself. There only in the answer to the request that made it: it is not stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schemas::plain_key)]
    pub key: Option<&'k str>,
    /// Whether `key` is there. There only in answers to a creation: false when it is repeated, for the key was shown the
    /// first time and is not stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = bool)]
    pub key_shown: Option<bool>,
    /// The name of whose it is.
    #[schema(schema_with = schemas::consumer_name)]
    pub consumer: &'k str,
    /// The id of whose it is.
    #[schema(schema_with = schemas::consumer_id)]
    pub consumer_id: ConsumerId,
    /// The bucket of whose it is.
    #[schema(schema_with = schemas::bucket_name)]
    pub bucket: &'k str,
    /// The beginning of the key, to recognise it by.
    pub hint: &'k str,
    /// Whether it is good, and if not, why.
    #[schema(schema_with = schemas::key_status)]
    pub status: &'static str,
    /// From when on it is refused; null is never.
    #[schema(required, schema_with = schemas::moment_or_null)]
    pub expires_at: Option<UnixMillis>,
    /// Since when it is to be replaced by another key; null is not.
    #[schema(required, schema_with = schemas::moment_or_null)]
    pub deprecated_at: Option<UnixMillis>,
    /// The key that takes its place.
    #[schema(required, schema_with = schemas::key_id_or_null)]
    pub successor: Option<KeyId>,
    /// What it may do; null is all that its consumer may.
    #[schema(required, schema_with = schemas::scopes_or_null)]
    pub scopes: Option<&'k Scopes>,
    /// A note.
    #[schema(required, schema_with = schemas::description_or_null)]
    pub description: Option<&'k Description>,
    /// When it was made.
    #[schema(schema_with = schemas::moment)]
    pub created_at: UnixMillis,
    /// When it was last changed.
    #[schema(schema_with = schemas::moment)]
    pub updated_at: UnixMillis,
    /// When it was last used, as far as that is known.
    #[schema(required, schema_with = schemas::moment_or_null)]
    pub last_used_at: Option<UnixMillis>,
    /// When it was revoked, as far as the audit goes back.
    #[schema(required, schema_with = schemas::moment_or_null)]
    pub revoked_at: Option<UnixMillis>,
    /// Who revoked it, as the audit calls them.
    #[schema(required)]
    pub revoked_by: Option<&'k str>,
}

/// A key that was made in the place of others.
#[derive(Serialize, ToSchema)]
#[schema(as = RolledKey)]
pub struct RolledView<'k> {
    /// The new key.
    #[serde(flatten)]
    pub new: KeyView<'k>,
    /// Those that it takes the place of; the first hundred where there are more.
    pub ending: Vec<KeyView<'k>>,
    /// How many those are.
    pub ending_count: usize,
}

impl<'b> BucketView<'b> {
    /// What is seen of `stored`.
    #[must_use]
    pub fn of(stored: &'b StoredBucket) -> Self {
        Self {
            name: stored.name.as_str(),
            leak_policy: stored.leaks.policy.as_str(),
            leak_grace_seconds: stored.leaks.grace.as_secs(),
            created_at: stored.created_at,
        }
    }
}

impl<'c> ConsumerView<'c> {
    /// What is seen of `stored`.
    #[must_use]
    pub fn of(stored: &'c StoredConsumer) -> Self {
        let ConsumerAttributes {
            custom_id,
            description,
            metadata,
            scopes,
            allowed_ips,
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
            tags,
            created_at: stored.created_at,
            updated_at: stored.updated_at,
        }
    }
}

impl<'k> KeyView<'k> {
    /// What is seen of `stored` at `now`.
    #[must_use]
    pub fn of(stored: &'k StoredKey, now: UnixMillis) -> Self {
        let KeyAttributes {
            description,
            expires_at,
            scopes,
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
            description: description.as_ref(),
            created_at: stored.created_at,
            updated_at: stored.updated_at,
            last_used_at: stored.last_used_at,
            revoked_at: stored.revoked.as_ref().map(|revoked| revoked.at),
            revoked_by: stored.revoked.as_ref().map(|revoked| &*revoked.by),
        }
    }
}

impl<'k> RolledView<'k> {
    /// What is seen of `rolled` at `now`, without the new key itself.
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

    /// With the new key itself.
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
