//! Turns a JobQueue into the policy it means. No client.

use lanekeeper_api::job_queue::JobQueue;
use lanekeeper_api::policy::{QueuePolicy, Source};
use lanekeeper_api::validate::{self, Problem};

use crate::kubernetes::conditions::reason;
use crate::kubernetes::time::wall_ms_of;

/// Most problems that a message lists.
const SHOWN: usize = 5;

/// What is wrong with a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Named constant of the first problem.
    pub reason: &'static str,
    /// One sentence that names every field, up to five.
    pub message: String,
}

impl Invalid {
    /// From what validation found.
    #[must_use]
    pub fn new(problems: &[Problem]) -> Self {
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let reason = problems.first().map_or(reason::INVALID_SPEC, |problem| problem.reason);
        Self { reason, message: sentence(&all) }
    }
}

/// The policy, or what is wrong with the spec.
///
/// # Errors
/// When the spec cannot work.
pub fn validate(queue: &JobQueue, owner: &str) -> Result<QueuePolicy, Invalid> {
    validate::job_queue(queue, source(queue, owner)).map_err(|problems| Invalid::new(&problems))
}

/// Who manages the policy.
#[must_use]
pub fn source(queue: &JobQueue, owner: &str) -> Source {
    let metadata = &queue.metadata;
    Source {
        owner: owner.to_owned(),
        uid: metadata.uid.clone().unwrap_or_default(),
        created_ms: metadata.creation_timestamp.as_ref().map_or(0, wall_ms_of),
        generation: metadata.generation.unwrap_or(0),
    }
}

/// Problems in one sentence.
#[must_use]
pub fn sentence(problems: &[String]) -> String {
    let shown = problems.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("; ");
    match problems.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_of_problems_is_cut_and_counted() {
        let problems: Vec<String> = (0..7).map(|n| format!("p{n}")).collect();
        assert_eq!(sentence(&problems), "p0; p1; p2; p3; p4; and 2 more");
    }
}
