//! Kinds of settings of limits.

use std::sync::Arc;
use std::time::Duration;

use crate::config::value::Setting;
use crate::keys::allowance;
use crate::limits::{By, MAX_BURST, MAX_NUMBER};

/// Name of a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitName(pub Arc<str>);

impl Setting for LimitName {
    const ACCEPTED: &'static str =
        "1 to 64 lower-case letters, digits and -, with no - at the ends, such as \"burst\"";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse::<allowance::LimitName>()
            .map(|_| Self(text.into()))
            .map_err(|_| format!("{text:?} is not accepted here: {}", Self::ACCEPTED))
    }

    fn show(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

/// Name of a route, as a limit refers to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteName(pub String);

impl Setting for RouteName {
    const ACCEPTED: &'static str = "the name of a route";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }

    fn show(&self) -> String {
        format!("{:?}", self.0)
    }
}

impl Setting for By {
    const ACCEPTED: &'static str = By::ACCEPTED;

    fn parse(text: &str) -> Result<Self, String> {
        let ours = match text {
            "ip" | "client_ip" | "remote_address" | "source" => "address",
            "credential" | "api_key" | "token" => "key",
            "user" | "customer" | "organization" => "consumer",
            "path" | "endpoint" => "route",
            "all" | "global" | "service" => "gateway",
            _ => {
                return text
                    .parse()
                    .map_err(|error: crate::limits::NotASubject| error.to_string());
            }
        };
        Err(format!("{text:?} is written \"{ours}\" here"))
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

/// Declares a whole number with bounds.
macro_rules! units {
    ($($(#[$meta:meta])+ $name:ident: $type:ty, $least:literal..=$most:expr, $accepted:literal;)+) => {$(
        $(#[$meta])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name(pub $type);

        impl Setting for $name {
            const ACCEPTED: &'static str = $accepted;

            fn parse(text: &str) -> Result<Self, String> {
                text.replace('_', "")
                    .parse()
                    .ok()
                    .filter(|units| ($least..=$most).contains(units))
                    .map(Self)
                    .ok_or_else(|| format!("{text:?} is not accepted here: {}", Self::ACCEPTED))
            }

            fn show(&self) -> String {
                self.0.to_string()
            }
        }
    )+};
}

units! {
    /// Units that a window allows.
    Units: u64, 1..=MAX_NUMBER, "a whole number from 1 to 60000000; to let nobody in, take the route away or demand a scope";
    /// Units that a bucket holds.
    Burst: u64, 1..=MAX_BURST, "a whole number from 1 to 1000000";
    /// Units that a request costs; 0 is checked but not taken.
    Cost: u64, 0..=MAX_BURST, "a whole number from 0 to 1000000";
    /// Length of an IPv6 prefix.
    PrefixLength: u8, 32..=128, "the first bits of IPv6 addresses that count as one, from 32 to 128";
}

/// Window of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window(pub Duration);

impl Setting for Window {
    const ACCEPTED: &'static str =
        "whole seconds from 1s to 1day with their unit, such as \"1s\", \"1m\" or \"1h\"";

    fn parse(text: &str) -> Result<Self, String> {
        let accepted = Duration::from_secs(1)..=Duration::from_hours(24);
        humantime::parse_duration(text)
            .ok()
            .filter(|window| accepted.contains(window) && window.subsec_nanos() == 0)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not accepted here: {}", Self::ACCEPTED))
    }

    fn show(&self) -> String {
        format!("\"{}\"", humantime::format_duration(self.0))
    }
}
