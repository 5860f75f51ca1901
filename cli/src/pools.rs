//! What is known of the pools of a queue, wherever it runs.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use lanekeeper_api::worker_pool::WorkerPool;
use lanekeeper_operator::kubernetes::{names, pods};

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
    let ready = pool.condition("Ready");
    let number = |n: Option<i32>| n.and_then(|n| u32::try_from(n).ok()).unwrap_or_default();
    let mut problems: Vec<String> = summary
        .problems
        .iter()
        .map(|p| format!("pod {}: {}: {}", p.worker, p.kind.as_str(), p.message))
        .collect();
    problems.extend(ready.filter(|c| c.status == "False").map(|c| format!("{}: {}", c.reason, c.message)));
    Ok(PoolState {
        queue: pool.queue_name(),
        lanes: pool.spec.lanes.iter().map(|lane| lane.name.clone()).collect(),
        replicas: number(Some(status.replicas)),
        ready: summary.ready,
        desired: number(status.desired),
        max: number(Some(pool.spec.scaling.max_replicas)),
        busy: status.busy.unwrap_or_default(),
        reason: status.reason.unwrap_or_default(),
        message: pool.condition("ScalingActive").map(|c| c.message.clone()).unwrap_or_default(),
        problems,
        workers: Vec::new(),
    })
}
