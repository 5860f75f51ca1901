//! The policy as the engine uses it: resolved handlers and figures per job type, replaced as a whole.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use lanekeeper_api::policy::{JobTypePolicy, QueuePolicy};

use super::Options;
use super::lanes::Lanes;
use crate::handler::{Handler, Handlers};
use crate::metrics::{Metrics, TypeMetrics};

/// One job type, ready to run.
pub(super) struct TypeEntry {
    pub(super) policy: JobTypePolicy,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) metrics: TypeMetrics,
}

/// One version of the policy.
pub(super) struct PolicyView {
    pub(super) version: u64,
    pub(super) lease: Duration,
    pub(super) types: HashMap<String, Arc<TypeEntry>>,
    /// `perWorker` of the types that have one.
    pub(super) limits: Vec<(String, u32)>,
    /// The worker's own lanes.
    pub(super) lanes: Arc<Lanes>,
}

impl PolicyView {
    pub(super) fn new(
        policy: QueuePolicy,
        version: u64,
        options: &Options,
        handlers: &dyn Handlers,
        metrics: &Metrics,
    ) -> Self {
        let lanes = Arc::new(Lanes::new(&options.lanes, &options.order, &policy.lanes));
        let lease = Duration::from_millis(policy.lease_ms);
        let types: HashMap<_, _> = policy
            .job_types
            .into_iter()
            .map(|(name, policy)| {
                let handler = handlers.handler(&name, &policy);
                let metrics = metrics.of_type(&name);
                (name, Arc::new(TypeEntry { policy, handler, metrics }))
            })
            .collect();
        let limits =
            types.iter().filter_map(|(name, t)| Some((name.clone(), t.policy.per_worker?))).collect();
        Self { version, lease, types, limits, lanes }
    }
}
