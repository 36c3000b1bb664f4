//! `/v1/gateways`

use actix_web::HttpResponse;
use actix_web::http::Method;
use utoipa::PartialSchema as _;

use crate::admin::endpoint::{Answered, Call, Endpoint};
use crate::admin::problem::{Kind, Problem};
use crate::store::GatewayId;
use crate::views::{GatewayView, GatewaysView};

/// Returns the operations on gateways.
pub(super) fn endpoints() -> [Endpoint; 2] {
    [
        Endpoint::get("/v1/gateways", list)
            .named(
                "list_gateways",
                "operations",
                "List the gateways that follow the store",
            )
            .described(
                "By name, each with its newest revision in force. A gateway is listed until it deregisters, its successor \
                 listens in its place, or it is forgotten.",
            )
            .answers(200, "The gateways.", "Gateways", GatewaysView::schema())
            .made_of::<GatewaysView<'_>>(),
        Endpoint::write(Method::DELETE, "/v1/gateways/{id}", forget)
            .named(
                "forget_gateway",
                "operations",
                "Forget a gateway that is gone, so that no call waits for it",
            )
            .described("Only for a gateway that certainly stopped: while it runs, it may accept a revoked key.")
            .answers(200, "The last known state of the gateway.", "Gateway", GatewayView::schema())
            .refuses(&[(409, "The gateway is running: its last heartbeat is recent.")]),
    ]
}

async fn list(call: Call<(), (), ()>) -> Answered {
    let revision = call.store.newest_revision().await?;
    let gateways = call.store.gateways().await?;
    Ok(HttpResponse::Ok().json(GatewaysView {
        revision,
        data: gateways.iter().map(GatewayView::of).collect(),
    }))
}

async fn forget(call: Call<GatewayId, (), ()>) -> Answered {
    let id = &call.path;
    let forgotten = call.store.forget_gateway(id, &call.stamp).await?;
    let forgotten = forgotten
        .ok_or_else(|| Problem::new(Kind::NotFound, format!("There is no gateway {id}.")))?;
    Ok(HttpResponse::Ok().json(GatewayView::of(&forgotten)))
}
