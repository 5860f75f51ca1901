//! Who goes first within a lane.

use lanekeeper_api::policy::LanePolicy;

use super::state::Job;

/// The order within a lane, over all of its types. Ties go by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// By priority, then by due time.
    #[default]
    Strict,
    /// By due time plus a step per priority: ten times the lane's promise, at least 10 min and at most 1 h. So a job of a
    /// low priority waits, but not for ever.
    Ageing,
}

const MIN_STEP_MS: u64 = 600_000;
const MAX_STEP_MS: u64 = 3_600_000;

impl Order {
    /// What jobs of a lane are sorted by, before their ids; `lane` is absent where no lane claims the type.
    pub(super) fn rank(self, job: &Job, lane: Option<&LanePolicy>) -> (u64, u64) {
        let priority = u64::from(job.priority);
        match (self, lane) {
            (Self::Ageing, Some(lane)) => {
                let step = lane.start_within_ms.saturating_mul(10).clamp(MIN_STEP_MS, MAX_STEP_MS);
                (job.line_ms + priority * step, 0)
            }
            _ => (priority, job.line_ms),
        }
    }
}
