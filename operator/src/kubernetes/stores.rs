//! Caches of what is watched: one watch per kind, whose changes wake the reconcilers.
//!
//! Custom resources are read through a guard: an object that does not fit the types is one bad object, not a watch
//! that stops for all of them.

use std::fmt::Debug;
use std::hash::Hash;

use futures::channel::mpsc;
use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::core::DeserializeGuard;
use kube::runtime::predicates;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{Predicate, PredicateConfig, WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use lanekeeper_api::job_queue::JobQueue;
use lanekeeper_api::worker_pool::WorkerPool;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::names;

/// A JobQueue, or what is left of one that does not fit the type.
pub type AnyQueue = DeserializeGuard<JobQueue>;
/// A WorkerPool, or what is left of one that does not fit the type.
pub type AnyPool = DeserializeGuard<WorkerPool>;

/// Wakes a reconciler for one object.
pub type Wake<K> = mpsc::UnboundedSender<ObjectRef<K>>;

/// Which namespaces an operator works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    All,
    /// One.
    Namespace(String),
}

impl Scope {
    /// The API of a kind within the scope.
    #[must_use]
    pub fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        match self {
            Self::All => Api::all(client.clone()),
            Self::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }
}

/// The caches.
#[derive(Clone)]
pub struct Stores {
    /// JobQueues.
    pub queues: Store<AnyQueue>,
    /// WorkerPools.
    pub pools: Store<AnyPool>,
    /// Deployments the operator made.
    pub deployments: Store<Deployment>,
    /// Pods of those, stripped to what is read of them.
    pub pods: Store<Pod>,
}

/// What a change wakes.
#[derive(Clone)]
pub struct Wakes {
    /// The JobQueue reconciler.
    pub queues: Wake<AnyQueue>,
    /// The WorkerPool reconciler.
    pub pools: Wake<AnyPool>,
}

impl Stores {
    /// Starts the watches of a scope; they end when `stop` is cancelled.
    #[must_use]
    pub fn start(client: &Client, scope: &Scope, wakes: &Wakes, stop: &CancellationToken) -> Self {
        let (queues, queue_writer) = reflector::store();
        let (pools, pool_writer) = reflector::store();
        let (deployments, deployment_writer) = reflector::store();
        let (pods, pod_writer) = reflector::store();
        let ours = watcher::Config::default().labels(names::MANAGED_SELECTOR);

        let stream =
            queue_changes(watch(scope.api::<AnyQueue>(client), watcher::Config::default()), queue_writer);
        spawn("JobQueues", stream, stop, {
            let (wakes, pools) = (wakes.clone(), pools.clone());
            move |queue: &AnyQueue| {
                send(&wakes.queues, ObjectRef::from_obj(queue));
                wake_pools_of(queue, &pools, &wakes.pools);
            }
        });
        let stream =
            own_changes(watch(scope.api::<AnyPool>(client), watcher::Config::default()), pool_writer);
        spawn("WorkerPools", stream, stop, {
            let wakes = wakes.clone();
            move |pool: &AnyPool| send(&wakes.pools, ObjectRef::from_obj(pool))
        });
        let stream = watch(scope.api::<Deployment>(client), ours.clone())
            .modify(|deployment| {
                deployment.managed_fields_mut().clear();
                deployment.annotations_mut().clear();
            })
            .reflect(deployment_writer)
            .touched_objects()
            .predicate_filter(predicates::resource_version, PredicateConfig::default());
        spawn("Deployments", stream, stop, {
            let wakes = wakes.clone();
            move |deployment: &Deployment| {
                if let Some(pool) = owning_pool(deployment) {
                    send(&wakes.pools, pool);
                }
            }
        });
        let stream =
            watch(scope.api::<Pod>(client), ours).modify(strip).reflect(pod_writer).touched_objects();
        spawn("Pods", stream, stop, |_: &Pod| {});
        Self { queues, pools, deployments, pods }
    }

    /// Waits until every cache has been filled once.
    ///
    /// # Errors
    /// When a watch ended before.
    pub async fn filled(&self) -> Result<(), reflector::store::WriterDropped> {
        self.queues.wait_until_ready().await?;
        self.pools.wait_until_ready().await?;
        self.deployments.wait_until_ready().await?;
        self.pods.wait_until_ready().await
    }
}

fn watch<K>(
    api: Api<K>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watcher(api, config).default_backoff()
}

