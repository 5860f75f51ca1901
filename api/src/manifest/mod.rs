//! Manifests from files: what `kubectl apply` does for a cluster, for the local mode and the CLI.
//!
//! Multi-document YAML files, directories and standard input. Every error names file, line, field and what to do,
//! and all errors of a load are reported together.

mod check;
mod document;
mod error;
mod locate;
mod overlay;
mod read;
mod schema;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

pub use check::{Checked, check};
pub use error::{ManifestError, reason};

use crate::job_queue::JobQueue;
use crate::worker_pool::WorkerPool;
use document::Objects;
use locate::Step;

/// What a load found. Every object has a namespace.
#[derive(Debug, Clone, Default)]
pub struct Manifests {
    /// Queues, in the order of the files.
    pub queues: Vec<Loaded<JobQueue>>,
    /// Pools, in the order of the files.
    pub pools: Vec<Loaded<WorkerPool>>,
    /// Secrets, for Redis URLs and signing.
    pub secrets: Vec<Loaded<Secret>>,
    /// Documents of other kinds, which are left alone.
    pub ignored: Vec<Ignored>,
}

/// An object and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded<T> {
    /// The object.
    pub object: T,
    /// Where it came from.
    pub origin: Origin,
}

impl<T> Deref for Loaded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.object
    }
}

/// A Secret, decoded; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Values by key.
    pub data: BTreeMap<String, Vec<u8>>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&String> = self.data.keys().collect();
        f.debug_struct("Secret")
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .field("keys", &keys)
            .finish()
    }
}

/// A document of a kind that is not ours.
#[derive(Debug, Clone, PartialEq)]
pub struct Ignored {
    /// Its kind.
    pub kind: String,
    /// Its name, if it has one.
    pub name: String,
    /// Where it stands.
    pub origin: Origin,
}

/// Where an object came from.
#[derive(Clone, PartialEq, Eq)]
pub struct Origin {
    /// File as given, or `-` for standard input.
    pub file: String,
    /// Document within the file, from 1.
    pub document: usize,
    /// Files of overlays that changed it.
    pub overlays: Vec<String>,
    /// The whole file, to find lines in.
    source: Arc<str>,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The source may hold Secrets.
        write!(f, "{self}")
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line_of("") {
            write!(f, ":{line}")?;
        }
        Ok(())
    }
}

impl Origin {
    pub(crate) fn new(file: &str, document: usize, source: Arc<str>) -> Self {
        Self { file: file.to_owned(), document, overlays: Vec::new(), source }
    }

    /// Line of a field such as `spec.lanes[0].name`, or of the nearest thing around it.
    #[must_use]
    pub fn line_of(&self, field: &str) -> Option<usize> {
        locate::line(&self.source, self.document - 1, &locate::steps(field))
    }

    pub(crate) fn overlaid(&mut self, by: &Self) {
        if !self.overlays.contains(&by.file) {
            self.overlays.push(by.file.clone());
        }
    }

    pub(crate) fn error(
        &self,
        object: &str,
        path: &[Step],
        value: impl Into<String>,
        reason: &'static str,
        message: impl Into<String>,
    ) -> ManifestError {
        let mut message = message.into();
        if !self.overlays.is_empty() {
            message = format!("{message} (after the overlay {})", self.overlays.join(", "));
        }
        ManifestError {
            file: self.file.clone(),
            document: self.document,
            line: locate::line(&self.source, self.document - 1, path),
            object: object.to_owned(),
            field: text_of(path),
            value: value.into(),
            message,
            reason,
        }
    }
}

fn text_of(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => text.push_str(&format!(".{key}")),
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

impl Manifests {
    /// The Secret of that name.
    #[must_use]
    pub fn secret(&self, namespace: &str, name: &str) -> Option<&Secret> {
        let secret = self.secrets.iter().find(|s| s.namespace == namespace && s.name == name);
        secret.map(|loaded| &loaded.object)
    }
}

/// Reads manifests from files, directories (their `*.yaml` and `*.yml` files, not deeper) and `-` for standard
/// input. What is read is well formed and of the right types; [`check`] tells whether it also makes sense.
///
/// # Errors
/// All errors of all files.
pub fn load<P: AsRef<Path>>(paths: &[P]) -> Result<Manifests, Vec<ManifestError>> {
    load_with::<P, P>(paths, &[])
}

/// Like [`load`], then changes the manifests by overlays: documents of the same kind, namespace and name, merged
/// deep, lists by the names of their items, in order.
///
/// # Errors
/// All errors of all files, and every overlay or item of one that matches nothing.
pub fn load_with<P: AsRef<Path>, O: AsRef<Path>>(
    paths: &[P],
    overlays: &[O],
) -> Result<Manifests, Vec<ManifestError>> {
    finish(document::sort(read::read(paths)?), document::sort(read::read(overlays)?))
}

/// Like [`load`], from texts with the names errors call them by.
///
/// # Errors
/// All errors of all texts.
pub fn parse(texts: &[(&str, &str)]) -> Result<Manifests, Vec<ManifestError>> {
    parse_with(texts, &[])
}

/// Like [`load_with`], from texts with the names errors call them by.
///
/// # Errors
/// As [`load_with`].
pub fn parse_with(
    texts: &[(&str, &str)],
    overlays: &[(&str, &str)],
) -> Result<Manifests, Vec<ManifestError>> {
    let text = |(file, content): &(&str, &str)| read::Text {
        file: (*file).to_owned(),
        content: (*content).to_owned(),
    };
    finish(
        document::sort(texts.iter().map(text).collect()),
        document::sort(overlays.iter().map(text).collect()),
    )
}

fn finish(
    mut bases: document::Sorted,
    mut overlays: document::Sorted,
) -> Result<Manifests, Vec<ManifestError>> {
    bases.check_unique();
    let mut errors = std::mem::take(&mut bases.errors);
    errors.append(&mut overlays.errors);
    for patch in overlays.ours {
        if let Err(more) = overlay::apply(&mut bases.ours, patch) {
            errors.extend(more);
        }
    }
    let mut objects = Objects::default();
    for document in bases.ours {
        objects.add(document);
    }
    errors.append(&mut objects.errors);
    if errors.is_empty() {
        let Objects { queues, pools, secrets, errors: _ } = objects;
        Ok(Manifests { queues, pools, secrets, ignored: bases.ignored })
    } else {
        Err(errors)
    }
}
