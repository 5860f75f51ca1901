//! Deployments as a [`Platform`].
//!
//! Only `/scale` is written, as field manager `lanekeeper/autoscaler` and with the resource version the decision saw; the
//! reconciler applies the Deployment without `replicas`, so the two never fight. Before replicas go, idle
//! pods get a lower `pod-deletion-cost`, so that the ReplicaSet takes them first. Pods that are busy
//! get the time they need by their grace period in any case.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client};
use serde_json::json;
use tracing::debug;

use super::call::{CallError, call};
use super::{names, pods};
use crate::platform::{Observed, Platform, PlatformError, PoolRef, Problem, ProblemKind, Scale, Scaled};

/// Cost of a pod that should go first. Others have none, which counts as 0.
const IDLE_COST: &str = "-2147483000";
/// Time a Pod usually takes from being created to its first heartbeat.
const STARTUP_PRIOR_MS: u64 = 10_000;

/// Deployments, seen through caches.
pub struct Kubernetes {
    client: Client,
    deployments: Store<Deployment>,
    pods: Store<Pod>,
    /// Writes that the cache may not show yet.
    written: Mutex<HashMap<PoolRef, Written>>,
}

/// A write to `/scale`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Written {
    /// Versions of the Deployment before it that the cache may still show.
    over: Vec<Option<String>>,
    /// Version after it.
    version: Option<String>,
    replicas: u32,
}

impl Kubernetes {
    /// A platform over these caches.
    #[must_use]
    pub fn new(client: Client, deployments: Store<Deployment>, pods: Store<Pod>) -> Self {
        Self { client, deployments, pods, written: Mutex::default() }
    }

    fn deployment(&self, pool: &PoolRef) -> Option<Arc<Deployment>> {
        let name = names::deployment(&pool.name);
        self.deployments.get(&ObjectRef::new(&name).within(&pool.namespace))
    }

    fn pods_of(&self, pool: &PoolRef) -> Vec<Arc<Pod>> {
        let label = names::pool_label(&pool.name);
        self.pods.state_filter(|pod| {
            pod.metadata.namespace.as_deref() == Some(&pool.namespace)
                && pod.metadata.labels.as_ref().and_then(|l| l.get(names::POOL_LABEL)) == Some(&label)
        })
    }

    /// What the caches show of a pool; `None` while it has no Deployment.
    #[must_use]
    pub fn view(&self, pool: &PoolRef) -> Option<Observed> {
        let deployment = self.deployment(pool)?;
        let pods = self.pods_of(pool);
        let seen = observed(&deployment, &pods::summarise(pods.iter().map(AsRef::as_ref)));
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let (seen, caught_up) = with_write(seen, written.get(pool));
        if caught_up {
            written.remove(pool);
        }
        Some(seen)
    }

    /// Marks idle pods as the first to go, and takes the mark from those that are busy again.
    async fn mark(&self, pool: &PoolRef, idle: &[String]) -> Result<(), CallError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pool.namespace);
        for (pod, mark) in marks(&self.pods_of(pool), idle) {
            let value = if mark { json!(IDLE_COST) } else { json!(null) };
            let patch = json!({"metadata": {"annotations": {names::DELETION_COST: value}}});
            let params =
                PatchParams { field_manager: Some(names::AUTOSCALER.to_owned()), ..PatchParams::default() };
            let done =
                call(format!("mark pod {pod} for scaling"), api.patch(&pod, &params, &Patch::Merge(&patch)))
                    .await;
            match done {
                Err(error) if error.is_not_found() => {}
                other => drop(other?),
            }
        }
        Ok(())
    }

    async fn write_scale(&self, pool: &PoolRef, scale: &Scale) -> Result<Scaled, CallError> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &pool.namespace);
        let name = names::deployment(&pool.name);
        let patch = json!({"metadata": {"resourceVersion": scale.version}, "spec": {"replicas": scale.to}});
        let params =
            PatchParams { field_manager: Some(names::AUTOSCALER.to_owned()), ..PatchParams::default() };
        let doing = format!("scale deployment {}/{name} to {}", pool.namespace, scale.to);
        match call(doing, api.patch_scale(&name, &params, &Patch::Merge(&patch))).await {
            Ok(after) => {
                let version = after.metadata.resource_version;
                let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
                let mut over = written.remove(pool).map(|earlier| earlier.over).unwrap_or_default();
                over.push(scale.version.clone());
                written.insert(pool.clone(), Written { over, version, replicas: scale.to });
                Ok(Scaled::Done)
            }
            Err(error) if error.is_conflict() => Ok(Scaled::Conflict),
            Err(error) => Err(error),
        }
    }
}

/// A pool from its Deployment and its pods. Pure.
fn observed(deployment: &Deployment, summary: &pods::Summary) -> Observed {
    let spec_replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    Observed {
        replicas: u32::try_from(spec_replicas).unwrap_or(0),
        ready: summary.ready,
        terminating: summary.terminating,
        problems: cannot_create(deployment).into_iter().chain(summary.problems.iter().cloned()).collect(),
        version: deployment.metadata.resource_version.clone(),
    }
}

