//! JSON view of usage.

use serde::Serialize;
use utoipa::ToSchema;

use crate::keys::{KeyId, UnixMillis, UsageCounts};
use crate::store::{Period, PeriodUsage, TopKey, UsageReport};
use crate::views::schemas;

/// Usage in a range, with a row for each period, even without usage.
#[derive(Serialize, ToSchema)]
#[schema(as = Usage)]
pub struct UsageView<'u> {
    /// Beginning of the first period.
    #[schema(schema_with = schemas::moment)]
    pub from: UnixMillis,
    /// End of the last period.
    #[schema(schema_with = schemas::moment)]
    pub to: UnixMillis,
    /// Granularity.
    #[schema(schema_with = schemas::period)]
    pub by: &'static str,
    /// Periods in order.
    pub periods: Vec<PeriodView>,
    /// Sum of all periods.
    pub total: CountsView,
    /// Keys with the most requests. Present only on request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<TopKeyView>)]
    pub top_keys: Option<Vec<TopKeyView<'u>>>,
}

/// Usage in one period.
#[derive(Serialize, ToSchema)]
#[schema(as = PeriodUsage)]
pub struct PeriodView {
    /// Beginning of the period.
    #[schema(schema_with = schemas::moment)]
    pub start: UnixMillis,
    /// Counters.
    #[serde(flatten)]
    pub counts: CountsView,
}

/// Usage of one key.
#[derive(Serialize, ToSchema)]
#[schema(as = KeyUsage)]
pub struct TopKeyView<'u> {
    /// Id of the key.
    #[schema(schema_with = schemas::key_id)]
    pub key: KeyId,
    /// Name of the consumer; null for a deleted key.
    #[schema(required)]
    pub consumer: Option<&'u str>,
    /// Counters.
    #[serde(flatten)]
    pub counts: CountsView,
}

/// Usage counters.
#[derive(Serialize, ToSchema)]
#[schema(as = UsageCounts)]
pub struct CountsView {
    /// Requests with a key, including refused ones.
    pub requests: u64,
    /// Requests that the gateway refused with a 4xx.
    pub refusals: u64,
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of response bodies.
    pub bytes_out: u64,
}

impl<'u> UsageView<'u> {
    /// Builds the view of `report`, with the most used keys if given.
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
