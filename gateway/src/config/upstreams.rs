//! `[[upstreams]]`: the upstreams, and references of routes to them.

use std::fmt;

use postern_shared::Secret;

use crate::auth::admin_token::AdminToken;
use crate::config::reader::Reader;
use crate::config::secret::{TextAndFile, secret_in_section};
use crate::config::value::{Count, Setting};
use crate::proxy::OriginUrl;
use crate::proxy::upstream::health::HealthCheck;
use crate::proxy::upstream::{Balance, MAX_TARGETS, Proof, UpstreamPolicy};

/// One of `[[upstreams]]`.
#[derive(Debug, Clone)]
pub struct UpstreamSettings {
    /// Name for routes and logs.
    pub name: UpstreamName,
    /// Targets.
    pub targets: Vec<OriginUrl>,
    /// Policy for the targets.
    pub policy: UpstreamPolicy,
}

/// Name of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamName(pub String);

/// Upstream of a route.
#[derive(Debug, Clone)]
pub enum UpstreamRef {
    /// Upstream of this name.
    Named(UpstreamName),
    /// Single origin at this address.
    At(Box<OriginUrl>),
}

impl UpstreamSettings {
    /// Secret of its own, if it has one.
    #[must_use]
    pub fn own_secret(&self) -> Option<&Secret> {
        match &self.policy.proof {
            Proof::Own(secret) => Some(secret),
            Proof::Shared | Proof::Withheld => None,
        }
    }

    pub(super) fn read(section: &mut Reader) -> Option<Self> {
        let problems_before = section.problems().len();
        let name = section.take_optional::<UpstreamName>("name");
        if name.is_none() && section.problems().len() == problems_before {
            section.problem(
                "name",
                "the upstreams",
                "it is missing: routes name an upstream by it".to_owned(),
            );
        }
        let problems_before = section.problems().len();
        let targets = section.take_list::<OriginUrl>("targets");
        if section.problems().len() == problems_before {
            refuse_targets(section, &targets);
        }
        let policy = UpstreamPolicy {
            balance: section.take("balance", Balance::RoundRobin),
            eject_after: u32::try_from(section.take("eject_after", Count(5)).0).unwrap_or(u32::MAX),
            eject_for: section.span("eject_for", 10),
            retries: usize::try_from(section.take("retries", 1_u64)).unwrap_or(usize::MAX),
            max_in_flight: usize::try_from(section.take("max_in_flight", 0_u64))
                .unwrap_or(usize::MAX),
            health: health(section),
            proof: proof(section),
        };
        Some(Self {
            name: name?,
            targets,
            policy,
        })
    }
}

fn health(section: &mut Reader) -> Option<HealthCheck> {
    let path = section.take_optional("health_path");
    let (interval, timeout) = (
        section.span("health_interval", 5),
        section.span("health_timeout", 2),
    );
    Some(HealthCheck {
        path: path?,
        interval,
        timeout,
    })
}

fn proof(section: &mut Reader) -> Proof {
    let keys = TextAndFile {
        text: "secret",
        file: "secret_file",
        list: "the upstreams",
    };
    let secret = secret_in_section(section, &keys);
    let sends = section.take("send_secret", true);
    match (secret, sends) {
        (Some(_), false) => {
            let message = "an upstream that is sent no secret needs none: leave secret and secret_file out, or send_secret";
            section.problem("send_secret", "the upstreams", message.to_owned());
            Proof::Withheld
        }
        (Some(secret), true) => Proof::Own(secret),
        (None, true) => Proof::Shared,
        (None, false) => Proof::Withheld,
    }
}

/// Refuses a secret of an upstream that somebody else has: the shared one, that of another
/// upstream, or an admin token.
pub(super) fn refuse_secrets_of_others(
    reader: &mut Reader,
    upstreams: &[UpstreamSettings],
    shared: Option<&Secret>,
    tokens: &[AdminToken],
) {
    for (index, upstream) in upstreams.iter().enumerate() {
        let Some(secret) = upstream.own_secret() else {
            continue;
        };
        let is_same = |other: &Secret| other.expose() == secret.expose();
        let is_of = |earlier: &&UpstreamSettings| earlier.own_secret().is_some_and(is_same);
        let message = if shared.is_some_and(is_same) {
            "it is the shared secret, which other origins know: leave it out to send that one, or make another with `gateway secret new`".to_owned()
        } else if tokens.iter().any(|token| is_same(&token.secret)) {
            "it is an admin token, with which this origin could change keys: make another secret with `gateway secret new`".to_owned()
        } else if let Some(earlier) = upstreams[..index].iter().find(is_of) {
            format!(
                "it is the secret of upstream \"{}\" too, so that each could pass for this gateway at the other: make another with `gateway secret new`",
                earlier.name.0
            )
        } else {
            continue;
        };
        let path = format!("upstreams[{index}].secret");
        reader.problems().add(&path, "the upstreams", message);
    }
}

fn refuse_targets(section: &mut Reader, targets: &[OriginUrl]) {
    let base_path = targets.first().map_or("", OriginUrl::base_path);
    for (index, target) in targets.iter().enumerate() {
        if target.base_path() != base_path {
            let message = format!(
                "all targets of an upstream have one base path: {target} has another than {}",
                targets[0]
            );
            section.problem(&format!("targets[{index}]"), "the upstreams", message);
        }
    }
    if targets.is_empty() || targets.len() > MAX_TARGETS {
        let message = format!(
            "an upstream has 1 to {MAX_TARGETS} targets, such as [\"http://127.0.0.1:9000\"]"
        );
        section.problem("targets", "the upstreams", message);
    }
    for (index, target) in targets.iter().enumerate() {
        if targets[..index]
            .iter()
            .any(|earlier| earlier.to_string() == target.to_string())
        {
            section.problem(
                &format!("targets[{index}]"),
                "the upstreams",
                format!("{target} is there twice"),
            );
        }
    }
}

impl Setting for UpstreamName {
    const ACCEPTED: &'static str = "1 to 63 letters, digits, \"-\" and \"_\", such as \"orders\"";

    fn parse(text: &str) -> Result<Self, String> {
        let accepted = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        (accepted && (1..=63).contains(&text.len()))
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| format!("{text:?} is not accepted here: {}", Self::ACCEPTED))
    }

    fn show(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

impl Setting for UpstreamRef {
    const ACCEPTED: &'static str =
        "the name of an upstream, or the address of an origin, such as \"http://127.0.0.1:9000\"";

    fn parse(text: &str) -> Result<Self, String> {
        UpstreamName::parse(text).map(Self::Named).or_else(|_| {
            OriginUrl::parse(text)
                .map(|url| Self::At(Box::new(url)))
                .map_err(|error| error.to_string())
        })
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl fmt::Display for UpstreamRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(&name.0),
            Self::At(url) => fmt::Display::fmt(url, f),
        }
    }
}
