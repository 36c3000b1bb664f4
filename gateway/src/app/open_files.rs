//! Warnings about secret files that others can read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::config::settings::Settings;
use crate::control::issuer_keys::SavedKeys;

/// Mode bits that let group or others read or write.
const OPEN_TO_OTHERS: u32 = 0o066;

/// Logs each such file with its mode and the remedy. The gateway starts anyway: a container may
/// have no other way.
pub(super) fn warn_of_open_files(settings: &Settings) {
    let database = settings.store.url.file().map(Path::to_path_buf);
    let snapshot = settings.store.snapshot.as_deref();
    let of_issuers = snapshot.map(SavedKeys::path_beside);
    let files = settings.secret_files.iter().cloned();
    let files = files.chain(snapshot.map(Path::to_path_buf));
    for file in files.chain(of_issuers).chain(database) {
        if let Some(warning) = warning(&file) {
            log::warn!("{warning}");
        }
    }
}

fn warning(file: &Path) -> Option<String> {
    // Another check reports a missing file.
    let mode = fs::metadata(file).ok()?.permissions().mode() & 0o7777;
    let who = match (mode & 0o060 & OPEN_TO_OTHERS, mode & 0o006) {
        (0, 0) => return None,
        (_, 0) => "its group",
        _ => "everyone",
    };
    let file: PathBuf = file.into();
    Some(format!(
        "{} is open to {who} on this machine (mode {mode:04o}): chmod 600 {}",
        file.display(),
        file.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_with_its_mode_when_others_may_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        fs::write(&file, "x").unwrap();
        for (mode, who) in [
            (0o600, None),
            (0o400, None),
            (0o700, None),
            (0o640, Some("its group")),
            (0o620, Some("its group")),
            (0o644, Some("everyone")),
            (0o604, Some("everyone")),
            (0o666, Some("everyone")),
        ] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let said = warning(&file);
            match who {
                None => assert_eq!(said, None, "{mode:o}"),
                Some(who) => {
                    let said = said.unwrap();
                    let wanted = [
                        who.to_owned(),
                        format!("mode {mode:04o}"),
                        format!("chmod 600 {}", file.display()),
                    ];
                    assert!(wanted.iter().all(|part| said.contains(part)), "{said}");
                }
            }
        }
        assert_eq!(warning(&directory.path().join("missing")), None);
    }
}
