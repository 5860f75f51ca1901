//! What is known of the pools of a queue, wherever it runs.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use lanekeeper_api::worker_pool::{ScalingMode, WorkerPool};
use lanekeeper_operator::kubernetes::{names, pods};
use lanekeeper_operator::platform::{Problem, ProblemKind};
use lanekeeper_queue::explain::{PodProblem, PodView, PoolView};

use crate::failure::Result;
use crate::local::state::PoolState;
use crate::target::kubernetes::Cluster;
use crate::target::{Opened, Target};

/// Pools by `namespace/name`; absent when nothing can be known (a Redis named by hand).
pub(crate) async fn gather(opened: &Opened) -> Result<Option<BTreeMap<String, PoolState>>> {
    let queue = opened.queue.name().to_string();
    match &opened.target {
        Target::Redis(_) => Ok(None),
        Target::Local(up) => {
            let pools = up.pools.iter().filter(|(_, pool)| pool.queue == queue);
            Ok(Some(pools.map(|(name, pool)| (name.clone(), pool.clone())).collect()))
        }
        Target::Kubernetes(cluster) => {
            let mut pools = BTreeMap::new();
            for pool in cluster.pools_of(opened.queue.name()).await? {
                pools.insert(pool.pool_name(), of_cluster(cluster, &pool).await?);
            }
            Ok(Some(pools))
        }
    }
}

async fn of_cluster(cluster: &Cluster, pool: &WorkerPool) -> Result<PoolState> {
    let name = pool.metadata.name.clone().unwrap_or_default();
    let namespace = pool.metadata.namespace.clone().unwrap_or_else(|| cluster.namespace().to_owned());
    let api: Api<Pod> = Api::namespaced(cluster.client().clone(), &namespace);
    let selector = format!("{}={}", names::POOL_LABEL, names::pool_label(&name));
    let list = api.list(&ListParams::default().labels(&selector)).await;
    let list = list.map_err(|error| {
        cluster.failure(&format!("list the pods of WorkerPool {namespace}/{name}"), &error)
    })?;
    let summary = pods::summarise(&list.items);
    let status = pool.status.clone().unwrap_or_default();
    let number = |n: Option<i32>| n.and_then(|n| u32::try_from(n).ok()).unwrap_or_default();
    let max = match pool.spec.scaling.mode {
        ScalingMode::Auto => Some(pool.spec.scaling.max_replicas),
        ScalingMode::Manual => pool.spec.replicas,
    };
    Ok(PoolState {
        queue: pool.queue_name(),
        lanes: pool.spec.lanes.iter().map(|lane| lane.name.clone()).collect(),
        replicas: number(Some(status.replicas)),
        ready: summary.ready,
        desired: number(status.desired),
        max: number(max),
        busy: status.busy.unwrap_or_default(),
        reason: status.reason.unwrap_or_default(),
        message: message(pool),
        problems: summary.problems.iter().map(problem_view).collect(),
        workers: Vec::new(),
    })
}

/// What the operator says of a pool that is not ready, else of its scaling.
fn message(pool: &WorkerPool) -> String {
    let not_ready = pool.condition("Ready").filter(|condition| condition.status == "False");
    let said = not_ready.or_else(|| pool.condition("ScalingActive"));
    said.map(|condition| format!("{}: {}", condition.reason, condition.message)).unwrap_or_default()
}

/// A problem in the words of `explain`.
pub(crate) fn problem_view(problem: &Problem) -> PodView {
    let kind = match problem.kind {
        ProblemKind::Unschedulable => PodProblem::Unschedulable,
        ProblemKind::ImagePull => PodProblem::ImagePull,
        ProblemKind::CannotStart => PodProblem::Config,
        ProblemKind::CrashLoop => PodProblem::CrashLoop,
    };
    PodView { name: problem.worker.clone(), problem: Some(kind), message: problem.message.clone() }
}

/// A pool in the words of `explain`, where it goes by its plain name.
pub(crate) fn view(name: &str, pool: &PoolState) -> PoolView {
    PoolView {
        name: plain(name).to_owned(),
        lanes: pool.lanes.clone(),
        desired: pool.desired,
        replicas: pool.replicas,
        ready: pool.ready,
        max: pool.max,
        reason: pool.reason.clone(),
        pods: pool.problems.clone(),
    }
}

/// The name without its namespace: pools and their queue share that.
pub(crate) fn plain(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, plain)| plain)
}
