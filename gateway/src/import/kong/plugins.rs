//! Kong's plugins: which of them are restrictions, and how they are imported. An import must not
//! widen access, so an unknown plugin counts as a restriction.

use serde::Deserialize;
use serde_json::Value;

use crate::import::kong::names::Reference;

/// Plugins that admit the same requests: for logging, rewriting, caching, or for the imported keys.
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
/// Restricting plugins with names safe to quote. Any unknown plugin restricts too.
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

/// A plugin of any entity.
#[derive(Deserialize)]
pub(super) struct Plugin {
    name: Option<String>,
    enabled: Option<bool>,
    /// Consumer of a top-level plugin.
    pub(super) consumer: Option<Reference>,
    consumer_group: Option<Value>,
    service: Option<Value>,
    route: Option<Value>,
    config: Option<Value>,
}

/// Scope of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// A consumer, for all its requests.
    Consumer,
    /// A group, a service, a route, one of them together with a consumer, or everything.
    Other,
}

/// Effect of a consumer's plugin.
#[derive(Debug)]
pub(super) enum Effect {
    /// Admits the same requests.
    None,
    /// Admits only requests from these addresses.
    Allows(Vec<Value>),
    /// Restricts in an unsupported way; holds the description.
    Narrows(String),
}

impl Plugin {
    /// Returns the scope of a top-level plugin.
    pub(super) fn scope(&self) -> Scope {
        if self.consumer.is_some() && !self.is_of_more() {
            Scope::Consumer
        } else {
            Scope::Other
        }
    }

    /// Returns the effect on the plugin's consumer.
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
                    // The name is not quoted: the file can have any text there.
                    .map_or("a plugin that is not known here".to_owned(), |known| {
                        format!("the plugin `{known}`")
                    }),
            ),
        }
    }

    /// Describes a restriction on more than one consumer.
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

    /// Returns the allowed addresses of a plugin without other settings: denied addresses have no
    /// equivalent here.
    fn allowed(&self) -> Option<Vec<Value>> {
        let config = self.config.as_ref()?.as_object()?;
        let is_nothing =
            |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        // The form of the refusal is irrelevant.
        let is_known = |name: &str| matches!(name, "allow" | "status" | "message");
        let only_allows = config
            .iter()
            .all(|(name, value)| is_known(name) || is_nothing(value));
        let allowed = config.get("allow")?.as_array()?;
        (only_allows && !self.is_of_more() && !allowed.is_empty()).then(|| allowed.clone())
    }
}
