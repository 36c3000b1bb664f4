//! JSON views of the settings in force, and of the answer to a reading of the files.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::config::reader::{Effective, SettingProblem};
use crate::keys::UnixMillis;
use crate::reload::{Answer, Attempt, Outcome, Running};
use crate::views::schemas;

/// Settings of the answering gateway.
#[derive(Serialize, ToSchema)]
#[schema(as = Config)]
pub struct ConfigView<'c> {
    /// Generation of the settings in force: 1 at the start, and 1 more with each change.
    #[schema(minimum = 1)]
    pub generation: u64,
    /// Time since when it is in force.
    #[schema(schema_with = schemas::moment)]
    pub loaded_at: UnixMillis,
    /// Hash of the settings in force, also in `ETag`. Secrets are not part of it.
    #[schema(schema_with = schemas::settings_hash)]
    pub hash: &'c str,
    /// Settings that this generation changed; empty at the start.
    pub changed: &'c [String],
    /// Last reading of the files.
    pub files: FilesView<'c>,
    /// Settings in force.
    pub settings: Vec<SettingView<'c>>,
}

/// Last reading of the files.
#[derive(Serialize, ToSchema)]
#[schema(as = ConfigFiles)]
pub struct FilesView<'c> {
    /// Time of the reading.
    #[schema(schema_with = schemas::moment)]
    pub read_at: UnixMillis,
    /// Hash of the settings in the files; null if they cannot be used.
    #[schema(required, schema_with = schemas::settings_hash_or_null)]
    pub hash: Option<&'c str>,
    /// Settings that differ from those in force and need a restart.
    pub restart_required: &'c [String],
    /// Why the files were refused; empty if they were not.
    pub problems: Vec<ProblemView<'c>>,
}

/// A setting in force.
#[derive(Serialize, ToSchema)]
#[schema(as = Setting)]
pub struct SettingView<'c> {
    /// Path in the file, or name of the variable.
    pub path: &'c str,
    /// Value as TOML; a secret is redacted.
    pub value: &'c str,
    /// Source: `default`, the file, or the variable.
    pub source: &'c str,
}

/// A problem of the settings in the files.
#[derive(Serialize, ToSchema)]
#[schema(as = SettingProblem)]
pub struct ProblemView<'c> {
    /// Path of the setting; empty for a whole file.
    pub path: &'c str,
    /// Source: a file, a variable, or the settings together.
    pub source: &'c str,
    /// What is wrong, and what is accepted.
    pub message: &'c str,
}

/// Answer to a reading of the files.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Reload)]
pub struct ReloadView {
    /// `applied`; `unchanged`, if the settings in force are those of the files; `valid`, after a
    /// `dry_run`.
    #[schema(schema_with = outcomes)]
    pub outcome: String,
    /// Generation in force.
    #[schema(minimum = 1)]
    pub generation: u64,
    /// Hash of the settings in force.
    #[schema(schema_with = schemas::settings_hash)]
    pub hash: String,
    /// Settings that changed, or would.
    pub changed: Vec<String>,
    /// Settings that differ and need a restart.
    pub restart_required: Vec<String>,
}

fn outcomes() -> utoipa::openapi::schema::Schema {
    schemas::one_of(&["applied", "unchanged", "valid"])
}

impl<'c> ConfigView<'c> {
    /// Builds the view.
    #[must_use]
    pub fn of(running: &'c Running, last: &'c Attempt) -> Self {
        let setting = |setting: &'c Effective| SettingView {
            path: &setting.path,
            value: &setting.value,
            source: &setting.source,
        };
        let problem = |problem: &'c SettingProblem| ProblemView {
            path: &problem.path,
            source: &problem.source,
            message: &problem.message,
        };
        Self {
            generation: running.generation,
            loaded_at: running.loaded_at.into(),
            hash: &running.hash,
            changed: &running.changed,
            files: FilesView {
                read_at: last.at.into(),
                hash: last.hash.as_deref(),
                restart_required: &last.restart_required,
                problems: last.problems.iter().map(problem).collect(),
            },
            settings: running.effective.iter().map(setting).collect(),
        }
    }
}

impl ReloadView {
    /// Builds the view of an answer; `None` if the files were not read or are refused.
    #[must_use]
    pub fn of(answer: &Answer) -> Option<Self> {
        let outcome = match answer.outcome {
            Outcome::Applied => "applied",
            Outcome::Unchanged => "unchanged",
            Outcome::Valid => "valid",
            Outcome::Refused(_) | Outcome::Mismatch | Outcome::Stopping => return None,
        };
        Some(Self {
            outcome: outcome.to_owned(),
            generation: answer.generation,
            hash: answer.hash.clone(),
            changed: answer.changed.clone(),
            restart_required: answer.restart_required.clone(),
        })
    }
}
