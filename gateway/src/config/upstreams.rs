//! `[[upstreams]]`: the upstreams, and references of routes to them.

use std::fmt;

use crate::config::reader::Reader;
use crate::config::value::{Count, Setting};
use crate::proxy::OriginUrl;
use crate::proxy::upstream::health::HealthCheck;
use crate::proxy::upstream::{Balance, MAX_TARGETS, UpstreamPolicy};

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

fn refuse_targets(section: &mut Reader, targets: &[OriginUrl]) {
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
