//! Where the application keeps its database and files.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::store::Error;

/// The application's data folder.
#[derive(Debug, Clone)]
pub struct Files {
    root: PathBuf,
}

impl Files {
    /// Opens a data folder, creating it and its sub-folders where they are missing.
    ///
    /// # Errors
    /// When a folder cannot be created.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let files = Self { root: root.to_owned() };
        for folder in ["images", "thumbnails", "reports"] {
            let path = files.root.join(folder);
            std::fs::create_dir_all(&path).map_err(Error::file(&path))?;
        }
        Ok(files)
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.root.join("saas.db")
    }

    /// An uploaded image.
    #[must_use]
    pub fn image(&self, image_id: &str) -> PathBuf {
        self.root.join("images").join(format!("{image_id}.png"))
    }

    /// An image scaled down.
    #[must_use]
    pub fn thumbnail(&self, image_id: &str, size: u32) -> PathBuf {
        self.root.join("thumbnails").join(format!("{image_id}-{size}.png"))
    }

    /// A customer's report.
    #[must_use]
    pub fn report(&self, customer_id: &str, period: &str) -> PathBuf {
        self.root.join("reports").join(format!("{customer_id}-{period}.pdf"))
    }

    /// How many files of this folder are finished.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn count(&self, folder: &str) -> Result<u64, Error> {
        let path = self.root.join(folder);
        let finished = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.is_ok_and(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        };
        let entries = std::fs::read_dir(&path).map_err(Error::file(&path))?;
        Ok(entries.map(finished).filter(|is| *is).count() as u64)
    }
}

/// Writes a file whole or not at all: a killed handler leaves no half of it under the final name.
///
/// # Errors
/// When the disk refuses.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::Builder::new().prefix(".part-").tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(Error::file(path))
}
