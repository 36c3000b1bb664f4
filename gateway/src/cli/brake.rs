//! `gateway brake`: who is braked for bad keys. Asks the admin API of a running gateway, since the
//! failures are in its memory.

use std::path::Path;
use std::process::ExitCode;

use crate::cli::running::{self, Asking};
use crate::config::Environment;
use crate::keys::address::parse_address;

/// Options of the command.
#[derive(Debug, clap::Args)]
pub struct BrakeCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List who is braked, those with the most refused requests first
    List(Asking),
    /// Forgive an address its failures, and print what was braked of it
    Clear {
        /// An IP address, or `unknown` for requests without a known one
        #[arg(value_name = "ADDRESS", value_parser = address)]
        address: String,
        #[command(flatten)]
        asking: Asking,
    },
}

/// Columns of the output.
const COLUMNS: [(&str, &str); 5] = [
    ("ADDRESS", "address"),
    ("KEY", "key_id"),
    ("REFUSED", "requests"),
    ("SINCE", "since"),
    ("UNTIL", "until"),
];

/// Lists or clears. Exits with 1 if the gateway was not reached or refused the call.
#[must_use]
pub fn run(command: &BrakeCommand, file: Option<&Path>, environment: &Environment) -> ExitCode {
    let (method, path, asking) = match &command.action {
        Action::List(asking) => ("GET", "/v1/brake".to_owned(), asking),
        Action::Clear { address, asking } => ("DELETE", format!("/v1/brake/{address}"), asking),
    };
    running::answer(asking, file, environment, COLUMNS, |client| {
        Ok(client.call(method, &path)?)
    })
}

/// Address in a path.
fn address(text: &str) -> Result<String, &'static str> {
    if text == "unknown" {
        return Ok(text.to_owned());
    }
    let address = parse_address(text).map(|address| address.to_string());
    address.ok_or("write an IP address, such as 192.0.2.7 or 2001:db8::1, or `unknown`")
}
