//! What can be wrong with manifests.

use std::fmt;

use crate::validate::Problem;

/// One thing that is wrong with a manifest, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    /// File as given, or `-` for standard input.
    pub file: String,
    /// Document within the file, from 1; 0 where the file as a whole is meant.
    pub document: usize,
    /// Line within the file, from 1, if known.
    pub line: Option<usize>,
    /// `JobQueue apps/saas`, or empty where that is not known yet.
    pub object: String,
    /// Path of the field, such as `spec.lanes[0].startWithin`; empty where the whole document is meant.
    pub field: String,
    /// The value found there, shortened; empty where none is or where it may be secret.
    pub value: String,
    /// What is wrong and what to do.
    pub message: String,
    /// A constant of [`reason`] or of [`crate::validate::reason`].
    pub reason: &'static str,
}

/// Why a manifest is refused before anything in it is validated.
pub mod reason {
    /// A path cannot be read.
    pub const UNREADABLE: &str = "Unreadable";
    /// A path holds no manifest.
    pub const EMPTY: &str = "Empty";
    /// The text is not YAML.
    pub const SYNTAX: &str = "Syntax";
    /// `apiVersion` or `kind` is absent or not one of ours.
    pub const KIND: &str = "Kind";
    /// A field does not exist.
    pub const UNKNOWN_FIELD: &str = "UnknownField";
    /// A value is of another type.
    pub const TYPE: &str = "Type";
    /// An object is there twice.
    pub const DUPLICATE: &str = "Duplicate";
    /// An overlay changes something that is not there.
    pub const NO_MATCH: &str = "NoMatch";
    /// Something named is not among the manifests.
    pub const NOT_FOUND: &str = "NotFound";
    /// Warning: no pool takes jobs from a lane.
    pub const UNSERVED_LANE: &str = "UnservedLane";
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if self.document > 1 {
            write!(f, " (document {})", self.document)?;
        }
        f.write_str(": ")?;
        if !self.object.is_empty() {
            write!(f, "{}: ", self.object)?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        if !self.value.is_empty() {
            write!(f, "{:?}: ", self.value)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ManifestError {}

impl ManifestError {
    /// An error about a file as a whole.
    pub(crate) fn of_file(file: &str, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            document: 0,
            line: None,
            object: String::new(),
            field: String::new(),
            value: String::new(),
            message: message.into(),
            reason,
        }
    }
}

impl From<ManifestError> for Problem {
    fn from(error: ManifestError) -> Self {
        Self { field: error.field, value: error.value, message: error.message, reason: error.reason }
    }
}
