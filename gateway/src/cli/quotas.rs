//! `gateway quotas`: what a consumer has used of its quotas. Asks the admin API of a running
//! gateway, which knows the periods of the settings.

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::admin_client::AdminClient;
use crate::cli::running::{self, AskError, Asking, consumer_path, refuse_key};
use crate::config::Environment;
use crate::keys::{BucketName, Description, LimitName};

/// Options of the command.
#[derive(Debug, clap::Args)]
pub struct QuotasCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show what a consumer has used in the present periods
    Show(Whose),
    /// Add to what a consumer has used of a quota, or give some back
    Adjust {
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        quota: Named,
        /// Units to add to what is used; negative to give back
        #[arg(long, value_name = "UNITS", allow_negative_numbers = true)]
        by: i64,
        /// Reason, for the audit log
        #[arg(long, value_name = "TEXT")]
        reason: Description,
    },
    /// Give back all that a consumer has used of a quota
    Reset {
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        quota: Named,
        /// Reason, for the audit log
        #[arg(long, value_name = "TEXT")]
        reason: Option<Description>,
    },
}

#[derive(Debug, clap::Args)]
struct Whose {
    /// Id or name of a consumer
    #[arg(long, value_name = "CONSUMER")]
    consumer: String,
    /// Bucket of the consumer's name [default: default]
    #[arg(long, value_name = "BUCKET")]
    bucket: Option<BucketName>,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, clap::Args)]
struct Named {
    /// Name of the quota
    #[arg(long, value_name = "NAME")]
    name: LimitName,
}

/// Columns of the output.
const COLUMNS: [(&str, &str); 6] = [
    ("NAME", "name"),
    ("LIMIT", "limit"),
    ("USED", "used"),
    ("LEFT", "remaining"),
    ("SINCE", "period_start"),
    ("UNTIL", "resets_at"),
];

/// Shows or changes the use of quotas. Exits with 1 if the gateway was not reached or refused the
/// call.
#[must_use]
pub fn run(command: &QuotasCommand, file: Option<&Path>, environment: &Environment) -> ExitCode {
    let (Action::Show(whose) | Action::Adjust { whose, .. } | Action::Reset { whose, .. }) =
        &command.action;
    running::answer(&whose.asking, file, environment, COLUMNS, |client| {
        command.action.ask(whose, client)
    })
}

impl Action {
    fn ask(&self, whose: &Whose, client: &AdminClient) -> Result<Value, AskError> {
        let (end, body) = match self {
            Self::Show(_) => ("", None),
            Self::Adjust {
                quota, by, reason, ..
            } => {
                let body =
                    json!({ "name": quota.name.as_str(), "by": by, "reason": told(reason)? });
                ("/adjust", Some(body))
            }
            Self::Reset { quota, reason, .. } => {
                let mut body = json!({ "name": quota.name.as_str() });
                if let Some(reason) = reason {
                    body["reason"] = told(reason)?.into();
                }
                ("/reset", Some(body))
            }
        };
        let consumer = consumer_path(client, &whose.consumer, whose.bucket.as_ref())?;
        let path = format!("{consumer}/quotas{end}");
        Ok(match body {
            Some(body) => client.send("POST", &path, &body)?,
            None => client.call("GET", &path)?,
        })
    }
}

fn told(reason: &Description) -> Result<&str, AskError> {
    refuse_key(reason.as_str(), "the reason")?;
    Ok(reason.as_str())
}
