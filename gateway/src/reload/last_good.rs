//! [`keep`]: a copy of the settings file as it was last used, for a start while the file is wrong.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use zeroize::Zeroizing;

/// Copies `file` to `to`, whole, readable for its owner only. Writes nothing if `to` holds the same
/// already. Secrets in files of their own stay there: the copy names these files as `file` does.
///
/// # Errors
/// The system's, for either file.
pub fn keep(file: &Path, to: &Path) -> io::Result<()> {
    let text = Zeroizing::new(fs::read(file)?);
    if fs::read(to)
        .map(Zeroizing::new)
        .is_ok_and(|kept| kept == text)
    {
        return Ok(());
    }
    let mut temporary = to.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    match fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut copy = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)?;
    copy.write_all(&text)?;
    copy.sync_all()?;
    fs::rename(temporary, to)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_copy_is_whole_and_its_owners_only() {
        let directory = tempfile::tempdir().unwrap();
        let (file, to) = (directory.path().join("a"), directory.path().join("b"));
        assert!(keep(&file, &to).is_err());
        for text in ["one", "another", "another"] {
            fs::write(&file, text).unwrap();
            keep(&file, &to).unwrap();
            assert_eq!(fs::read_to_string(&to).unwrap(), text);
            assert_eq!(
                fs::metadata(&to).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
