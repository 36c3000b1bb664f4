//! `gateway reload`: makes a running gateway read its settings again, and waits for the outcome.

use std::path::Path;
use std::process::ExitCode;

use crate::cli::admin_client::{AdminClient, AdminOptions, CallError};
use crate::cli::{print, refuse};
use crate::config::{self, Environment};
use crate::reload::view::ReloadView;

/// Exit code if settings were applied, or can be, and others need a restart.
const EXIT_RESTART: u8 = 2;

/// Options of the command.
#[derive(Debug, clap::Args)]
pub struct ReloadArguments {
    /// Read and compare only
    #[arg(long)]
    dry_run: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminOptions,
}

/// Exits with 0 if the settings in the files are in force, 1 if they are refused or the gateway was
/// not reached, 2 if some of them need a restart.
#[must_use]
pub fn run(
    arguments: &ReloadArguments,
    file: Option<&Path>,
    environment: &Environment,
) -> ExitCode {
    let access = match config::load_admin_access(file, environment) {
        Ok(access) => access,
        Err(problems) => return refuse(&problems),
    };
    let reload = || -> Result<ReloadView, CallError> {
        let client = AdminClient::new(&arguments.admin, access, environment)?;
        let path = match arguments.dry_run {
            true => "/v1/reload?dry_run=true",
            false => "/v1/reload",
        };
        let answer = client.call("POST", path)?;
        serde_json::from_value(answer).map_err(|_| CallError::Unreadable)
    };
    match reload() {
        Ok(view) => {
            if arguments.json {
                print(&format!(
                    "{}\n",
                    serde_json::to_string(&view).unwrap_or_default()
                ));
            } else {
                print(&told(&view));
            }
            if view.restart_required.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(EXIT_RESTART)
            }
        }
        Err(error) => {
            eprintln!("gateway: {error}");
            ExitCode::FAILURE
        }
    }
}

fn told(view: &ReloadView) -> String {
    let (generation, changed) = (view.generation, view.changed.join(", "));
    let mut text = match view.outcome.as_str() {
        "applied" => format!("generation {generation} is in force: {changed}\n"),
        "valid" => format!("the settings can be used, and would change: {changed}\n"),
        _ => format!("nothing changed; generation {generation} is in force\n"),
    };
    if !view.restart_required.is_empty() {
        text.push_str(&format!(
            "a restart is needed for: {}\n",
            view.restart_required.join(", ")
        ));
    }
    text
}
