//! What is seen of the gateways that follow the store.

use serde::Serialize;
use utoipa::ToSchema;

use crate::keys::UnixMillis;
use crate::store::{Confirmation, FollowingGateway, StoredKey};
use crate::views::{KeyView, schemas};

/// A gateway that follows the store.
#[derive(Serialize, ToSchema)]
#[schema(as = Gateway)]
pub struct GatewayView<'g> {
    /// One run of it.
    #[schema(schema_with = schemas::gateway_id)]
    pub id: &'g str,
    /// Its host, and where it listens.
    pub name: &'g str,
    /// When it was started.
    #[schema(schema_with = schemas::moment)]
    pub started_at: UnixMillis,
    /// When it last said something.
    #[schema(schema_with = schemas::moment)]
    pub seen_at: UnixMillis,
    /// The newest change that it answers requests by.
    #[schema(minimum = 0)]
    pub revision: i64,
    /// Whether it said something lately. One that did not was killed, cut off or stopped.
    pub live: bool,
    /// Whether it was silent for longer than its `store.max_staleness`: it refuses every request until it has caught up.
    pub refusing: bool,
}

/// All gateways that follow the store.
#[derive(Serialize, ToSchema)]
#[schema(as = Gateways)]
pub struct GatewaysView<'g> {
    /// The newest change of the store.
    #[schema(minimum = 0)]
    pub revision: i64,
    /// The gateways, by name.
    pub data: Vec<GatewayView<'g>>,
}

/// Which gateways go by a change.
#[derive(Serialize, ToSchema)]
#[schema(as = Confirmation)]
pub struct ConfirmationView<'g> {
    /// Those that have said so.
    pub confirmed: Vec<GatewayView<'g>>,
    /// Those that run and have not said so in time.
    pub missing: Vec<GatewayView<'g>>,
    /// Those that fell silent before and have not said so in time: killed, cut off or stopped. As long as one may run, it may
    /// let the key in.
    pub silent: Vec<GatewayView<'g>>,
    /// Those that have not said so, and refuse every request until they have caught up.
    pub refusing: Vec<GatewayView<'g>>,
}

/// A key that was revoked.
#[derive(Serialize, ToSchema)]
#[schema(as = RevokedKey)]
pub struct RevokedKeyView<'k> {
    /// The key as it is now.
    #[serde(flatten)]
    pub key: KeyView<'k>,
    /// Which gateways refuse it. There only when that was waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = ConfirmationView<'k>)]
    pub gateways: Option<ConfirmationView<'k>>,
}

impl<'g> GatewayView<'g> {
    /// What is seen of `gateway`.
    #[must_use]
    pub fn of(gateway: &'g FollowingGateway) -> Self {
        Self {
            id: &gateway.id,
            name: &gateway.name,
            started_at: gateway.started_at,
            seen_at: gateway.seen_at,
            revision: gateway.revision,
            live: gateway.live,
            refusing: gateway.refusing,
        }
    }
}

impl<'g> ConfirmationView<'g> {
    /// What is seen of `confirmation`.
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
    /// What is seen of a revoked key at `now`, and of who confirmed that.
    #[must_use]
    pub fn of(key: &'k StoredKey, confirmation: Option<&'k Confirmation>, now: UnixMillis) -> Self {
        Self {
            key: KeyView::of(key, now),
            gateways: confirmation.map(ConfirmationView::of),
        }
    }
}
