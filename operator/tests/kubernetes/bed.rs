//! A namespace, a Redis and an operator of one test's own.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::{Api, Client, Resource};
use lanekeeper_api::job_queue::JobQueue;
use lanekeeper_api::worker_pool::WorkerPool;
use lanekeeper_operator::kubernetes::context::{DefaultRedis, Settings};
use lanekeeper_operator::kubernetes::metrics::Telemetry;
use lanekeeper_operator::kubernetes::operator::{self, Options};
use lanekeeper_operator::kubernetes::stores::Scope;
use lanekeeper_operator::worker_pool::build::WorkerImage;
use lanekeeper_queue::testing::TestRedis;
use lanekeeper_queue::types::{EnqueueOptions, Enqueued, NewJob};
use lanekeeper_queue::{Queue, QueueName};
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::server::{Server, documents, resource_of, server};

/// Longest wait for something that should happen.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// Owner of the policies that a test's operators write.
pub(crate) const OWNER: &str = "kubernetes:test-cluster";

static COUNT: AtomicU32 = AtomicU32::new(0);

/// What a test works with.
pub(crate) struct Bed {
    pub(crate) namespace: String,
    pub(crate) client: Client,
    pub(crate) redis: TestRedis,
    pub(crate) server: &'static Server,
}

/// A running operator.
pub(crate) struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    /// Stops it and waits for its end.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        (&mut self.task).await.unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Bed {
    /// A bed with a Redis that persists; `None` where the tier is left out.
    pub(crate) async fn new(name: &str) -> Option<Self> {
        Self::with_redis(name, &[]).await
    }

    /// A bed whose Redis has more arguments.
    pub(crate) async fn with_redis(name: &str, arguments: &[&str]) -> Option<Self> {
        let server = server().await?;
        let namespace = format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let client = server.admin();
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let object = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        namespaces.create(&PostParams::default(), &object).await.unwrap();
        let redis = TestRedis::start_with(arguments).await.expect("redis-server is needed");
        Some(Self { namespace, client, redis, server })
    }

    /// Starts an operator on the bed's namespace, with the bed's Redis as the default one.
    pub(crate) async fn operator(&self, identity: &str) -> Running {
        self.operator_with(identity, Some(self.redis.url())).await
    }

    /// Starts an operator with another default Redis, or none.
    pub(crate) async fn operator_with(&self, identity: &str, url: Option<String>) -> Running {
        let options = Options {
            settings: Settings {
                owner: OWNER.to_owned(),
                default_redis: DefaultRedis { url, ..DefaultRedis::default() },
                worker_image: WorkerImage { image: "worker:test".to_owned(), pull_policy: None },
            },
            identity: identity.to_owned(),
            concurrency: 4,
            tick: Duration::from_millis(500),
        };
        let stop = CancellationToken::new();
        let (filled, ready) = tokio::sync::oneshot::channel();
        let running = operator::run(
            self.server.operator(),
            Scope::Namespace(self.namespace.clone()),
            options,
            Telemetry::new(&mut Registry::default()),
            stop.clone(),
            move || {
                let _ = filled.send(());
            },
        );
        let task = tokio::spawn(async move { running.await.unwrap() });
        ready.await.expect("the operator's caches are filled");
        Running { stop, task }
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Applies YAML documents, as `kubectl apply --server-side` with strict validation would.
    pub(crate) async fn apply(&self, yaml: &str) {
        self.try_apply(yaml).await.unwrap_or_else(|error| panic!("{error}\n{yaml}"));
    }

    /// As [`Self::apply`]; answers the refusal.
    pub(crate) async fn try_apply(&self, yaml: &str) -> Result<(), String> {
        for object in documents(yaml) {
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), &self.namespace, &resource_of(&object));
            let params = PatchParams {
                force: true,
                field_manager: Some("kubectl".to_owned()),
                field_validation: Some(kube::api::ValidationDirective::Strict),
                ..PatchParams::default()
            };
            let name = object.metadata.name.clone().unwrap();
            api.patch(&name, &params, &Patch::Apply(&object)).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    pub(crate) async fn queue_object(&self, name: &str) -> Option<JobQueue> {
        self.api::<JobQueue>().get_opt(name).await.unwrap()
    }

    pub(crate) async fn pool_object(&self, name: &str) -> Option<WorkerPool> {
        self.api::<WorkerPool>().get_opt(name).await.unwrap()
    }

    pub(crate) async fn deployment(&self, pool: &str) -> Option<Deployment> {
        self.api::<Deployment>().get_opt(&format!("{pool}-lanekeeper")).await.unwrap()
    }

    pub(crate) async fn replicas(&self, pool: &str) -> Option<i32> {
        self.deployment(pool).await?.spec?.replicas
    }

    pub(crate) async fn secret_value(&self, name: &str, key: &str) -> Option<String> {
        let secret = self.api::<Secret>().get_opt(name).await.unwrap()?;
        String::from_utf8(secret.data?.get(key)?.0.clone()).ok()
    }

    /// The bed's queue, past the operator.
    pub(crate) async fn queue(&self, name: &str) -> Queue {
        Queue::connect(&self.redis.options(), QueueName::new(&self.namespace, name)).await.unwrap()
    }

    /// Enqueues one job and expects it to be accepted.
    pub(crate) async fn enqueue(&self, queue: &str, job_type: &str) {
        let job = NewJob {
            payload: b"{}".to_vec(),
            options: EnqueueOptions { job_type: job_type.to_owned(), ..EnqueueOptions::default() },
        };
        let done = self.queue(queue).await.enqueue(&[job]).await.unwrap();
        assert!(matches!(done.as_slice(), [Enqueued::Accepted { .. }]), "{done:?}");
    }

    pub(crate) async fn delete<K>(&self, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        self.api::<K>().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Waits for a condition of a JobQueue or WorkerPool.
    pub(crate) async fn condition<K>(&self, name: &str, kind: &str, status: &str, reason: &str) -> Condition
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Debug
            + serde::Serialize,
    {
        let what = format!("{} {name}: {kind}={status} {reason}", K::kind(&()));
        eventually(&what, async || {
            let object = self.api::<K>().get_opt(name).await.unwrap();
            let value = serde_json::to_value(&object).unwrap();
            let conditions: Vec<Condition> =
                serde_json::from_value(value["status"]["conditions"].clone()).unwrap_or_default();
            let generation = value["metadata"]["generation"].as_i64();
            let found = conditions.iter().find(|c| {
                c.type_ == kind
                    && c.status == status
                    && c.reason == reason
                    && c.observed_generation == generation
            });
            found.cloned().ok_or(value["status"]["conditions"].to_string())
        })
        .await
    }

    /// Waits for an Event about an object.
    pub(crate) async fn event(&self, name: &str, reason: &str) -> Event {
        self.event_saying(name, reason, "").await
    }

    /// Waits for an Event about an object whose note has these words.
    pub(crate) async fn event_saying(&self, name: &str, reason: &str, words: &str) -> Event {
        eventually(&format!("Event {reason} about {name}"), async || {
            let events = self.api::<Event>().list(&ListParams::default()).await.unwrap().items;
            let about = |event: &Event| {
                event.regarding.as_ref().and_then(|r| r.name.as_deref()) == Some(name)
                    && event.reason.as_deref() == Some(reason)
                    && event.note.as_deref().unwrap_or_default().contains(words)
            };
            let all: Vec<_> = events.iter().map(|event| event.reason.clone()).collect();
            events.iter().find(|event| about(event)).cloned().ok_or(format!("{all:?}"))
        })
        .await
    }
}

/// Waits until `look` answers `Ok`; what it answered last is shown where it does not in time.
pub(crate) async fn eventually<T, E: Debug>(what: &str, mut look: impl AsyncFnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        match look().await {
            Ok(value) => return value,
            Err(last) if Instant::now() > deadline => panic!("{what}: not within {SOON:?}; last: {last:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// `Ok` where it holds.
pub(crate) fn when(holds: bool, otherwise: impl Debug) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("{otherwise:?}")) }
}

/// A merge patch of an object's spec or metadata by a person.
pub(crate) async fn edit<K>(api: &Api<K>, name: &str, patch: Value)
where
    K: Clone + DeserializeOwned + Debug,
{
    let params = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
    api.patch(name, &params, &Patch::Merge(&patch)).await.unwrap();
}
