//! Where workers run: Deployments in a cluster, child processes on one machine.
//!
//! A platform says what is there ([`Platform::observe`]) and carries out one decision
//! ([`Platform::scale`]). It decides nothing itself.

pub mod conformance;
pub mod host;

use std::fmt;
use std::future::Future;

/// A `WorkerPool`, by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct PoolRef {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl PoolRef {
    /// A reference by its parts.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for PoolRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A pool as the platform shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// Workers asked for (`spec.replicas`).
    pub replicas: u32,
    /// Workers that can take jobs; those on their way out do not count.
    pub ready: u32,
    /// Workers on their way out.
    pub terminating: u32,
    /// What keeps workers from becoming ready, or made them die.
    pub problems: Vec<Problem>,
    /// Version of what was read; [`Scale::version`] hands it back so that a change in between is noticed.
    pub version: Option<String>,
}

/// A worker that does not come up, or does not stay up.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Pod or process.
    pub worker: String,
    /// Which kind.
    pub kind: ProblemKind,
    /// One sentence for people, with the platform's own words.
    pub message: String,
}

/// Kinds of [`Problem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub enum ProblemKind {
    /// No place for it.
    Unschedulable,
    /// Its image cannot be had.
    ImagePull,
    /// It cannot be made: a missing Secret or ConfigMap, a program that is not there.
    CannotStart,
    /// It starts and dies, again and again.
    CrashLoop,
}

impl ProblemKind {
    /// The name as conditions and tables show it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unschedulable => "Unschedulable",
            Self::ImagePull => "ImagePull",
            Self::CannotStart => "CannotStart",
            Self::CrashLoop => "CrashLoop",
        }
    }
}

/// A decision to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scale {
    /// Replicas the decision saw.
    pub from: u32,
    /// Replicas to have.
    pub to: u32,
    /// [`Observed::version`] the decision saw.
    pub version: Option<String>,
    /// Names of workers that were idle by their last heartbeat: the first to go on the way down.
    pub idle: Vec<String>,
}

/// What became of a [`Scale`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scaled {
    /// Carried out.
    Done,
    /// Someone changed the pool since it was observed; nothing was done. Observe and decide again.
    Conflict,
}

/// Errors of platforms.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// The pool has not been set up here yet, or is gone.
    #[error("pool {0} does not exist on this platform yet")]
    NoSuchPool(PoolRef),
    /// The platform could not be asked or refused.
    #[error("{doing} pool {pool}: {source}")]
    Failed {
        /// `observe` or `scale`.
        doing: &'static str,
        /// The pool.
        pool: PoolRef,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Where workers run.
///
/// # Guarantees that every implementation gives (checked by the conformance suite)
/// - `observe` after a `scale` answered `Done` shows the new `replicas`.
/// - `scale` with an outdated `version` or `from` changes nothing and answers `Conflict`.
/// - On the way down workers are asked to drain, idle ones first; none is killed before its drain timeout.
pub trait Platform: Send + Sync + 'static {
    /// What is there.
    fn observe(&self, pool: &PoolRef) -> impl Future<Output = Result<Observed, PlatformError>> + Send;

    /// Carry out a decision.
    fn scale(
        &self,
        pool: &PoolRef,
        scale: &Scale,
    ) -> impl Future<Output = Result<Scaled, PlatformError>> + Send;

    /// How long a worker takes from being asked for to its first claim, before it has been measured.
    fn startup_prior_ms(&self) -> u64;
}