/// Changes that matter to a reconciler of the object itself: not its status, which the reconciler writes.
fn own_changes<K>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send,
    writer: reflector::store::Writer<K>,
) -> impl Stream<Item = watcher::Result<K>> + Send
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    let matters = predicates::generation.combine(predicates::finalizers).combine(predicates::annotations);
    events
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer)
        .touched_objects()
        .predicate_filter(matters, PredicateConfig::default())
}

/// As [`own_changes`]; a queue that became ready, or no longer is, matters to its pools too.
fn queue_changes(
    events: impl Stream<Item = watcher::Result<watcher::Event<AnyQueue>>> + Send,
    writer: reflector::store::Writer<AnyQueue>,
) -> impl Stream<Item = watcher::Result<AnyQueue>> + Send {
    let matters = predicates::generation
        .combine(predicates::finalizers)
        .combine(predicates::annotations)
        .combine(readiness);
    events
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer)
        .touched_objects()
        .predicate_filter(matters, PredicateConfig::default())
}

fn readiness(queue: &AnyQueue) -> Option<u64> {
    let ready = queue.0.as_ref().ok()?.condition(super::conditions::kind::READY)?;
    let said = format!("{}/{}", ready.status, ready.reason);
    u64::from_str_radix(&names::checksum(said.as_bytes()), 16).ok()
}

/// Runs a watch until stopped. Errors are retried by the watcher itself, with back-off.
fn spawn<K, S>(
    kind: &'static str,
    stream: S,
    stop: &CancellationToken,
    mut touched: impl FnMut(&K) + Send + 'static,
) where
    K: Send + 'static,
    S: Stream<Item = watcher::Result<K>> + Send + 'static,
{
    let stop = stop.clone();
    tokio::spawn(async move {
        let mut stream = std::pin::pin!(stream.take_until(stop.cancelled_owned()));
        while let Some(item) = stream.next().await {
            match item {
                Ok(object) => touched(&object),
                Err(error) => warn!(kind, %error, "watch interrupted"),
            }
        }
    });
}

/// A closed channel means that the reconciler is stopping.
fn send<K>(wake: &Wake<K>, object: ObjectRef<K>)
where
    K: Resource,
    K::DynamicType: Hash + Eq,
{
    drop(wake.unbounded_send(object));
}

fn wake_pools_of(queue: &AnyQueue, pools: &Store<AnyPool>, wake: &Wake<AnyPool>) {
    let (namespace, name) = (queue.namespace(), queue.name_any());
    let theirs = pools.state_filter(|pool| {
        pool.namespace() == namespace && pool.0.as_ref().is_ok_and(|pool| pool.spec.queue == name)
    });
    for pool in theirs {
        send(wake, ObjectRef::from_obj(pool.as_ref()));
    }
}

fn owning_pool(deployment: &Deployment) -> Option<ObjectRef<AnyPool>> {
    let owner = deployment.owner_references().iter().find(|owner| owner.controller == Some(true))?;
    (owner.kind == "WorkerPool")
        .then(|| ObjectRef::new(&owner.name).within(&deployment.namespace().unwrap_or_default()))
}

/// Keeps what is read of a pod: a large cluster's caches should not hold its specs.
fn strip(pod: &mut Pod) {
    pod.managed_fields_mut().clear();
    let node_name = pod.spec.take().and_then(|spec| spec.node_name);
    pod.spec = Some(PodSpec { node_name, ..PodSpec::default() });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_deployment_wakes_the_pool_that_controls_it() {
        let deployment: Deployment = serde_json::from_value(json!({"metadata": {
            "name": "d", "namespace": "apps", "ownerReferences": [
                {"apiVersion": "x/v1", "kind": "Other", "name": "o", "uid": "1"},
                {"apiVersion": "lanekeeper.dev/v1beta1", "kind": "WorkerPool", "name": "p", "uid": "2", "controller": true}
            ]}}))
        .unwrap();
        let pool = owning_pool(&deployment).unwrap();
        assert_eq!((pool.name.as_str(), pool.namespace.as_deref()), ("p", Some("apps")));
    }

    #[test]
    fn a_stripped_pod_keeps_its_node() {
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "managedFields": [{"manager": "m"}]},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}
        }))
        .unwrap();
        strip(&mut pod);
        let spec = pod.spec.unwrap();
        assert_eq!(spec.node_name.as_deref(), Some("n"));
        assert!(spec.containers.is_empty());
    }
}
