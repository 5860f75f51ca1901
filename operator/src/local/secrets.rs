//! Files that hold secrets: readable by this user only, and whole or not there.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::LocalError;

/// Writes every file that is not there as it should be.
pub(super) fn write(files: &BTreeMap<PathBuf, Vec<u8>>) -> Result<(), LocalError> {
    for (path, content) in files {
        write_one(path, content).map_err(|source| LocalError::File { path: path.clone(), source })?;
    }
    Ok(())
}

fn write_one(path: &Path, content: &[u8]) -> io::Result<()> {
    if fs::read(path).is_ok_and(|present| present == content) {
        return fs::set_permissions(path, Permissions::from_mode(0o600));
    }
    let dir = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    // A worker that reads meanwhile sees the old content or the new one, never a part.
    let beside = dir.join(format!(".{}.new", path.file_name().unwrap_or_default().to_string_lossy()));
    let _ = fs::remove_file(&beside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_for_this_user_only_and_change_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("apps/mailer/hmac");
        write(&BTreeMap::from([(path.clone(), b"one".to_vec())])).expect("written");
        write(&BTreeMap::from([(path.clone(), b"two".to_vec())])).expect("changed");
        assert_eq!(fs::read(&path).expect("there"), b"two");
        let mode = |p: &Path| fs::metadata(p).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().expect("a parent")), 0o700);
        assert_eq!(fs::read_dir(path.parent().expect("a parent")).expect("there").count(), 1);
    }
}
