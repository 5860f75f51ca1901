//! Turns a WorkerPool and what it refers to into the one struct that everything is built from. No client.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::Resource;
use lanekeeper_api::policy::{QueuePolicy, SecretKey};
use lanekeeper_api::validate::{self, PoolPlan};
use lanekeeper_api::worker_pool::{ScalingMode, WorkerPool};

use super::build::{Credentials, ValidatedPool, WorkerImage};
use crate::job_queue::validate::Invalid;

/// The pool by itself.
///
/// # Errors
/// When the spec cannot work.
pub fn plan(pool: &WorkerPool) -> Result<PoolPlan, Invalid> {
    validate::worker_pool(pool).map_err(|problems| Invalid::new(&problems))
}

/// The pool with its queue.
///
/// # Errors
/// When it names a lane that the queue does not have.
pub fn against(plan: &PoolPlan, policy: &QueuePolicy) -> Result<(), Invalid> {
    validate::pool_against(plan, policy).map_err(|problems| Invalid::new(&problems))
}

/// Everything that decides how the pool's objects look.
#[must_use]
pub fn validated(
    pool: &WorkerPool,
    plan: &PoolPlan,
    policy: &QueuePolicy,
    credentials: Credentials,
    signing: &BTreeSet<SecretKey>,
    worker_image: &WorkerImage,
) -> ValidatedPool {
    ValidatedPool {
        namespace: plan.namespace.clone(),
        name: plan.name.clone(),
        owner: pool.controller_owner_ref(&()).unwrap_or_default(),
        queue: pool.spec.queue.clone(),
        lanes: plan.worker_lanes(),
        order: plan.order,
        concurrency: plan.concurrency,
        drain_timeout: Duration::from_millis(plan.drain_timeout_ms(policy)),
        max_replicas: most_replicas(plan),
        template: pool.spec.template.clone(),
        credentials,
        signing_secrets: signing.iter().map(|key| key.name.clone()).collect(),
        worker_image: worker_image.clone(),
    }
}

fn most_replicas(plan: &PoolPlan) -> u32 {
    match plan.scaling.mode {
        ScalingMode::Auto => plan.scaling.max,
        ScalingMode::Manual => plan.replicas,
    }
}
