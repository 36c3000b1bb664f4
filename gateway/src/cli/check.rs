//! `gateway check`: checks the settings, and compares them with those of a running gateway.

mod required;
mod sent;

use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

use crate::cli::admin_client::{AdminClient, AdminOptions, CallError};
use crate::cli::{print, refuse};
use crate::config::own::Registrations;
use crate::config::reader::Effective;
use crate::config::settings::Settings;
use crate::config::{self, Environment};
use crate::reload::{Difference, compare};

/// Options of the command.
#[derive(Debug, clap::Args)]
pub struct CheckArguments {
    /// Print what differs from the running gateway instead: exit 0 if nothing does, 1 if something
    /// does or the gateway cannot be asked
    #[arg(long)]
    diff: bool,
    #[command(flatten)]
    admin: AdminOptions,
}

/// Loads the settings and prints them, or what differs.
#[must_use]
pub fn run(
    arguments: &CheckArguments,
    file: Option<&Path>,
    environment: &Environment,
    own: &Registrations,
) -> ExitCode {
    let settings = match config::load_with(file, environment, own) {
        Ok(settings) => settings,
        Err(problems) => return refuse(&problems),
    };
    if !arguments.diff {
        print(&config::show(&settings.effective));
        print(&required::show(&settings));
        print(&sent::show(&settings));
        warn(&settings);
        return ExitCode::SUCCESS;
    }
    warn(&settings);
    let access = match config::load_admin_access(file, environment) {
        Ok(access) => access,
        Err(problems) => return refuse(&problems),
    };
    let running = AdminClient::new(&arguments.admin, access, environment)
        .and_then(|client| client.call("GET", "/v1/config"))
        .and_then(|config| effective(&config).ok_or(CallError::Unreadable));
    let running = match running {
        Ok(running) => running,
        Err(error) => {
            eprintln!("gateway: {error}");
            return ExitCode::FAILURE;
        }
    };
    let differences = compare(&running, &settings.effective);
    if differences.is_empty() {
        print("the running settings are these; secrets were not compared\n");
        return ExitCode::SUCCESS;
    }
    for Difference {
        path,
        before,
        after,
        needs_restart,
    } in &differences
    {
        let none = "(unset)".to_owned();
        let restart = if *needs_restart {
            "  # needs a restart"
        } else {
            ""
        };
        print(&format!(
            "{path}: {} -> {}{restart}\n",
            before.as_ref().unwrap_or(&none),
            after.as_ref().unwrap_or(&none),
        ));
    }
    ExitCode::FAILURE
}

fn warn(settings: &Settings) {
    for warning in &settings.warnings {
        eprintln!("gateway: warning: {warning}");
    }
    let names_buckets = |settings: &Settings| {
        let mut routes = settings.routes.iter();
        routes.any(|route| !route.demand.buckets.is_empty())
    };
    if names_buckets(settings) {
        eprintln!(
            "gateway: note: the buckets of routes are not checked against the store; an unknown bucket admits no key"
        );
    }
}

/// Settings in the answer of `/v1/config`.
fn effective(config: &Value) -> Option<Vec<Effective>> {
    let settings = config["settings"].as_array()?.iter();
    settings
        .map(|setting| {
            let text = |name: &str| setting[name].as_str().map(str::to_owned);
            Some(Effective {
                path: text("path")?,
                value: text("value")?,
                source: text("source")?,
            })
        })
        .collect()
}
