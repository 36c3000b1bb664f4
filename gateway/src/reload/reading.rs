//! [`read`]: the settings as the files hold them now, together with what the files held.

use crate::config::Source;
use crate::config::reader::{Problems, SettingProblem};
use crate::config::settings::Settings;
use crate::reload::inputs::{Fingerprint, Inputs};

/// Times that files are read while others write them.
const MAX_ATTEMPTS: u32 = 5;

/// Settings that were read, and from what.
pub struct Reading {
    /// Settings, or all their problems.
    pub settings: Result<Box<Settings>, Vec<SettingProblem>>,
    /// Files that count: those that this reading names, too.
    pub inputs: Inputs,
    /// What the files held.
    pub fingerprint: Fingerprint,
}

/// Reads all inputs with the reader of the start. `known` are the inputs as far as they are known.
/// The files are compared before and after, so that the settings are of one state of the files.
/// Blocks on the file system.
#[must_use]
pub fn read(source: &Source, known: &Inputs) -> Reading {
    let mut inputs = known.clone();
    let mut attempt = 0;
    loop {
        attempt += 1;
        let before = inputs.look();
        let (settings, named) = match source.load_again() {
            Ok(settings) => {
                let inputs = Inputs::of(&settings);
                (Ok(Box::new(settings)), inputs)
            }
            Err(not_loaded) => {
                let named = Inputs::at(source, not_loaded.named);
                (Err(not_loaded.problems), named)
            }
        };
        let is_last = attempt == MAX_ATTEMPTS;
        // Files that were not known before have not been compared yet.
        if named != inputs && !is_last {
            inputs = named;
            continue;
        }
        let fingerprint = inputs.look();
        if fingerprint == before {
            return Reading {
                settings: settings.map_err(|problems| problems.list().to_vec()),
                inputs,
                fingerprint,
            };
        }
        if is_last {
            let mut problems = Problems::default();
            let message = "the files are being written: they changed each time they were read";
            problems.add("", "the files", message.to_owned());
            return Reading {
                settings: Err(problems.list().to_vec()),
                inputs,
                fingerprint: before,
            };
        }
    }
}
