//! `gateway completions`: completion scripts for shells.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::cli::print;

/// `gateway completions`
#[derive(Debug, Args)]
pub struct CompletionsArguments {
    /// Shell to generate the script for
    shell: Shell,
}

/// Prints the completion script of `command`.
pub fn run(arguments: &CompletionsArguments, mut command: Command) {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(arguments.shell, &mut command, name, &mut script);
    print(&String::from_utf8_lossy(&script));
}
