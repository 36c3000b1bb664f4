//! `gateway secret …`: generates secrets.

use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Subcommand;
use zeroize::Zeroizing;

use crate::cli::print;

/// Size of a new secret, in bytes.
const RANDOM_BYTES: usize = 32;

/// `gateway secret …`
#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Print a new random secret, fit for SHARED_SECRET and ADMIN_TOKEN
    New,
}

/// Runs the command.
#[must_use]
pub fn run(command: &SecretCommand) -> ExitCode {
    match command {
        SecretCommand::New => {
            let mut random = Zeroizing::new([0; RANDOM_BYTES]);
            if let Err(error) = getrandom::fill(random.as_mut()) {
                eprintln!("gateway: the system gives no randomness: {error}");
                return ExitCode::FAILURE;
            }
            print(&format!("{}\n", URL_SAFE_NO_PAD.encode(random.as_ref())));
            ExitCode::SUCCESS
        }
    }
}
