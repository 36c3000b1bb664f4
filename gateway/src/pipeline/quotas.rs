//! The stage of the quotas: reserves at admission, and gives back at the end what does not count.

use crate::auth::Caller;
use crate::http::refusal::{Exceeded, Refusal};
use crate::limits::Purpose;
use crate::limits::quota::{Counted, Notice, QuotaVerdict};
use crate::pipeline::record::Exchange;
use crate::pipeline::refused::Refused;
use crate::pipeline::worker::{Policy, Worker};
use crate::routes::Route;
use crate::telemetry::metrics::WorkerCounts;

/// Reserves the cost of the request of every quota of its caller.
///
/// # Errors
/// [`Refusal::QuotaExceeded`] by the quota that ends latest; nothing was reserved.
pub(super) fn reserve(
    worker: &Worker,
    policy: &Policy,
    route: &Route,
    caller: &Caller,
    exchange: &mut Exchange,
    purpose: Purpose,
) -> Result<(), Refused> {
    let counted = match caller {
        Caller::Key(key) => Some(Counted::Key(key)),
        Caller::Token(holder) => holder.consumer().map(Counted::Consumer),
        Caller::Anonymous => None,
    };
    let Some(counted) = counted else {
        return Ok(());
    };
    let at = exchange.at();
    let verdict = policy.quotas.reserve(counted, route.cost, at, purpose);
    tell(&verdict, |count| {
        if let Some(metrics) = worker.tally.metrics() {
            count(metrics.counts());
        }
    });
    if let Some(denied) = verdict.denied {
        // Without the limits: what the request took of them is given back after it was told.
        exchange.tell_only(verdict.standings);
        let exceeded = Exceeded::new(denied.quota, denied.wait);
        return Err(Refusal::QuotaExceeded(exceeded).into());
    }
    exchange.tell_also(verdict.standings);
    exchange.reserve(verdict.reserved);
    Ok(())
}

/// Logs and counts the shares of quotas that were reached, once in each period, and counts what a
/// quota that is not enforced would have denied. `metrics` has the counters.
pub(crate) fn tell(verdict: &QuotaVerdict, metrics: impl FnOnce(&dyn Fn(&WorkerCounts))) {
    if verdict.notices.is_empty() && verdict.shadow.is_none() {
        return;
    }
    for Notice {
        quota,
        subject,
        share,
        limit,
        enforced,
    } in &verdict.notices
    {
        let beyond = if *enforced { "refused" } else { "let through" };
        log::warn!(
            "quota {quota:?}: {subject} has used {share} % of {limit}; requests beyond are {beyond}"
        );
    }
    metrics(&|counts| {
        for notice in &verdict.notices {
            counts.quota_notices.count(&notice.share.to_string());
        }
        if verdict.shadow.is_some() {
            counts.would_exceed_quota.add(1);
        }
    });
}
