//! [`Source`]: where settings come from, so that they can be loaded again.

use std::path::{Path, PathBuf};

use crate::config::own::Registrations;
use crate::config::reader::Problems;
use crate::config::settings::Settings;
use crate::config::{DEFAULT_FILE, Environment, SECRET_VARIABLES, file, named_files, read};

/// Loads all settings.
pub(super) fn load(
    file: Option<&Path>,
    environment: &Environment,
    own: &Registrations,
) -> Result<Settings, NotLoaded> {
    let mut named = Vec::new();
    let read = read(file, environment, |reader| {
        let settings = Settings::read(reader, environment, own);
        named = named_files(reader.effective());
        settings
    });
    let source = Source::new(file, environment, own);
    match read {
        Ok(settings) => Ok(Settings { source, ..settings }),
        Err(problems) => Err(NotLoaded { problems, named }),
    }
}

/// Where settings are loaded from.
#[derive(Debug, Default, Clone)]
pub struct Source {
    /// Settings file; [`DEFAULT_FILE`] if none was named.
    file: Option<PathBuf>,
    environment: Environment,
    /// Sections that the program registered.
    own: Registrations,
    /// Whether the file held anything.
    was_filled: bool,
}

impl Source {
    /// Settings in `file`, or in [`DEFAULT_FILE`], under these variables.
    pub(super) fn new(file: Option<&Path>, environment: &Environment, own: &Registrations) -> Self {
        let mut source = Self {
            file: file.map(Path::to_path_buf),
            environment: environment.clone(),
            own: own.clone(),
            was_filled: false,
        };
        source.was_filled = file::is_filled(source.file());
        source
    }

    /// Settings file, present or not.
    #[must_use]
    pub fn file(&self) -> &Path {
        self.file.as_deref().unwrap_or(Path::new(DEFAULT_FILE))
    }

    /// Files that variables of the environment name.
    pub fn files_of_variables(&self) -> impl Iterator<Item = PathBuf> {
        let variables = SECRET_VARIABLES.map(|name| format!("{name}_FILE"));
        variables
            .into_iter()
            .filter_map(|name| self.environment.variable(&name))
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    }

    /// Loads the settings again: with the same reader, from the same places. A file that held
    /// something and is now empty or gone is a problem: most likely it is being written.
    ///
    /// # Errors
    /// All problems, with the files that the settings name.
    pub fn load_again(&self) -> Result<Settings, NotLoaded> {
        let mut problems = Problems::default();
        if self.was_filled && !file::is_filled(self.file()) {
            let message =
                "it is empty, missing or not a file, and the running settings are from it";
            problems.add("", &self.file().display().to_string(), message.to_owned());
            return Err(NotLoaded {
                problems,
                named: Vec::new(),
            });
        }
        load(self.file.as_deref(), &self.environment, &self.own)
    }
}

/// Settings that cannot be used.
#[derive(Debug)]
pub struct NotLoaded {
    /// All problems.
    pub problems: Problems,
    /// Files that the settings name, as far as they could be read.
    pub named: Vec<PathBuf>,
}
