//! A gateway with rules of its own: partners may be frozen, their tier reaches the origin, and one
//! route takes signatures in place of keys.

mod signature;

use std::process::ExitCode;

use postern_gateway::extend::{Gateway, OriginHeaders, Problem, Refusal, Request, Rules};
use ring::hmac;
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
    /// Name of the route that takes signatures; it has `on_missing_key = "anonymous"`.
    signed_route: String,
    /// File with the secret of the signatures.
    secret_file: String,
}

fn rules(partner: Partner) -> Result<Rules, Vec<Problem>> {
    let wrong = |setting: &str, message: &str| Err(vec![Problem::new(setting, message)]);
    if partner.frozen.iter().any(String::is_empty) {
        return wrong(
            "frozen",
            "accepted are names of consumers, such as \"acme\"",
        );
    }
    let secret = std::fs::read(&partner.secret_file).unwrap_or_default();
    if !partner.signed_route.is_empty() && secret.len() < 32 {
        return wrong("secret_file", "accepted is a file with 32 bytes or more");
    }
    let secret = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    let check = move |request: &Request<'_>, origin: &mut OriginHeaders<'_>| {
        let caller = request.caller();
        if request.route() == partner.signed_route && caller.is_anonymous() {
            return signature::check(&secret, request, origin);
        }
        let is_frozen = |name| partner.frozen.iter().any(|frozen| frozen == name);
        if request.method() != "GET" && caller.consumer_name().is_some_and(is_frozen) {
            return Err(FROZEN);
        }
        origin.set("X-Partner-Tier", caller.tag("tier").unwrap_or("basic"));
        Ok(())
    };
    let rules = Rules::new().check(check).origin_header("X-Partner-Tier");
    Ok(rules
        .origin_header("X-Partner")
        .credential_header(signature::HEADER))
}

fn main() -> ExitCode {
    Gateway::new().own("partner", rules).start()
}
