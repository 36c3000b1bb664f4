//! `gateway limits`: what is used of limits, as a running gateway counts it. Asks its admin API,
//! since counts are in its memory.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use crate::cli::admin_client::AdminClient;
use crate::cli::running::{self, AskError, Asking, consumer_path};
use crate::config::Environment;
use crate::keys::{BucketName, KeyId, LimitName};

/// Options of the command.
#[derive(Debug, clap::Args)]
pub struct LimitsCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show what is used
    Show(Whose),
    /// Forget what is used, of every limit or of one
    Reset {
        #[command(flatten)]
        whose: Whose,
        /// Name of the limit [default: all]
        #[arg(long, value_name = "NAME")]
        name: Option<LimitName>,
    },
}

#[derive(Debug, clap::Args)]
struct Whose {
    /// Id or name of a consumer
    #[arg(
        long,
        value_name = "CONSUMER",
        required_unless_present = "key",
        conflicts_with = "key"
    )]
    consumer: Option<String>,
    /// Bucket of the consumer's name [default: default]
    #[arg(long, value_name = "BUCKET", requires = "consumer")]
    bucket: Option<BucketName>,
    /// Id of a key, `key_…`
    #[arg(long, value_name = "ID")]
    key: Option<KeyId>,
    #[command(flatten)]
    asking: Asking,
}

/// Columns of the output.
const COLUMNS: [(&str, &str); 8] = [
    ("NAME", "name"),
    ("BY", "by"),
    ("ROUTE", "route"),
    ("LIMIT", "limit"),
    ("WINDOW", "window"),
    ("USED", "used"),
    ("LEFT", "remaining"),
    ("ALL AT", "resets_at"),
];

/// Shows or resets limits. Exits with 1 if the gateway was not reached or refused the call.
#[must_use]
pub fn run(command: &LimitsCommand, file: Option<&Path>, environment: &Environment) -> ExitCode {
    let (Action::Show(whose) | Action::Reset { whose, .. }) = &command.action;
    running::answer(&whose.asking, file, environment, COLUMNS, |client| {
        let path = whose.path(client)?;
        Ok(match &command.action {
            Action::Show(_) => client.call("GET", &format!("{path}/limits"))?,
            Action::Reset { name, .. } => {
                let path = format!("{path}/limits/reset");
                match name {
                    Some(name) => client.send("POST", &path, &json!({ "name": name.as_str() }))?,
                    None => client.call("POST", &path)?,
                }
            }
        })
    })
}

impl Whose {
    fn path(&self, client: &AdminClient) -> Result<String, AskError> {
        match &self.key {
            Some(key) => Ok(format!("/v1/keys/{key}")),
            None => {
                let consumer = self.consumer.as_deref().unwrap_or_default();
                consumer_path(client, consumer, self.bucket.as_ref())
            }
        }
    }
}
