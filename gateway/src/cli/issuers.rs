//! `gateway issuers`: issuers of tokens and their keys. Asks the admin API of a running gateway,
//! which has the keys in its memory.

use std::path::Path;
use std::process::ExitCode;

use crate::cli::running::{self, Asking};
use crate::config::Environment;

/// Options of the command.
#[derive(Debug, clap::Args)]
pub struct IssuersCommand {
    /// Have the keys of this issuer fetched now
    #[arg(long, value_name = "NAME", value_parser = name)]
    refresh: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

/// Columns of the output.
const COLUMNS: [(&str, &str); 6] = [
    ("NAME", "name"),
    ("SOURCE", "source"),
    ("KEYS FROM", "keys_from"),
    ("FETCHED", "fetched_at"),
    ("SERVE UNTIL", "good_until"),
    ("PROBLEM", "problem"),
];

/// Lists or refreshes. Exits with 1 if the gateway was not reached or refused the call.
#[must_use]
pub fn run(command: &IssuersCommand, file: Option<&Path>, environment: &Environment) -> ExitCode {
    let (method, path) = match &command.refresh {
        Some(name) => ("POST", format!("/v1/issuers/{name}/refresh")),
        None => ("GET", "/v1/issuers".to_owned()),
    };
    running::answer(&command.asking, file, environment, COLUMNS, |client| {
        Ok(client.call(method, &path)?)
    })
}

/// Name of an issuer in a path.
fn name(text: &str) -> Result<String, &'static str> {
    let accepted = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
    };
    (!text.is_empty() && text.bytes().all(accepted))
        .then(|| text.to_owned())
        .ok_or("the name of an issuer has lower-case letters, digits, \"-\" and \"_\"")
}
