//! The stage of rules of one's own: what a program that is built on this crate asks of requests.

use actix_http::Request;

use crate::auth::Caller;
use crate::http::refusal::Refusal;
use crate::http::target::Target;
use crate::pipeline::heads::decides_on_head;
use crate::pipeline::record::Exchange;
use crate::pipeline::refused::Refused;
use crate::pipeline::worker::{Policy, Worker};
use crate::routes::Route;
use crate::rules::{NamedCheck, OriginHeaders, RuleRequest};

/// Asks every check about an admitted caller, in their order.
///
/// # Errors
/// [`Refusal::Own`] of the first check that refuses; [`Refusal::Internal`] if one set a header that
/// cannot be sent.
pub(super) fn check(
    worker: &Worker,
    policy: &Policy,
    exchange: &mut Exchange,
    request: &Request,
    target: &Target,
    route: &Route,
    caller: &Caller,
) -> Result<(), Refused> {
    let rules = &policy.own_rules;
    if rules.checks.is_empty() {
        return Ok(());
    }
    let mut headers = OriginHeaders::new(&rules.origin_headers);
    let asked = RuleRequest {
        head: request.head(),
        target,
        route,
        credential_headers: &rules.credential_headers,
        for_origin: decides_on_head(worker, policy, exchange, request, target, route, caller),
    };
    for NamedCheck { section, check } in &rules.checks {
        check.check(&asked, &mut headers).map_err(|refusal| {
            Refused::because(Refusal::Own(Box::new(refusal)), format!("own.{section}"))
        })?;
    }
    let lines = headers.finish().map_err(|wrong| {
        log::error!(
            "request {} for {:?}: {wrong}, and is refused",
            exchange.request_id().as_str(),
            exchange.path().in_log(),
        );
        Refused::because(Refusal::Internal, wrong.to_string())
    })?;
    exchange.set_own_headers(lines);
    Ok(())
}
