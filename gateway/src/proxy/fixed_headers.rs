//! Headers that no route can edit, each with the reason: the gateway or another setting decides about
//! them.

use actix_http::header::{self, HeaderName};
use postern_shared::headers as names;

use crate::proxy::headers::is_hop_by_hop;

/// What is edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edited {
    /// Requests on their way to the origin.
    Requests,
    /// Answers of the origin.
    Answers,
}

/// Headers that other settings of a route decide about.
#[derive(Debug, Clone, Copy)]
pub struct Claimed<'r> {
    /// Headers that credentials come in.
    pub of_credentials: &'r [HeaderName],
    /// Whether the gateway answers pages of other origins.
    pub has_cors: bool,
}

impl Claimed<'_> {
    /// Claims on what is set. The credential of the client never passes, so a route can send one of
    /// its own in that header; cookies stand beside others, which would be lost.
    #[must_use]
    pub fn on_what_is_set(self) -> Self {
        static COOKIE: [HeaderName; 1] = [header::COOKIE];
        let of_credentials = match self.of_credentials.contains(&header::COOKIE) {
            true => &COOKIE[..],
            false => &[],
        };
        Self {
            of_credentials,
            ..self
        }
    }
}

/// Why a route can neither set nor remove a header; `None` if it can.
#[must_use]
pub fn why_fixed(edited: Edited, name: &HeaderName, claimed: Claimed<'_>) -> Option<&'static str> {
    let text = name.as_str();
    let why = if names::is_privileged(text) || names::is_hidden_from_clients(text) {
        "only the gateway sets this header"
    } else if is_hop_by_hop(text) {
        "it is about one connection, on either side of the gateway"
    } else if text == "content-length" {
        "the gateway frames bodies itself"
    } else if text == names::REQUEST_ID {
        "the gateway sets it, so that both access logs have the same id"
    } else if text.starts_with("sec-websocket-") {
        "client and origin agree on a WebSocket with it"
    } else {
        return match edited {
            Edited::Requests => why_fixed_in_requests(name, claimed),
            Edited::Answers => why_fixed_in_answers(name, claimed),
        };
    };
    Some(why)
}

fn why_fixed_in_requests(name: &HeaderName, claimed: Claimed<'_>) -> Option<&'static str> {
    match name.as_str() {
        "host" => Some("preserve_host decides about it"),
        "via" | "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host"
        | "x-forwarded-prefix" => Some("the gateway writes it itself"),
        _ if claimed.of_credentials.contains(name) => {
            Some("this route takes credentials from it: key_sources decides about it")
        }
        _ => None,
    }
}

fn why_fixed_in_answers(name: &HeaderName, claimed: Claimed<'_>) -> Option<&'static str> {
    match name.as_str() {
        "vary" => Some("the gateway tells caches with it where a key may come in"),
        "date" => Some("every answer has it"),
        "ratelimit" | "ratelimit-policy" | "retry-after" | "deprecation" | "sunset" => {
            Some("the gateway tells callers of their limits and keys with it")
        }
        text if text.starts_with("x-ratelimit-") => {
            Some("the gateway tells callers of their limits and keys with it")
        }
        text if claimed.has_cors && text.starts_with("access-control-") => {
            Some("the table cors of this route decides about it")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_others_decide_about_are_fixed() {
        let keys = [header::AUTHORIZATION, HeaderName::from_static("x-api-key")];
        for (name, has_cors, in_requests, in_answers) in [
            ("x-shared-secret", false, true, true),
            ("x-consumer-anything", false, true, true),
            ("x-credential-identifier", false, true, true),
            ("x-anonymous-consumer", false, true, true),
            ("x-origin-guard", false, true, true),
            ("connection", false, true, true),
            ("transfer-encoding", false, true, true),
            ("upgrade", false, true, true),
            ("expect", false, true, true),
            ("content-length", false, true, true),
            ("x-request-id", false, true, true),
            ("sec-websocket-accept", false, true, true),
            ("host", false, true, false),
            ("via", false, true, false),
            ("x-forwarded-for", false, true, false),
            ("x-forwarded-prefix", false, true, false),
            ("authorization", false, true, false),
            ("x-api-key", false, true, false),
            ("vary", false, false, true),
            ("date", false, false, true),
            ("ratelimit", false, false, true),
            ("x-ratelimit-limit", false, false, true),
            ("sunset", false, false, true),
            ("access-control-allow-origin", false, false, false),
            ("access-control-allow-origin", true, false, true),
            ("cookie", false, false, false),
            ("x-forwarded-port", false, false, false),
            ("cache-control", false, false, false),
            ("server", false, false, false),
            ("strict-transport-security", false, false, false),
        ] {
            let claimed = Claimed {
                of_credentials: &keys,
                has_cors,
            };
            let name = HeaderName::from_static(name);
            let is_fixed = |edited| why_fixed(edited, &name, claimed).is_some();
            assert_eq!(
                [Edited::Requests, Edited::Answers].map(is_fixed),
                [in_requests, in_answers],
                "{name}"
            );
        }
    }

    #[test]
    fn a_credential_can_be_sent_where_that_of_the_client_was() {
        let keys = [header::AUTHORIZATION, header::COOKIE];
        let claimed = Claimed {
            of_credentials: &keys,
            has_cors: false,
        };
        let fixed = |name, claimed| why_fixed(Edited::Requests, &name, claimed).is_some();
        for (name, when_set) in [(header::AUTHORIZATION, false), (header::COOKIE, true)] {
            assert!(fixed(name.clone(), claimed), "{name}");
            assert_eq!(
                fixed(name.clone(), claimed.on_what_is_set()),
                when_set,
                "{name}"
            );
        }
    }
}
