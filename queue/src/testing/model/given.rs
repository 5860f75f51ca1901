//! What the library is free to choose, read from its reply.

use std::collections::BTreeMap;

use super::reply::Reply;
use crate::types::{Configured, Enqueued};

/// Choices of the library in one reply.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Of accepted jobs, by place in the call.
    pub(super) ids: Vec<Option<String>>,
    /// Of new leases, by job.
    pub(super) tokens: BTreeMap<String, u64>,
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
            Reply::Worked(_, claim) => {
                given.tokens = claim.jobs.iter().map(|job| (job.id.clone(), job.token)).collect();
            }
            Reply::Swept(sweep) => {
                given.tokens = sweep.expired.iter().map(|e| (e.job.id.clone(), e.job.token)).collect();
                given.more = sweep.more;
            }
            Reply::Configured(Configured::Applied { version }) => given.version = Some(*version),
            _ => {}
        }
        given
    }
}
