//! A gateway with a rule of its own: partners may be frozen, and the origin learns their tier.

use std::process::ExitCode;

use postern_gateway::extend::{Gateway, OriginHeaders, Problem, Refusal, Request, Rules};
use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FROZEN: Refusal = Refusal::new(403, "partner_frozen", "This partner may only read");

/// `[own.partner]` in `gateway.toml`.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct Partner {
    /// Names of consumers that may only read.
    frozen: Vec<String>,
}

fn rules(partner: Partner) -> Result<Rules, Vec<Problem>> {
    if let Some(at) = partner.frozen.iter().position(String::is_empty) {
        let message = "accepted are names of consumers, such as \"acme\"";
        return Err(vec![Problem::new(format!("frozen[{at}]"), message)]);
    }
    let check = move |request: &Request<'_>, origin: &mut OriginHeaders<'_>| {
        let caller = request.caller();
        let is_frozen = |name| partner.frozen.iter().any(|frozen| frozen == name);
        if request.method() != "GET" && caller.consumer_name().is_some_and(is_frozen) {
            return Err(FROZEN);
        }
        origin.set("X-Partner-Tier", caller.tag("tier").unwrap_or("basic"));
        Ok(())
    };
    Ok(Rules::new().check(check).origin_header("X-Partner-Tier"))
}

fn main() -> ExitCode {
    Gateway::new().own("partner", rules).start()
}
