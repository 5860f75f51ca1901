//! What the library is free to choose, read from its reply.

use std::collections::{BTreeMap, BTreeSet};

use super::reply::Reply;
use crate::types::{Configured, Enqueued};

/// Choices of the library in one reply.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Of accepted jobs, by place in the call.
    pub(super) ids: Vec<Option<String>>,
    /// Of new leases, by job.
    pub(super) tokens: BTreeMap<String, u64>,
    /// The jobs that a claim took, in order.
    pub(super) claimed: Vec<String>,
    /// When a claim says that there may be more.
    pub(super) next_due_ms: Option<u64>,
    /// The groups of jobs that came when their type had no concurrency key, empty for none at all.
    pub(super) groups: BTreeMap<String, String>,
    /// Keys whose class it has forgotten, by type and key.
    pub(super) forgotten: BTreeSet<(String, String)>,
    /// How many jobs it says go before one of the same key, where it says anything of that key.
    pub(super) ahead: Option<u64>,
    /// How much damage it found so far.
    pub(super) damaged: u64,
    /// Of a policy that was applied.
    pub(super) version: Option<u64>,
    /// Whether a sweep that did as much as it may says that there is more.
    pub(super) more: bool,
}

impl Given {
    /// The choices in a reply.
    #[must_use]
    pub fn of(reply: &Reply) -> Self {
        let mut given = Self::default();
        match reply {
            Reply::Enqueued(outcomes) => {
                given.ids = outcomes
                    .iter()
                    .map(|outcome| match outcome {
                        Enqueued::Accepted { id, .. } => Some(id.clone()),
                        _ => None,
                    })
                    .collect();
            }
            Reply::Telling(reply, told) => {
                given = Self::of(reply);
                let jobs = told.iter().flat_map(|(_, handed)| &handed.claim.jobs);
                given.tokens = jobs.map(|job| (job.id.clone(), job.token)).collect();
            }
            Reply::Worked(_, claim) => {
                given.tokens = claim.jobs.iter().map(|job| (job.id.clone(), job.token)).collect();
                given.next_due_ms = claim.next_due_ms;
                given.claimed = claim.jobs.iter().map(|job| job.id.clone()).collect();
            }
            Reply::Swept(sweep) => {
                given.tokens = sweep.expired.iter().map(|e| (e.job.id.clone(), e.job.token)).collect();
                given.more = sweep.more;
            }
            Reply::Mended { damaged } => given.damaged = *damaged,
            Reply::Standing(standing) => given.ahead = standing.as_ref().map(|standing| standing.ahead),
            Reply::Configured(Configured::Applied { version }) => given.version = Some(*version),
            _ => {}
        }
        given
    }

    /// The same, with the groups that the library chose for `Model::open_jobs`.
    #[must_use]
    pub fn with_groups(mut self, groups: BTreeMap<String, String>) -> Self {
        self.groups = groups;
        self
    }

    /// The same, with those of `Model::unsure_classes` that the library has forgotten.
    #[must_use]
    pub fn with_forgotten(mut self, keys: BTreeSet<(String, String)>) -> Self {
        self.forgotten = keys;
        self
    }
}
