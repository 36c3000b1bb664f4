//! JSON view of who comes to routes that only observe.

use serde::Serialize;
use utoipa::ToSchema;

use crate::keys::{ConsumerId, UnixMillis};
use crate::store::{AdoptionCaller, AdoptionOfRoute, AdoptionReport};
use crate::views::schemas;

/// Requests on routes that only observe.
#[derive(Serialize, ToSchema)]
#[schema(as = Adoption)]
pub struct AdoptionView<'a> {
    /// Beginning of the first day, in UTC.
    #[schema(schema_with = schemas::moment)]
    pub from: UnixMillis,
    /// Routes with such requests, by name.
    pub routes: Vec<AdoptionOfRouteView<'a>>,
}

/// Requests on one route.
#[derive(Serialize, ToSchema)]
#[schema(as = AdoptionOfRoute)]
pub struct AdoptionOfRouteView<'a> {
    /// Name of the route.
    pub route: &'a str,
    /// Requests while the route only observed.
    pub requests: u64,
    /// Those of them with a good credential.
    pub good: u64,
    /// Those of them that would have been refused.
    pub would_be_refused: u64,
    /// Number of those who sent the latter, listed or not.
    pub caller_count: u64,
    /// Those who sent the latter, most requests first.
    pub callers: Vec<AdoptionCallerView<'a>>,
}

/// Who came without a good credential.
#[derive(Serialize, ToSchema)]
#[schema(as = AdoptionCaller)]
pub struct AdoptionCallerView<'a> {
    /// Code that the refusal would have had.
    pub code: &'a str,
    /// Its cause, as in the access log.
    pub cause: &'a str,
    /// Id of the consumer of the key, where the key was known.
    #[schema(required, schema_with = schemas::consumer_id_or_null)]
    pub consumer_id: Option<ConsumerId>,
    /// Name of the consumer; null for a deleted one too.
    #[schema(required)]
    pub consumer: Option<&'a str>,
    /// Range of the address: a /24 or a /64; `unknown`, or `other` beyond the number that is kept.
    pub network: &'a str,
    /// Product of the client, from its `User-Agent`; `none`, or `other`.
    pub client: &'a str,
    /// Requests.
    pub requests: u64,
    /// Arrival of the first.
    #[schema(schema_with = schemas::moment)]
    pub first_seen_at: UnixMillis,
    /// Arrival of the last.
    #[schema(schema_with = schemas::moment)]
    pub last_seen_at: UnixMillis,
}

impl<'a> AdoptionView<'a> {
    /// Builds the view of `report`.
    #[must_use]
    pub fn of(report: &'a AdoptionReport) -> Self {
        Self {
            from: report.from,
            routes: report.routes.iter().map(AdoptionOfRouteView::of).collect(),
        }
    }
}

impl<'a> AdoptionOfRouteView<'a> {
    fn of(of_route: &'a AdoptionOfRoute) -> Self {
        Self {
            route: &of_route.route,
            requests: of_route.requests(),
            good: of_route.good,
            would_be_refused: of_route.refused,
            caller_count: of_route.all_callers,
            callers: of_route
                .callers
                .iter()
                .map(AdoptionCallerView::of)
                .collect(),
        }
    }
}

impl<'a> AdoptionCallerView<'a> {
    fn of(caller: &'a AdoptionCaller) -> Self {
        let AdoptionCaller {
            code,
            cause,
            consumer,
            consumer_name,
            network,
            client,
            requests,
            first_at,
            last_at,
        } = caller;
        Self {
            code,
            cause,
            consumer_id: *consumer,
            consumer: consumer_name.as_deref(),
            network,
            client,
            requests: *requests,
            first_seen_at: *first_at,
            last_seen_at: *last_at,
        }
    }
}
