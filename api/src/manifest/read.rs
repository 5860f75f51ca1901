//! From paths to texts.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::{ManifestError, reason};

/// The content of one file.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) file: String,
    pub(crate) content: String,
}

/// A path that gave nothing, the reason, and what to tell people.
struct Unread(String, &'static str, String);

/// Reads files, the `*.yaml` and `*.yml` files of directories (in order of their names, sub-directories left out, as
/// kubectl does), and `-` for standard input.
pub(crate) fn read<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<Text>, Vec<ManifestError>> {
    let (mut texts, mut errors) = (Vec::new(), Vec::new());
    for path in paths {
        match read_path(path.as_ref()) {
            Ok(more) => texts.extend(more),
            Err(Unread(path, reason, message)) => errors.push(ManifestError::of_file(&path, reason, message)),
        }
    }
    if errors.is_empty() { Ok(texts) } else { Err(errors) }
}

fn read_path(path: &Path) -> Result<Vec<Text>, Unread> {
    if path == Path::new("-") {
        let mut content = String::new();
        io::stdin().read_to_string(&mut content).map_err(|error| unreadable(path, &error))?;
        return Ok(vec![Text { file: "-".to_owned(), content }]);
    }
    let meta = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    let files = if meta.is_dir() { files_of(path)? } else { vec![path.to_owned()] };
    if files.is_empty() {
        let message = "this directory holds no *.yaml or *.yml files";
        return Err(Unread(path.display().to_string(), reason::EMPTY, message.to_owned()));
    }
    files.iter().map(|file| text_of(file)).collect()
}

fn files_of(directory: &Path) -> Result<Vec<PathBuf>, Unread> {
    let entries = fs::read_dir(directory).map_err(|error| unreadable(directory, &error))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(directory, &error))?.path();
        let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if yaml && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn text_of(path: &Path) -> Result<Text, Unread> {
    let content = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    Ok(Text { file: path.display().to_string(), content })
}

fn unreadable(path: &Path, error: &io::Error) -> Unread {
    let message = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file or directory".to_owned(),
        io::ErrorKind::InvalidData => "this file is not UTF-8 text".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    Unread(path.display().to_string(), reason::UNREADABLE, message)
}
