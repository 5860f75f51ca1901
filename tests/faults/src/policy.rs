//! The queue under test: one lane, one type, short leases so that a run sees many recoveries.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use lanekeeper_api::policy::{
    Backoff, Handler, HttpHandler, Jitter, JobTypePolicy, LanePolicy, QueuePolicy, Retention, RetryPolicy,
    Source,
};

/// Lease of the runs.
pub const LEASE_MS: u64 = 5_000;

/// The policy: handlers are called at `effects`.
#[must_use]
pub fn policy(effects: SocketAddr) -> QueuePolicy {
    let work = JobTypePolicy {
        key_for_ms: 60_000,
        timeout_ms: 30_000,
        retry: RetryPolicy {
            limit: 8,
            backoff: Backoff::Exponential { first_ms: 100, factor: 2.0, max_ms: 2_000 },
            jitter: Jitter::Full,
        },
        give_up_after_ms: 3_600_000,
        crash_budget: 20,
        // The ledger needs every record.
        completed: Retention { keep: 10_000_000, for_ms: 3_600_000 },
        ..JobTypePolicy::new("main", Handler::Http(HttpHandler::to(format!("http://{effects}/work"))))
    };
    QueuePolicy {
        queue: "faults/main".into(),
        source: Source { owner: "cli".into(), uid: "local".into(), created_ms: 0, generation: 1 },
        paused: false,
        closed: None,
        max_payload: 262_144,
        capacity: None,
        lease_ms: LEASE_MS,
        lanes: vec![LanePolicy::new("main", 10_000)],
        job_types: BTreeMap::from([("work".into(), work)]),
    }
}
