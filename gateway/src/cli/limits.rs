//! `gateway limits`: what is used of limits, as a running gateway counts it. Asks its admin API, since
//! counts are in its memory.

use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

use crate::cli::admin_client::{AdminClient, AdminOptions, CallError};
use crate::cli::{print, refuse};
use crate::config::{self, Environment};
use crate::keys::{BucketName, ConsumerId, ConsumerName, KeyId};

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
    /// Forget what is used, of every limit
    Reset(Whose),
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
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminOptions,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum LimitsError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{0:?} is neither the id nor the name of a consumer")]
    NotAConsumer(String),
    #[error("there is no consumer {0}")]
    UnknownConsumer(ConsumerName),
}

/// Shows or resets limits. Exits with 1 if the gateway was not reached or refused the call.
#[must_use]
pub fn run(command: &LimitsCommand, file: Option<&Path>, environment: &Environment) -> ExitCode {
    let access = match config::load_admin_access(file, environment) {
        Ok(access) => access,
        Err(problems) => return refuse(&problems),
    };
    let (whose, method, end) = match &command.action {
        Action::Show(whose) => (whose, "GET", ""),
        Action::Reset(whose) => (whose, "POST", "/reset"),
    };
    let ask = || -> Result<Value, LimitsError> {
        let client = AdminClient::new(&whose.admin, access, environment)?;
        let path = path_of(whose, &client)?;
        Ok(client.call(method, &format!("{path}/limits{end}"))?)
    };
    match ask() {
        Ok(answer) if whose.json => print(&format!("{answer}\n")),
        Ok(answer) => print(&table(&answer)),
        Err(error) => {
            eprintln!("gateway: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn path_of(whose: &Whose, client: &AdminClient) -> Result<String, LimitsError> {
    if let Some(key) = &whose.key {
        return Ok(format!("/v1/keys/{key}"));
    }
    let text = whose.consumer.as_deref().unwrap_or_default();
    if let Ok(id) = text.parse::<ConsumerId>() {
        return Ok(format!("/v1/consumers/{id}"));
    }
    let name: ConsumerName = text
        .parse()
        .map_err(|_| LimitsError::NotAConsumer(text.to_owned()))?;
    let bucket = whose.bucket.clone().unwrap_or_default();
    let escaped = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let found = client.call(
        "GET",
        &format!(
            "/v1/consumers?bucket={}&name={}",
            escaped(bucket.as_str()),
            escaped(name.as_str())
        ),
    )?;
    let id = found["data"][0]["id"].as_str();
    id.map(|id| format!("/v1/consumers/{id}"))
        .ok_or(LimitsError::UnknownConsumer(name))
}

fn table(answer: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            items.join("+")
        }
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let names = [
        "name",
        "by",
        "route",
        "limit",
        "window",
        "used",
        "remaining",
        "resets_at",
    ];
    let heads = [
        "NAME", "BY", "ROUTE", "LIMIT", "WINDOW", "USED", "LEFT", "ALL AT",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    for limit in answer["data"].as_array().into_iter().flatten() {
        let mut row = names.map(|name| text(&limit[name]));
        if limit["enforced"] == false {
            row[0].push_str(" (not enforced)");
        }
        rows.push(row);
    }
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let mut shown = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}", width = *width))
            .collect();
        shown.push_str(line.join("  ").trim_end());
        shown.push('\n');
    }
    shown
}
