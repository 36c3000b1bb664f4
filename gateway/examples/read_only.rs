//! The rule of the README.

use std::process::ExitCode;

use postern_gateway::extend::{Gateway, OriginHeaders, Refusal, Request, Rules};

const CLOSED: Refusal = Refusal::new(403, "read_only", "Only reading is possible today");

fn main() -> ExitCode {
    let check = |request: &Request<'_>, origin: &mut OriginHeaders<'_>| {
        if request.method() != "GET" {
            return Err(CLOSED);
        }
        origin.set("X-Tier", request.caller().tag("tier").unwrap_or("basic"));
        Ok(())
    };
    let rules = move |(): ()| Ok(Rules::new().check(check).origin_header("X-Tier"));
    Gateway::new().own("today", rules).start()
}
