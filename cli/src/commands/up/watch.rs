//! Notices that manifests have changed, by their files' sizes and times.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::manifests::ManifestArgs;

type Fingerprint = Vec<(PathBuf, u64, Option<SystemTime>)>;

/// The manifests as they were at the last look.
pub(super) struct Watch {
    paths: Vec<PathBuf>,
    seen: Fingerprint,
}

impl Watch {
    /// Everything is as it is now.
    pub(super) fn new(args: &ManifestArgs) -> Self {
        let paths: Vec<PathBuf> =
            args.files.iter().chain(&args.overlay).filter(|path| path.as_os_str() != "-").cloned().collect();
        // Standard input cannot be read again, so nothing can be loaded again.
        let paths = if args.files.iter().any(|path| path.as_os_str() == "-") { Vec::new() } else { paths };
        Self { seen: fingerprint(&paths), paths }
    }

    /// Whether something has changed since the last look.
    pub(super) fn changed(&mut self) -> bool {
        let now = fingerprint(&self.paths);
        let changed = now != self.seen;
        self.seen = now;
        changed
    }
}

fn fingerprint(paths: &[PathBuf]) -> Fingerprint {
    let mut found = Vec::new();
    for path in paths {
        match std::fs::read_dir(path) {
            Ok(entries) => {
                let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
                files.sort();
                found.extend(files.iter().filter(|file| is_yaml(file)).map(|file| stamp(file)));
            }
            Err(_) => found.push(stamp(path)),
        }
    }
    found
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// A file that cannot be looked at counts as empty: loading says what is wrong.
fn stamp(path: &Path) -> (PathBuf, u64, Option<SystemTime>) {
    let meta = std::fs::metadata(path).ok();
    (path.to_owned(), meta.as_ref().map_or(0, |m| m.len()), meta.and_then(|m| m.modified().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_an_added_and_a_removed_file_are_noticed_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml");
        std::fs::write(&file, "a").unwrap();
        let mut watch = Watch::new(&ManifestArgs { files: vec![dir.path().to_owned()], overlay: vec![] });
        assert!(!watch.changed());
        std::fs::write(&file, "ab").unwrap();
        assert!(watch.changed() && !watch.changed());
        std::fs::write(dir.path().join("b.yaml"), "b").unwrap();
        std::fs::write(dir.path().join("notes.txt"), "b").unwrap();
        assert!(watch.changed() && !watch.changed());
        std::fs::remove_file(&file).unwrap();
        assert!(watch.changed());
    }
}
