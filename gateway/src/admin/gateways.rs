//! `GET /v1/gateways`

use actix_web::HttpResponse;
use utoipa::PartialSchema as _;

use crate::admin::endpoint::{Answered, Call, Endpoint};
use crate::views::{GatewayView, GatewaysView};

/// The operation.
pub(super) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/gateways", list)
        .named("list_gateways", "operations", "List the gateways that follow the store")
        .described(
            "By name, each with the newest change that it answers requests by. One that was silent for a day is forgotten.",
        )
        .answers(200, "The gateways.", "Gateways", GatewaysView::schema())
        .made_of::<GatewaysView<'_>>()
}

async fn list(call: Call<(), (), ()>) -> Answered {
    let revision = call.store.newest_revision().await?;
    let gateways = call.store.gateways().await?;
    Ok(HttpResponse::Ok().json(GatewaysView {
        revision,
        data: gateways.iter().map(GatewayView::of).collect(),
    }))
}
