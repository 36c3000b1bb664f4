//! `GET /v1/adoption`

use std::time::Duration;

use actix_web::HttpResponse;
use utoipa::PartialSchema as _;

use crate::admin::endpoint::{Answered, Call, Endpoint};
use crate::admin::query::{Parameters, Query};
use crate::keys::{RouteName, UnixMillis, When};
use crate::views::AdoptionView;

/// Default length of the period.
const DEFAULT_PERIOD: Duration = Duration::from_hours(30 * 24);
/// Default number of listed callers.
const DEFAULT_TOP: u32 = 100;

/// The operation.
pub(super) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/adoption", show)
        .named("show_adoption", "usage", "Show who comes to routes that only observe")
        .described(
            "Counts of all gateways, by whole days in UTC, kept for 90 days. Counts are at most a second old.",
        )
        .answers(200, "The requests of each route.", "Adoption", AdoptionView::schema())
        .made_of::<AdoptionView<'_>>()
}

struct Wanted {
    since: Option<When>,
    route: Option<RouteName>,
    top: Option<u32>,
}

impl Query for Wanted {
    fn read(parameters: &mut Parameters) -> Self {
        Self {
            since: parameters.optional("since", "Start of the period; default: 30 days ago."),
            route: parameters.optional("route", "Only the route of this name."),
            top: parameters.limit("top", "Most callers to list of each route."),
        }
    }
}

async fn show(call: Call<(), Wanted, ()>) -> Answered {
    let Wanted { since, route, top } = &call.query;
    let back = i64::try_from(DEFAULT_PERIOD.as_millis()).unwrap_or(i64::MAX);
    let since = since.map_or(UnixMillis(call.now().0.saturating_sub(back)), |since| {
        since.ago(call.now())
    });
    let route = route.as_ref().map(RouteName::as_str);
    let top = top.unwrap_or(DEFAULT_TOP);
    let report = call.store.adoption(since, route, top).await?;
    Ok(HttpResponse::Ok().json(AdoptionView::of(&report)))
}
