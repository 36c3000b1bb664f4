//! Settings: defaults, then the file, then the environment. Reports all problems at once, each with
//! its path, its source and what is accepted.
//!
//! [`reader`] takes the settings out of the merged layers, [`value`] parses the texts of each kind
//! of setting, and [`settings`] lists them all.

pub mod admin;
mod brake;
mod buffering;
mod concurrency;
mod cors;
mod file;
pub(crate) mod header_edits;
mod jwt;
mod key_sources;
pub mod limit_values;
pub mod limits;
pub mod listen;
mod methods;
pub mod own;
pub mod public_url;
mod quotas;
pub mod reader;
pub mod reload;
pub mod routes;
mod secret;
pub mod settings;
mod source;
pub mod upstreams;
pub mod valkey;
pub mod value;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use postern_shared::source as secret_source;

use crate::config::admin::{AdminAccess, AdminDoor};
use crate::config::own::Registrations;
use crate::config::reader::{Effective, Problems, Reader};
use crate::config::settings::{CommandSettings, Settings, StoreSettings, key_prefix};
pub use crate::config::source::{NotLoaded, Source};
use crate::keys::Prefix;

/// Settings file that is read, if present, when none is named.
pub const DEFAULT_FILE: &str = "gateway.toml";
/// Prefix of the environment variables for `section.key`: `GATEWAY__SECTION__KEY`.
pub const VARIABLE_PREFIX: &str = "GATEWAY__";

/// Variables outside this scheme: name, setting, and whether it is a secret, for which `NAME_FILE`
/// works too.
const NAMED_VARIABLES: [(&str, &str, bool); 3] = [
    ("ORIGIN_URL", "origin.url", false),
    ("DATABASE_URL", "store.url", true),
    ("VALKEY_URL", "valkey.url", true),
];

/// Variables with secrets, each of which `NAME_FILE` can give.
pub const SECRET_VARIABLES: [&str; 5] = [
    "SHARED_SECRET",
    "ADMIN_TOKEN",
    "DATABASE_URL",
    "VALKEY_URL",
    valkey::PASSWORD,
];

/// Environment variables, passed as an argument so that tests can use their own.
#[derive(Default, Clone)]
pub struct Environment(BTreeMap<OsString, OsString>);

/// Shows no variable: any may hold a secret.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}

