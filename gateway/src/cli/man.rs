//! `gateway man`: manual pages.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Command};

/// `gateway man`
#[derive(Debug, Args)]
pub struct ManArguments {
    /// Directory for the pages, created if missing; for example /usr/local/share/man/man1
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Writes a section 1 page for `command` and each subcommand.
#[must_use]
pub fn run(arguments: &ManArguments, command: Command) -> ExitCode {
    let directory = &arguments.directory;
    let written =
        fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(command, directory));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "gateway: the manual pages cannot be written to {}: {error}",
                directory.display()
            );
            ExitCode::FAILURE
        }
    }
}
