//! JSON view of the gateways that follow the store.

use serde::Serialize;
use utoipa::ToSchema;

use crate::keys::UnixMillis;
use crate::store::{Confirmation, FollowingGateway, StoredKey};
use crate::views::{KeyView, schemas};

/// A gateway that follows the store.
#[derive(Serialize, ToSchema)]
#[schema(as = Gateway)]
pub struct GatewayView<'g> {
    /// Id of the run.
    #[schema(schema_with = schemas::gateway_id)]
    pub id: &'g str,
    /// Host and listening address.
    pub name: &'g str,
    /// Start time.
    #[schema(schema_with = schemas::moment)]
    pub started_at: UnixMillis,
    /// Time of the last heartbeat.
    #[schema(schema_with = schemas::moment)]
    pub seen_at: UnixMillis,
    /// Newest revision in force.
    #[schema(minimum = 0)]
    pub revision: i64,
    /// Hash of the settings in force: gateways with the same settings have the same. Secrets are
    /// not part of it.
    #[schema(required, schema_with = schemas::settings_hash_or_null)]
    pub config_hash: Option<&'g str>,
    /// Whether a heartbeat came recently. Without one, the gateway was killed, cut off or stopped.
    pub live: bool,
    /// Whether the silence exceeds `store.max_staleness`: the gateway refuses every request until
    /// it has caught up.
    pub refusing: bool,
}

/// All gateways that follow the store.
#[derive(Serialize, ToSchema)]
#[schema(as = Gateways)]
pub struct GatewaysView<'g> {
    /// Newest revision of the store.
    #[schema(minimum = 0)]
    pub revision: i64,
    /// The gateways, by name.
    pub data: Vec<GatewayView<'g>>,
}

/// Confirmation of a change by the gateways.
#[derive(Serialize, ToSchema)]
#[schema(as = Confirmation)]
pub struct ConfirmationView<'g> {
    /// Gateways that confirmed the change.
    pub confirmed: Vec<GatewayView<'g>>,
    /// Running gateways that did not confirm in time.
    pub missing: Vec<GatewayView<'g>>,
    /// Gateways already silent that did not confirm in time: killed, cut off or stopped. While one
    /// may run, it may accept the key.
    pub silent: Vec<GatewayView<'g>>,
    /// Unconfirmed gateways that refuse every request until they have caught up.
    pub refusing: Vec<GatewayView<'g>>,
}

/// A revoked key.
#[derive(Serialize, ToSchema)]
#[schema(as = RevokedKey)]
pub struct RevokedKeyView<'k> {
    /// The key in its new state.
    #[serde(flatten)]
    pub key: KeyView<'k>,
    /// Confirmation by the gateways. Present only if the request waited for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = ConfirmationView<'k>)]
    pub gateways: Option<ConfirmationView<'k>>,
}

impl<'g> GatewayView<'g> {
    /// Builds the view of `gateway`.
    #[must_use]
    pub fn of(gateway: &'g FollowingGateway) -> Self {
        Self {
            id: &gateway.id,
            name: &gateway.name,
            started_at: gateway.started_at,
            seen_at: gateway.seen_at,
            revision: gateway.revision,
            config_hash: gateway.config_hash.as_deref(),
            live: gateway.live,
            refusing: gateway.refusing,
        }
    }
}

impl<'g> ConfirmationView<'g> {
    /// Builds the view of `confirmation`.
    #[must_use]
    pub fn of(confirmation: &'g Confirmation) -> Self {
        let views =
            |gateways: &'g [FollowingGateway]| gateways.iter().map(GatewayView::of).collect();
        Self {
            confirmed: views(&confirmation.confirmed),
            missing: views(&confirmation.missing),
            silent: views(&confirmation.silent),
            refusing: views(&confirmation.refusing),
        }
    }
}

impl<'k> RevokedKeyView<'k> {
    /// Builds the view of a revoked key at `now`, with its confirmation.
    #[must_use]
    pub fn of(key: &'k StoredKey, confirmation: Option<&'k Confirmation>, now: UnixMillis) -> Self {
        Self {
            key: KeyView::of(key, now),
            gateways: confirmation.map(ConfirmationView::of),
        }
    }
}
