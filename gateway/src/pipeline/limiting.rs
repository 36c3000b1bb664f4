//! The stage of the limits: how much the caller may do.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::Caller;
use crate::http::rate_limit_fields::Told;
use crate::http::refusal::{Exceeded, Refusal};
use crate::limits::{Facts, Holder, Purpose, Verdict};
use crate::pipeline::record::Exchange;
use crate::pipeline::refused::Refused;
use crate::pipeline::worker::{Policy, Worker};
use crate::routes::Route;

/// Counts the request as one in flight of its subjects until it ends.
///
/// # Errors
/// [`Refusal::TooManyInFlight`]; nothing was counted.
pub(super) fn hold(
    worker: &Worker,
    policy: &Policy,
    route: &Route,
    caller: &Caller,
    exchange: &mut Exchange,
) -> Result<(), Refused> {
    let facts = facts(route, caller, exchange);
    let entered = policy.concurrency.enter(route.in_flight, &facts);
    if entered.would_deny
        && let Some(metrics) = worker.tally.metrics()
    {
        metrics.counts().would_limit_in_flight.add(1);
    }
    if let Some(name) = entered.denied {
        let exceeded = Exceeded::new(name, Some(Duration::ZERO));
        return Err(Refusal::TooManyInFlight(exceeded).into());
    }
    exchange.hold(entered.held);
    Ok(())
}

/// Checks the request against every limit of its route, and takes its cost if `purpose` says so and
/// all admit it. Returns whether it has to wait for units of an exact limit.
///
/// # Errors
/// [`Refusal::RateLimited`] by the limit that ends latest, or [`Refusal::LimitsUnavailable`];
/// nothing was taken.
pub(super) fn limit(
    policy: &Policy,
    route: &Route,
    caller: &Caller,
    exchange: &mut Exchange,
    purpose: Purpose,
) -> Result<bool, Refused> {
    let limits = &policy.limits;
    let facts = facts(route, caller, exchange);
    let verdict = limits.decide(&route.in_force, &facts, route.cost, purpose);
    let is_pending = verdict.is_pending;
    take_in(verdict, policy, exchange).map(|()| is_pending)
}

/// Waits for units of an exact limit, then decides.
///
/// # Errors
/// As of [`limit`].
pub(super) async fn limit_with_leases(
    policy: &Policy,
    route: &Route,
    caller: &Caller,
    exchange: &mut Exchange,
) -> Result<(), Refused> {
    let facts = facts(route, caller, exchange);
    let verdict = policy
        .limits
        .decide_with_leases(&route.in_force, &facts, route.cost)
        .await;
    take_in(verdict, policy, exchange)
}

/// Records what the limits said.
fn take_in(verdict: Verdict, policy: &Policy, exchange: &mut Exchange) -> Result<(), Refused> {
    exchange.set_charge(verdict.charge);
    exchange.set_limits(
        Told {
            form: policy.limit_fields,
            standings: verdict.standings,
        },
        verdict
            .denied
            .as_ref()
            .map(|denied| Arc::clone(&denied.name)),
        verdict.shadow,
    );
    let Some(denied) = verdict.denied else {
        return Ok(());
    };
    if denied.is_unknown {
        return Err(Refusal::LimitsUnavailable.into());
    }
    let exceeded = Exceeded::new(denied.name, denied.wait);
    Err(Refusal::RateLimited(exceeded).into())
}

/// Gives back what the request took of its limits: the gateway refused it, and the origin did
/// nothing for it.
pub(super) fn give_back(policy: &Policy, route: &Route, caller: &Caller, exchange: &mut Exchange) {
    if let Some(charge) = exchange.take_charge() {
        let facts = facts(route, caller, exchange);
        policy.limits.give_back(&route.in_force, &facts, charge);
    }
}

fn facts<'r>(route: &'r Route, caller: &'r Caller, exchange: &Exchange) -> Facts<'r> {
    Facts {
        holder: match caller {
            Caller::Key(key) => Some(Holder::Known(key)),
            Caller::Token(holder) => Some(Holder::Token(holder.subject())),
            Caller::Anonymous => None,
        },
        address: exchange.address().client,
        route: &route.name,
    }
}
