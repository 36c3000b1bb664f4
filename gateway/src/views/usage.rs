//! What is seen of usage.

use serde::Serialize;
use utoipa::ToSchema;

use crate::keys::{KeyId, UnixMillis, UsageCounts};
use crate::store::{Period, PeriodUsage, TopKey, UsageReport};
use crate::views::schemas;

/// Usage in a range, with a row for each period, also for those in which nothing was done.
#[derive(Serialize, ToSchema)]
#[schema(as = Usage)]
pub struct UsageView<'u> {
    /// The beginning of the first period.
    #[schema(schema_with = schemas::moment)]
    pub from: UnixMillis,
    /// The end of the last period.
    #[schema(schema_with = schemas::moment)]
    pub to: UnixMillis,
    /// How usage is added up.
    #[schema(schema_with = schemas::period)]
    pub by: &'static str,
    /// The periods, in their order.
    pub periods: Vec<PeriodView>,
    /// All of them together.
    pub total: CountsView,
    /// The keys with the most requests. There only when it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<TopKeyView>)]
    pub top_keys: Option<Vec<TopKeyView<'u>>>,
}

/// Usage in one period.
#[derive(Serialize, ToSchema)]
#[schema(as = PeriodUsage)]
pub struct PeriodView {
    /// Its beginning.
    #[schema(schema_with = schemas::moment)]
    pub start: UnixMillis,
    /// How much was done.
    #[serde(flatten)]
    pub counts: CountsView,
}

/// Usage of one key.
#[derive(Serialize, ToSchema)]
#[schema(as = KeyUsage)]
pub struct TopKeyView<'u> {
    /// The key.
    #[schema(schema_with = schemas::key_id)]
    pub key: KeyId,
    /// The name of whose it is; null when the key no longer exists.
    #[schema(required)]
    pub consumer: Option<&'u str>,
    /// How much was done.
    #[serde(flatten)]
    pub counts: CountsView,
}

/// How much was done.
#[derive(Serialize, ToSchema)]
#[schema(as = UsageCounts)]
pub struct CountsView {
    /// Requests that came with a key, those that were refused included.
    pub requests: u64,
    /// Those that the gateway refused with a 4xx.
    pub refusals: u64,
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of response bodies.
    pub bytes_out: u64,
}

impl<'u> UsageView<'u> {
    /// What is seen of `report`, with the keys that were used most, if that was asked for.
    #[must_use]
    pub fn of(report: &'u UsageReport, top: Option<&'u [TopKey]>) -> Self {
        let period = |PeriodUsage { start, counts }: &PeriodUsage| PeriodView {
            start: *start,
            counts: CountsView::of(*counts),
        };
        Self {
            from: report.from,
            to: report.to,
            by: Period::as_str(report.by),
            periods: report.periods.iter().map(period).collect(),
            total: CountsView::of(report.total),
            top_keys: top.map(|top| top.iter().map(TopKeyView::of).collect()),
        }
    }
}

impl<'u> TopKeyView<'u> {
    fn of(top: &'u TopKey) -> Self {
        Self {
            key: top.key,
            consumer: top.consumer.as_deref(),
            counts: CountsView::of(top.counts),
        }
    }
}

impl CountsView {
    fn of(counts: UsageCounts) -> Self {
        let UsageCounts {
            requests,
            refusals,
            bytes_in,
            bytes_out,
        } = counts;
        Self {
            requests,
            refusals,
            bytes_in,
            bytes_out,
        }
    }
}
