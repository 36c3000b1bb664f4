//! Kong's plugins: which narrow what a key may do, and what becomes of them. An import must not widen, so whatever is not
//! known to let the same requests in is taken to narrow.

use serde::Deserialize;
use serde_json::Value;

use crate::import::kong::names::Reference;

/// Plugins that let the same requests in: they watch, rewrite, cache, or ask for the keys that are imported.
const HARMLESS: [&str; 32] = [
    "acme",
    "aws-lambda",
    "azure-functions",
    "canary",
    "correlation-id",
    "cors",
    "datadog",
    "file-log",
    "forward-proxy",
    "grpc-gateway",
    "grpc-web",
    "http-log",
    "jq",
    "kafka-log",
    "key-auth",
    "loggly",
    "openfunction",
    "opentelemetry",
    "prometheus",
    "proxy-cache",
    "proxy-cache-advanced",
    "redirect",
    "request-transformer",
    "request-transformer-advanced",
    "response-transformer",
    "response-transformer-advanced",
    "statsd",
    "statsd-advanced",
    "syslog",
    "tcp-log",
    "udp-log",
    "zipkin",
];
/// Plugins that narrow, by the names that may be repeated. Any other is one more.
const NARROWING: [&str; 28] = [
    "acl",
    "basic-auth",
    "bot-detection",
    "graphql-rate-limiting-advanced",
    "header-cert-auth",
    "hmac-auth",
    "injection-protection",
    "ip-restriction",
    "json-threat-protection",
    "jwt",
    "jwt-signer",
    "key-auth-enc",
    "ldap-auth",
    "ldap-auth-advanced",
    "mtls-auth",
    "oas-validation",
    "oauth2",
    "oauth2-introspection",
    "opa",
    "openid-connect",
    "post-function",
    "pre-function",
    "rate-limiting",
    "rate-limiting-advanced",
    "request-size-limiting",
    "request-termination",
    "request-validator",
    "response-ratelimiting",
];

/// A plugin, on whatever it is.
#[derive(Deserialize)]
pub(super) struct Plugin {
    name: Option<String>,
    enabled: Option<bool>,
    /// Whose it is, in a list of its own.
    pub(super) consumer: Option<Reference>,
    consumer_group: Option<Value>,
    service: Option<Value>,
    route: Option<Value>,
    config: Option<Value>,
}

/// What a plugin is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// A consumer, wherever it calls.
    Consumer,
    /// A group, a service, a route, one of them together with a consumer, or everything.
    Other,
}

/// What a plugin of a consumer comes to.
#[derive(Debug)]
pub(super) enum Effect {
    /// The same requests are let in.
    None,
    /// Only requests from these addresses are.
    Allows(Vec<Value>),
    /// Fewer are, in a way that there is not here. What is said of it.
    Narrows(String),
}

impl Plugin {
    /// What it is of, in a list of its own.
    pub(super) fn scope(&self) -> Scope {
        if self.consumer.is_some() && !self.is_of_more() {
            Scope::Consumer
        } else {
            Scope::Other
        }
    }

    /// What it comes to for the consumer that it is of.
    pub(super) fn effect(&self) -> Effect {
        match self.name() {
            _ if self.enabled == Some(false) => Effect::None,
            Some(name) if HARMLESS.contains(&name) => Effect::None,
            Some("ip-restriction") => match self.allowed() {
                Some(allowed) => Effect::Allows(allowed),
                None => Effect::Narrows(
                    "an `ip-restriction` that does more than to list the addresses that are allowed".to_owned(),
                ),
            },
            name => Effect::Narrows(
                NARROWING
                    .into_iter()
                    .find(|known| name == Some(*known))
                    // Its name is not repeated: the file says what it likes there.
                    .map_or("a plugin that is not known here".to_owned(), |known| {
                        format!("the plugin `{known}`")
                    }),
            ),
        }
    }

    /// What is said of it where it is of more than one consumer, and narrows.
    pub(super) fn of_all(&self) -> Option<String> {
        let what = match self.effect() {
            Effect::None => return None,
            Effect::Allows(_) => "the plugin `ip-restriction`".to_owned(),
            Effect::Narrows(what) => what,
        };
        Some(format!(
            "{what} is of everything, a service, a route or a group, and narrows what keys may do there"
        ))
    }

    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    fn is_of_more(&self) -> bool {
        self.consumer_group.is_some() || self.service.is_some() || self.route.is_some()
    }

    /// The addresses that are allowed, where that is all it says: what is denied cannot be told here.
    fn allowed(&self) -> Option<Vec<Value>> {
        let config = self.config.as_ref()?.as_object()?;
        let is_nothing =
            |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        // How the refusal looks does not matter.
        let is_known = |name: &str| matches!(name, "allow" | "status" | "message");
        let only_allows = config
            .iter()
            .all(|(name, value)| is_known(name) || is_nothing(value));
        let allowed = config.get("allow")?.as_array()?;
        (only_allows && !self.is_of_more() && !allowed.is_empty()).then(|| allowed.clone())
    }
}