/// Why no Pod can be made at all (a quota, an admission policy), in the words of whoever refuses.
fn cannot_create(deployment: &Deployment) -> Option<Problem> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let failure = conditions.iter().find(|c| c.type_ == "ReplicaFailure" && c.status == "True")?;
    Some(Problem {
        worker: "(none made)".to_owned(),
        kind: ProblemKind::CannotStart,
        message: failure.message.clone().unwrap_or_default(),
    })
}

/// What the cache shows, corrected by a write it does not show yet: the next decision must see the last. The flag says
/// that the cache shows it by now, or something newer. Pure.
fn with_write(seen: Observed, written: Option<&Written>) -> (Observed, bool) {
    match written {
        Some(write) if write.over.contains(&seen.version) => {
            (Observed { replicas: write.replicas, version: write.version.clone(), ..seen }, false)
        }
        Some(_) => (seen, true),
        None => (seen, false),
    }
}

/// The pods whose mark must change: `true` to set it, `false` to take it away. Pure.
fn marks(pods: &[Arc<Pod>], idle: &[String]) -> Vec<(String, bool)> {
    pods.iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter_map(|pod| {
            let name = pod.metadata.name.clone()?;
            let cost = pod.metadata.annotations.as_ref().and_then(|a| a.get(names::DELETION_COST));
            let marked = cost.is_some_and(|cost| cost == IDLE_COST);
            let wanted = idle.contains(&name);
            (marked != wanted).then_some((name, wanted))
        })
        .collect()
}

impl Platform for Kubernetes {
    async fn observe(&self, pool: &PoolRef) -> Result<Observed, PlatformError> {
        self.view(pool).ok_or_else(|| PlatformError::NoSuchPool(pool.clone()))
    }

    async fn scale(&self, pool: &PoolRef, scale: &Scale) -> Result<Scaled, PlatformError> {
        let failed = |source: CallError| PlatformError::Failed {
            doing: "scale",
            pool: pool.clone(),
            source: source.into(),
        };
        let current = self.view(pool).ok_or_else(|| PlatformError::NoSuchPool(pool.clone()))?;
        if current.replicas != scale.from || (scale.version.is_some() && current.version != scale.version) {
            return Ok(Scaled::Conflict);
        }
        if scale.to < scale.from {
            self.mark(pool, &scale.idle).await.map_err(failed)?;
        }
        // Always with a version: the one that was decided on, or the one that was just compared.
        let exact = Scale { version: current.version, ..scale.clone() };
        let scaled = self.write_scale(pool, &exact).await.map_err(failed)?;
        debug!(%pool, from = scale.from, to = scale.to, ?scaled, "scale");
        Ok(scaled)
    }

    fn startup_prior_ms(&self) -> u64 {
        STARTUP_PRIOR_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, cost: Option<&str>) -> Arc<Pod> {
        let annotations = cost.map(|cost| json!({names::DELETION_COST: cost}));
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name, "annotations": annotations}})).unwrap(),
        )
    }

    #[test]
    fn only_marks_that_differ_are_written() {
        let pods = [
            pod("idle", None),
            pod("marked", Some(IDLE_COST)),
            pod("busy", None),
            pod("was", Some(IDLE_COST)),
        ];
        let changes = marks(&pods, &["idle".to_owned(), "marked".to_owned()]);
        assert_eq!(changes, [("idle".to_owned(), true), ("was".to_owned(), false)]);
    }

    #[test]
    fn a_cost_that_someone_else_set_is_left_alone() {
        assert_eq!(marks(&[pod("theirs", Some("100"))], &[]), []);
    }

    #[test]
    fn a_write_shows_before_the_cache_has_it_and_gives_way_to_what_is_newer() {
        let at = |version: &str, replicas| Observed {
            replicas,
            version: Some(version.to_owned()),
            ..Observed::default()
        };
        let over = vec![Some("6".to_owned()), Some("7".to_owned())];
        let write = Written { over, version: Some("8".to_owned()), replicas: 5 };
        assert_eq!(with_write(at("6", 0), Some(&write)), (at("8", 5), false), "two writes behind");
        assert_eq!(with_write(at("7", 1), Some(&write)), (at("8", 5), false));
        assert_eq!(with_write(at("8", 5), Some(&write)), (at("8", 5), true));
        assert_eq!(with_write(at("9", 2), Some(&write)), (at("9", 2), true));
        assert_eq!(with_write(at("9", 2), None), (at("9", 2), false));
    }

    #[test]
    fn a_quota_that_refuses_pods_is_a_problem() {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "p"},
            "status": {"conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
                "message": "pods \"p-1\" is forbidden: exceeded quota"}]}
        }))
        .unwrap();
        let problems = observed(&deployment, &pods::Summary::default()).problems;
        assert_eq!(problems[0].kind, ProblemKind::CannotStart);
        assert!(problems[0].message.contains("exceeded quota"));
    }

    #[test]
    fn an_observation_carries_the_version_it_was_read_at() {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "p", "resourceVersion": "7"},
            "spec": {"replicas": 3, "selector": {}, "template": {}}
        }))
        .unwrap();
        let seen = observed(&deployment, &pods::Summary { ready: 2, ..Default::default() });
        assert_eq!((seen.replicas, seen.ready, seen.version.as_deref()), (3, 2, Some("7")));
    }
}