impl Environment {
    /// Variables of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// Text of a variable outside the settings; an empty one counts as unset.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        let text = self.variable(name)?.into_string().ok()?;
        Some(text).filter(|text| !text.is_empty())
    }

    fn variable(&self, name: &str) -> Option<OsString> {
        self.0.get(std::ffi::OsStr::new(name)).cloned()
    }

    /// Reads a secret from `name` or from the file named in `name_FILE`.
    fn secret(&self, name: &str, problems: &mut Problems) -> Option<zeroize::Zeroizing<String>> {
        secret_source::resolve(name, |name| self.variable(name), |path| std::fs::read(path))
            .unwrap_or_else(|error| {
                problems.add(name, "the environment", error.to_string());
                None
            })
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(
            variables
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

/// Loads all settings of `gateway serve`.
///
/// # Errors
/// All problems, not just the first.
pub fn load(file: Option<&Path>, environment: &Environment) -> Result<Settings, Problems> {
    load_with(file, environment, &Registrations::default())
}

/// Loads all settings of `gateway serve`, with the sections that a program registered.
///
/// # Errors
/// All problems, not just the first.
pub fn load_with(
    file: Option<&Path>,
    environment: &Environment,
    own: &Registrations,
) -> Result<Settings, Problems> {
    source::load(file, environment, own).map_err(|not_loaded| not_loaded.problems)
}

/// Files that settings name to be read: those whose names end in `_file`.
#[must_use]
pub fn named_files(effective: &[Effective]) -> Vec<PathBuf> {
    effective
        .iter()
        .filter(|effective| effective.path.ends_with("_file"))
        .map(|effective| effective.value.trim_matches('"').into())
        .collect()
}

/// Loads all settings of `gateway serve` from `last_good`, in place of a `file` that cannot be
/// used. The running gateway still follows `file`.
///
/// # Errors
/// All problems of `last_good`.
pub fn load_last_good(
    file: Option<&Path>,
    last_good: &Path,
    environment: &Environment,
    own: &Registrations,
) -> Result<Settings, Problems> {
    let settings = load_with(Some(last_good), environment, own)?;
    let source = Source::new(file, environment, own);
    Ok(Settings { source, ..settings })
}

/// Loads the settings of the commands that use the store; ignores problems elsewhere.
///
/// # Errors
/// All problems of these settings.
pub fn load_command(
    file: Option<&Path>,
    environment: &Environment,
) -> Result<CommandSettings, Problems> {
    read(file, environment, |reader| {
        let routes = routes::names(reader);
        let store = StoreSettings::read(reader);
        reader.ignore_the_rest();
        Some(CommandSettings {
            store: store?,
            routes,
        })
    })
}

/// Loads the key prefix, for commands that parse a key without a store.
///
/// # Errors
/// All problems of this setting.
pub fn load_prefix(file: Option<&Path>, environment: &Environment) -> Result<Prefix, Problems> {
    read(file, environment, |reader| {
        let prefix = key_prefix(reader);
        reader.ignore_the_rest();
        Some(prefix)
    })
}

/// Loads the address and the certificates of the admin listener.
///
/// # Errors
/// All problems of these settings.
pub fn load_admin_door(
    file: Option<&Path>,
    environment: &Environment,
) -> Result<AdminDoor, Problems> {
    read(file, environment, |reader| {
        let door = AdminDoor::read(reader);
        reader.ignore_the_rest();
        Some(door)
    })
}

/// Loads what a command needs to call the admin API of a running gateway.
///
/// # Errors
/// All problems of these settings.
pub fn load_admin_access(
    file: Option<&Path>,
    environment: &Environment,
) -> Result<AdminAccess, Problems> {
    read(file, environment, |reader| {
        let access = AdminAccess::read(reader, environment);
        reader.ignore_the_rest();
        Some(access)
    })
}

/// Formats the effective settings as TOML, each with its source; secrets are redacted.
#[must_use]
pub fn show(effective: &[Effective]) -> String {
    let mut text = String::new();
    let mut section = "";
    for Effective {
        path,
        value,
        source,
    } in effective
    {
        let (table, key) = path.rsplit_once('.').unwrap_or(("", path));
        if table != section {
            section = table;
            let names = without_indexes(table);
            let header = if table.ends_with(']') {
                format!("[[{names}]]")
            } else {
                format!("[{names}]")
            };
            text.push_str(&format!("\n{header}\n"));
        }
        text.push_str(&format!("{key} = {value}  # {source}\n"));
    }
    text
}

/// Path without the numbers of list items: `routes.cors` of `routes[0].cors`.
fn without_indexes(path: &str) -> String {
    let names = path.split('.');
    let names = names.map(|name| name.split_once('[').map_or(name, |(name, _)| name));
    names.collect::<Vec<_>>().join(".")
}

fn read<T>(
    file: Option<&Path>,
    environment: &Environment,
    take: impl FnOnce(&mut Reader) -> Option<T>,
) -> Result<T, Problems> {
    let mut problems = Problems::default();
    let layers = Layers::collect(file, environment, &mut problems);
    let mut reader = Reader::new(layers.build(&mut problems), problems);
    let taken = take(&mut reader);
    let problems = reader.finish();
    match taken {
        Some(taken) if problems.is_empty() => Ok(taken),
        _ => Err(problems),
    }
}

/// Sources, lowest precedence first; [`settings`] holds the defaults.
struct Layers {
    file: Option<PathBuf>,
    variables: BTreeMap<String, String>,
    named: Vec<(&'static str, &'static str, String)>,
}

impl Layers {
    fn collect(file: Option<&Path>, environment: &Environment, problems: &mut Problems) -> Self {
        let file = match file {
            Some(named) if named.is_file() => Some(named.to_path_buf()),
            Some(named) => {
                problems.add(
                    "--config",
                    "the command line",
                    format!("{} is not a file that can be read", named.display()),
                );
                None
            }
            None => Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.is_file()),
        };
        let file = file.filter(|file| match file::check(file) {
            Ok(()) => true,
            Err(message) => {
                problems.add("", &file.display().to_string(), message);
                false
            }
        });
        let mut variables = BTreeMap::new();
        for (name, value) in &environment.0 {
            let name = name.to_string_lossy();
            let Some(setting) = name.strip_prefix(VARIABLE_PREFIX) else {
                continue;
            };
            // The environment reader would split such a name or repeat it in errors.
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if setting.is_empty() || !setting.bytes().all(is_plain) {
                problems.add(
                    &format!("{VARIABLE_PREFIX}{}", reader::shown_name(setting, &[])),
                    "the environment",
                    format!(
                        "a variable for a setting is {VARIABLE_PREFIX} and letters, digits and `_`"
                    ),
                );
                continue;
            }
            let name = name.as_ref();
            match value.to_str() {
                // An empty variable counts as unset.
                Some("") => {}
                Some(value) => {
                    variables.insert(name.to_owned(), value.to_owned());
                }
                None => problems.add(
                    name,
                    "the environment",
                    "the value is not valid UTF-8".to_owned(),
                ),
            }
        }
        let mut named = Vec::new();
        for (name, path, secret) in NAMED_VARIABLES {
            let value = if secret {
                environment
                    .secret(name, problems)
                    .map(|text| text.to_string())
            } else {
                match environment.variable(name).map(OsString::into_string) {
                    Some(Ok(value)) => Some(value).filter(|value| !value.is_empty()),
                    Some(Err(_)) => {
                        problems.add(
                            name,
                            "the environment",
                            "the value is not valid UTF-8".to_owned(),
                        );
                        None
                    }
                    None => None,
                }
            };
            let Some(value) = value else { continue };
            let twin = format!(
                "{VARIABLE_PREFIX}{}",
                path.replace('.', "__").to_uppercase()
            );
            if variables.contains_key(&twin) {
                problems.add(
                    path,
                    "the environment",
                    format!("{name} and {twin} are both set: unset one of them"),
                );
            }
            named.push((name, path, value));
        }
        Self {
            file,
            variables,
            named,
        }
    }

    fn build(self, problems: &mut Problems) -> config::Map<String, config::Value> {
        let mut builder = config::Config::builder();
        if let Some(file) = &self.file {
            builder = builder
                .add_source(config::File::from(file.as_path()).format(config::FileFormat::Toml));
        }
        builder = builder.add_source(
            config::Environment::with_prefix("GATEWAY")
                .prefix_separator("__")
                .separator("__")
                .source(Some(self.variables.into_iter().collect())),
        );
        for (name, path, value) in self.named {
            match builder.set_override(path, config::Value::new(Some(&name.to_owned()), value)) {
                Ok(next) => builder = next,
                Err(_) => {
                    let message = format!("{name} contradicts another setting");
                    problems.add(path, "the environment", message);
                    return config::Map::new();
                }
            }
        }
        match builder.build().and_then(|layers| layers.cache.into_table()) {
            Ok(table) => table,
            // The message may quote the file or a variable, so it is not repeated. The check above
            // has reported the position.
            Err(config::ConfigError::FileParse { .. }) => {
                let source = self
                    .file
                    .map_or_else(String::new, |file| file.display().to_string());
                let message = "a number in it is too large: they go up to 2^63 - 1";
                problems.add("", &source, message.to_owned());
                config::Map::new()
            }
            Err(_) => {
                let message = format!(
                    "the variables {VARIABLE_PREFIX}… contradict each other: one is a value where another is a section"
                );
                problems.add("", "the environment", message);
                config::Map::new()
            }
        }
    }
}

#[cfg(test)]
mod secrets_stay_secret;
