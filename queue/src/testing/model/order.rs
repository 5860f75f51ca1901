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

#[cfg(test)]
mod tests {
    use lanekeeper_api::policy::{LanePolicy, QueuePolicy, Source};

    use super::super::{Given, Model, Op, Order, Reply};
    use crate::types::{
        ClaimRequest, Configured, EnqueueOptions, Enqueued, JobState, NewJob, WorkerIdentity,
    };

    fn policy() -> QueuePolicy {
        let job_type = crate::retry::tests::policy(crate::retry::tests::exponential(
            1,
            1.0,
            1,
            lanekeeper_api::policy::Jitter::None,
        ));
        QueuePolicy {
            queue: "a/b".into(),
            source: Source { owner: "cli".into(), uid: "u".into(), created_ms: 1, generation: 1 },
            paused: false,
            closed: None,
            max_payload: 10,
            capacity: None,
            lease_ms: 1_000,
            lanes: vec![LanePolicy::new("l", 90_000)],
            job_types: [("t".to_owned(), job_type)].into(),
        }
    }

    /// Ids in the order of one claim; jobs are (id, priority, minute of the enqueue).
    fn claimed(order: Order, jobs: &[(&str, u8, u64)]) -> Vec<String> {
        let mut model = Model::new(order);
        let applied = Given::of(&Reply::Configured(Configured::Applied { version: 1 }));
        model.apply(&Op::Configure { policy: Box::new(policy()), adopt: false }, 0, &applied);
        for (id, priority, minute) in jobs {
            let options = EnqueueOptions {
                job_type: "t".into(),
                id: Some((*id).into()),
                priority: Some(*priority),
                ..EnqueueOptions::default()
            };
            let reply = model.apply(
                &Op::Enqueue(vec![NewJob { payload: vec![], options }]),
                minute * 60_000_000,
                &Given::default(),
            );
            let accepted = Enqueued::Accepted { id: (*id).into(), state: JobState::Ready };
            assert_eq!(reply, Reply::Enqueued(vec![accepted]));
        }
        let worker =
            WorkerIdentity { name: "w".into(), boot: "b".into(), pool: String::new(), node: String::new() };
        let want = ClaimRequest { slots: 9, lanes: vec!["l".into()], ..ClaimRequest::default() };
        let work = Op::Work { worker, done: vec![], want };
        let Reply::Worked(_, claim) = model.apply(&work, 1_000 * 60_000_000, &Given::default()) else {
            panic!()
        };
        claim.jobs.into_iter().map(|job| job.id).collect()
    }

    #[test]
    fn with_ageing_a_priority_is_worth_ten_promises_of_waiting() {
        // A step is 15 min here.
        let jobs = [("low", 2, 0), ("b-tie", 0, 30), ("a-tie", 1, 15), ("late", 0, 31), ("early", 0, 29)];
        assert_eq!(claimed(Order::Ageing, &jobs), ["early", "a-tie", "b-tie", "low", "late"]);
        assert_eq!(claimed(Order::Strict, &jobs), ["early", "b-tie", "late", "a-tie", "low"]);
    }
}
