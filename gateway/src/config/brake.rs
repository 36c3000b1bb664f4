//! `[brake]`: the brake on bad keys.

use std::time::Duration;

use crate::config::reader::Reader;
use crate::config::value::{Setting, Span};
use crate::keys::AddressRange;
use crate::limits::brake::{Block, BrakeRules};

/// Most failures of a window, so that one costs a measurable time.
const MAX_FAILURES: u32 = 100_000;
/// Shortest window.
const MIN_WINDOW: Duration = Duration::from_secs(1);

/// What is refused, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refuses {
    Failures,
    All,
    Nothing,
}

struct Failures(u32);

struct Window(Duration);

/// Reads `[brake]`; `None` switches the brake off.
pub(super) fn read_brake(section: &mut Reader) -> Option<BrakeRules> {
    let enabled = section.take("enabled", true);
    let failures = section.take("failures", Failures(20)).0;
    let window = section.take("window", Window(Duration::from_mins(1))).0;
    let refuses = section.take("block", Refuses::Failures);
    let exempt: Vec<AddressRange> = section.take_list("exempt");
    let enforce = section.take("enforce", true);
    let block = match refuses {
        Refuses::Failures => Block::Failures,
        Refuses::All => Block::All,
        Refuses::Nothing => return None,
    };
    enabled.then_some(BrakeRules {
        failures,
        window,
        block,
        exempt,
        enforce,
    })
}

/// Warns of a brake that blocks whole addresses where a proxy may hide the clients'.
pub(super) fn warn_of_brake(
    brake: Option<&BrakeRules>,
    trusted_proxies: &[AddressRange],
) -> Option<String> {
    let blocks_all = brake.is_some_and(|rules| rules.block == Block::All && rules.enforce);
    (blocks_all && trusted_proxies.is_empty()).then(|| {
        "brake.block is \"all\", and there are no listen.trusted_proxies: behind a proxy, the failures of one client block all of them"
            .to_owned()
    })
}

impl Setting for Failures {
    const ACCEPTED: &'static str =
        "a whole number from 1 to 100000; to switch the brake off, set brake.enabled = false";

    fn parse(text: &str) -> Result<Self, String> {
        text.replace('_', "")
            .parse()
            .ok()
            .filter(|failures| (1..=MAX_FAILURES).contains(failures))
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not accepted here: {}", Self::ACCEPTED))
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

impl Setting for Window {
    const ACCEPTED: &'static str =
        "a span of time from 1s to 1day with its unit, such as \"1min\" or \"1h\"";

    fn parse(text: &str) -> Result<Self, String> {
        match Span::parse(text) {
            Ok(Span(window)) if window >= MIN_WINDOW => Ok(Self(window)),
            _ => Err(format!("{text:?} is not accepted here: {}", Self::ACCEPTED)),
        }
    }

    fn show(&self) -> String {
        Span(self.0).show()
    }
}

impl Setting for Refuses {
    const ACCEPTED: &'static str = "\"failures\", \"all\" or \"off\"";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "failures" => Ok(Self::Failures),
            "all" => Ok(Self::All),
            "off" => Ok(Self::Nothing),
            _ => Err(format!("{text:?} is not accepted here: {}", Self::ACCEPTED)),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Failures => "\"failures\"".to_owned(),
            Self::All => "\"all\"".to_owned(),
            Self::Nothing => "\"off\"".to_owned(),
        }
    }
}
