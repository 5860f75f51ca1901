//! Errors of the local mode.

use std::path::PathBuf;

use lanekeeper_api::manifest::ManifestError;

/// Why the local mode does not start, or does not take a change.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The manifests cannot work. One line per problem.
    #[error("{}", lines(.0))]
    Manifests(Vec<ManifestError>),
    /// The Redis of a queue could not be used.
    #[error("queue {queue}: {redis}: {source}")]
    Redis {
        /// `namespace/name`.
        queue: String,
        /// The URL, without its password.
        redis: String,
        /// Why.
        source: lanekeeper_queue::Error,
    },
    /// A queue is managed by someone else.
    #[error("queue {queue} is managed by {owner} in this Redis; `lanekeeper adopt {queue}` takes it over")]
    Foreign {
        /// `namespace/name`.
        queue: String,
        /// The owner there.
        owner: String,
    },
    /// A Secret's name or key cannot be a file name.
    #[error("the Secret key {0} cannot be written as a file: use letters, digits, '-', '_' and '.'")]
    SecretName(String),
    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

fn lines(errors: &[ManifestError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
