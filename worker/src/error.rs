//! What can end a worker.

use std::io;

/// Why a worker could not start or did not end cleanly. A Redis outage is not among them: it is waited out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Redis URL or CA file can never work.
    #[error("{0}")]
    Redis(String),
    /// A lane has a weight that the order of the lanes does not look at.
    #[error(
        "the lane {lane}:{weight} has a weight, which counts only with --order weighted: set that order, or remove the weight"
    )]
    Weight {
        /// Which.
        lane: String,
        /// Its weight.
        weight: u32,
    },
    /// A file that the settings name cannot be read.
    #[error("cannot read {what}: {error}")]
    Read {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The address for probes cannot be bound.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The HTTP handler's client cannot be made.
    #[error(transparent)]
    HttpClient(#[from] crate::handler::http::ClientError),
    /// The engine's thread or runtime could not be started.
    #[error("cannot start the engine: {0}")]
    Start(#[source] io::Error),
    /// The engine's thread ended unexpectedly; its leases will lapse and its jobs run elsewhere.
    #[error("the engine stopped unexpectedly: its jobs will be taken over when their leases lapse")]
    EngineGone,
    /// The drain time was over before everything could be said to Redis.
    #[error(
        "drain time is over with {0} jobs not handed back: they will be taken over when their leases lapse"
    )]
    Unsettled(usize),
}
