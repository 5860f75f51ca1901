//! One test per cause: what they share.

mod gates;
mod jobs;
mod lanes;
mod pools;

use std::collections::BTreeMap;

use super::*;
use crate::types::{
    Attempt, AttemptError, DeadReason, ErrorClass, Job, JobState, LaneStats, Lease, Position, WorkerIdentity,
};
use lanekeeper_api::policy::{LanePolicy, Source};

const NOW: u64 = 1_000_000_000;

/// A queue with one waiting job in lane `fast` and no workers.
struct World {
    policy: QueuePolicy,
    stats: Stats,
    pools: Option<Vec<PoolView>>,
}

impl World {
    fn new() -> Self {
        let policy = QueuePolicy {
            queue: "apps/saas".into(),
            source: Source { owner: "cli".into(), uid: "local".into(), created_ms: 1, generation: 1 },
            paused: false,
            closed: None,
            max_payload: 1,
            capacity: None,
            lease_ms: 15_000,
            lanes: vec![LanePolicy::new("fast", 10_000)],
            job_types: BTreeMap::new(),
        };
        let mail = TypeStats {
            name: "mail".into(),
            ready: 1,
            oldest_due_ms: Some(NOW - 5_000),
            ..TypeStats::default()
        };
        let stats = Stats {
            now_ms: NOW,
            lanes: vec![LaneStats { name: "fast".into(), types: vec![mail] }],
            ..Stats::default()
        };
        Self { policy, stats, pools: Some(vec![]) }
    }

    fn pool(mut self, desired: u32, ready: u32) -> Self {
        self.pools.get_or_insert_default().push(PoolView {
            name: "interactive".into(),
            lanes: vec!["fast".into()],
            desired,
            replicas: ready,
            ready,
            max: 2,
            reason: "Backlog".into(),
            pods: vec![],
        });
        self
    }

    fn pod(mut self, problem: PodProblem, message: &str) -> Self {
        let pool = self.pools.as_mut().and_then(|pools| pools.last_mut()).expect("a pool");
        pool.pods.push(PodView {
            name: "interactive-x".into(),
            problem: Some(problem),
            message: message.into(),
        });
        self
    }

    /// A worker of ten slots; what keeps them busy are jobs of lane `fast`.
    fn worker(mut self, busy: u32) -> Self {
        self.stats.lanes[0].types[0].running += u64::from(busy);
        self.stats.workers.push(WorkerInfo {
            identity: WorkerIdentity {
                name: "w".into(),
                boot: "b".into(),
                pool: "interactive".into(),
                node: "n1".into(),
            },
            lanes: vec!["fast".into()],
            slots: 10,
            busy,
            draining: false,
            seen_ms: NOW,
            started_ms: NOW,
        });
        self
    }

    fn scene(&self) -> Scene<'_> {
        Scene { policy: &self.policy, stats: &self.stats, pools: self.pools.as_deref() }
    }

    /// Explains the job; all of the words have to be in the answer.
    fn says(&self, job: &Job, ahead: u64, cause: Cause, words: &[&str]) {
        let place = Some(Position { ahead, waiting: 9 }).filter(|_| job.state == JobState::Ready);
        let place = Place { position: place, key: None };
        expect(&super::job(&job.id, Some(job), &place, &self.scene()), cause, words);
    }
}

fn expect(found: &Explanation, cause: Cause, words: &[&str]) {
    assert_eq!(found.cause, cause, "{found:?}");
    let text =
        format!("{} {} {}", found.sentence, found.advice.clone().unwrap_or_default(), found.also.join(" "));
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
}

fn job(state: JobState) -> Job {
    Job {
        id: "J1".into(),
        job_type: "mail".into(),
        lane: Some("fast".into()),
        state,
        priority: 5,
        enqueued_ms: NOW - 60_000,
        due_ms: NOW - 5_000,
        finished_ms: None,
        tries: 0,
        crashes: 0,
        attempts: 0,
        key: None,
        meta: BTreeMap::new(),
        progress: None,
        checkpoint: None,
        lease: None,
        dead_reason: None,
        history: vec![],
        history_dropped: 0,
        payload_bytes: 0,
        result: None,
        payload: None,
        fingerprint: None,
        review: None,
        original_bytes: None,
        original: None,
    }
}

fn attempt(outcome: &str, message: &str) -> Attempt {
    Attempt {
        number: 1,
        started_ms: NOW,
        ended_ms: NOW,
        worker: "w".into(),
        node: "n1".into(),
        token: u64::from(!matches!(outcome, "acknowledge" | "discard" | "replay")),
        policy_version: 1,
        outcome: outcome.into(),
        error: Some(AttemptError {
            class: ErrorClass::Transient,
            code: "HttpStatus".into(),
            message: message.into(),
        }),
    }
}
