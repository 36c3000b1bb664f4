//! What commands that ask a running gateway have in common: the call of its admin API, the consumer
//! that it is about, and the output.

use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;
use thiserror::Error;

use crate::cli::admin_client::{AdminClient, AdminOptions, CallError};
use crate::cli::output::Table;
use crate::cli::{print, refuse};
use crate::config::{self, Environment};
use crate::keys::{BucketName, ConsumerId, ConsumerName, token};

/// Which gateway is asked, and the form of the answer.
#[derive(Debug, clap::Args)]
pub(super) struct Asking {
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminOptions,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub(super) enum AskError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{0:?} is neither the id nor the name of a consumer")]
    NotAConsumer(String),
    #[error("there is no consumer {0}")]
    UnknownConsumer(ConsumerName),
    #[error(
        "{0} contains a whole key, which is not shown. The key may be in your shell's history: consider revoking it"
    )]
    ContainsKey(&'static str),
}

/// Asks the gateway and prints its answer: as a table with `columns`, each a heading and the name
/// of a member, or as it came. Exits with 1 if the gateway was not reached or refused the call.
pub(super) fn answer<const COLUMNS: usize>(
    asking: &Asking,
    file: Option<&Path>,
    environment: &Environment,
    columns: [(&'static str, &str); COLUMNS],
    ask: impl FnOnce(&AdminClient) -> Result<Value, AskError>,
) -> ExitCode {
    let access = match config::load_admin_access(file, environment) {
        Ok(access) => access,
        Err(problems) => return refuse(&problems),
    };
    let client = AdminClient::new(&asking.admin, access, environment);
    match client
        .map_err(AskError::from)
        .and_then(|client| ask(&client))
    {
        Ok(answer) if asking.json => print(&format!("{answer}\n")),
        Ok(answer) => print(&table(&answer, columns)),
        Err(error) => {
            eprintln!("gateway: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Path of the consumer with the id or the name `text`; the name is one of `bucket`.
///
/// # Errors
/// There is no such consumer, or no answer.
pub(super) fn consumer_path(
    client: &AdminClient,
    text: &str,
    bucket: Option<&BucketName>,
) -> Result<String, AskError> {
    refuse_key(text, "the consumer")?;
    if let Ok(id) = text.parse::<ConsumerId>() {
        return Ok(format!("/v1/consumers/{id}"));
    }
    let name: ConsumerName = text
        .parse()
        .map_err(|_| AskError::NotAConsumer(text.to_owned()))?;
    let bucket = bucket.cloned().unwrap_or_default();
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
        .ok_or(AskError::UnknownConsumer(name))
}

/// Refuses a `text` with a key in it, which would be shown or stored.
///
/// # Errors
/// It contains one; `what` names the argument.
pub(super) fn refuse_key(text: &str, what: &'static str) -> Result<(), AskError> {
    if token::contains_key_of_any_prefix(text.as_bytes()) {
        return Err(AskError::ContainsKey(what));
    }
    Ok(())
}

/// Rows of a list, or the one of a single object.
fn table<const COLUMNS: usize>(answer: &Value, columns: [(&'static str, &str); COLUMNS]) -> String {
    let mut table = Table::new(columns.map(|(heading, _)| heading));
    let rows = match answer["data"].as_array() {
        Some(rows) => rows.as_slice(),
        None => std::slice::from_ref(answer),
    };
    for row in rows {
        let mut cells = columns.map(|(_, member)| text(&row[member]));
        if row["enforced"] == false {
            cells[0].push_str(" (not enforced)");
        }
        table.row(cells);
    }
    let mut shown = Vec::new();
    // Writing to memory cannot fail.
    let _ = table.flush(&mut shown);
    String::from_utf8_lossy(&shown).into_owned()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            items.join("+")
        }
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_and_single_objects_have_one_form() {
        let columns = [("NAME", "name"), ("BY", "by"), ("ALL AT", "at")];
        let one = json!({ "name": "a", "by": ["key", "route"], "at": null, "enforced": false });
        let row = "NAME              BY         ALL AT\na (not enforced)  key+route  -\n";
        for (answer, shown) in [
            (json!({ "data": [] }), "NAME  BY  ALL AT\n"),
            (json!({ "data": [one] }), row),
            (one, row),
        ] {
            assert_eq!(table(&answer, columns), shown, "{answer}");
        }
    }

    #[test]
    fn a_key_is_never_shown() {
        let key = crate::keys::PlainKey::generate(&crate::keys::Prefix::default()).unwrap();
        let refused = refuse_key(&format!("x {}", key.expose()), "the reason").unwrap_err();
        assert!(refused.to_string().starts_with("the reason contains"));
        assert!(!refused.to_string().contains(key.expose()));
        assert!(refuse_key("outage of 3 May", "the reason").is_ok());
    }
}
