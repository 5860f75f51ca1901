//! A cluster as the kubeconfig's context names it: its JobQueues, and the way to their Redis.
//!
//! The command line uses the workers' credentials of a queue, never the admin URL: they suffice for every call on
//! that queue, and reading one Secret in the queue's namespace is a right that a team can have.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use lanekeeper_api::job_queue::JobQueue;
use lanekeeper_api::policy::SecretKey;
use lanekeeper_api::worker_pool::WorkerPool;
use lanekeeper_operator::job_queue::credentials;
use lanekeeper_queue::QueueName;
use lanekeeper_queue::client::RedisOptions;

use super::forward::{self, Forward};
use crate::failure::{Failure, Result};

/// A cluster and the namespace looked at.
pub(crate) struct Cluster {
    client: Client,
    context: String,
    namespace: String,
    /// This process is a pod: the cluster's addresses are reachable.
    inside: bool,
}

impl Cluster {
    /// Reads the kubeconfig (or the pod's service account) and makes a client.
    pub(crate) async fn connect(context: Option<&str>, namespace: Option<&str>) -> Result<Self> {
        let inside = context.is_none() && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        let (config, context) = if inside {
            let config = Config::incluster().map_err(|error| no_cluster(&error))?;
            (config, "in-cluster".to_owned())
        } else {
            from_kubeconfig(context).await?
        };
        let namespace = namespace.map_or_else(|| config.default_namespace.clone(), str::to_owned);
        let client = Client::try_from(config).map_err(|error| no_cluster(&error))?;
        Ok(Self { client, context, namespace, inside })
    }

    /// For people.
    pub(crate) fn describe(&self) -> String {
        format!("cluster {} (namespace {})", self.context, self.namespace)
    }

    /// The namespace looked at.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The client.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The JobQueues of the namespace.
    pub(crate) async fn queues(&self) -> Result<Vec<QueueName>> {
        let queues: Api<JobQueue> = Api::namespaced(self.client.clone(), &self.namespace);
        let list = queues
            .list(&kube::api::ListParams::default())
            .await
            .map_err(|error| self.failure("list JobQueues", &error))?;
        Ok(list
            .items
            .iter()
            .filter_map(|q| q.metadata.name.as_deref())
            .map(|name| QueueName::new(&self.namespace, name))
            .collect())
    }

    /// The WorkerPools of a queue.
    pub(crate) async fn pools_of(&self, queue: &QueueName) -> Result<Vec<WorkerPool>> {
        let pools: Api<WorkerPool> = Api::namespaced(self.client.clone(), queue.namespace());
        let list = pools
            .list(&kube::api::ListParams::default())
            .await
            .map_err(|error| self.failure("list WorkerPools", &error))?;
        Ok(list.items.into_iter().filter(|pool| pool.spec.queue == queue.name()).collect())
    }

    /// How to reach the Redis of a queue, with the port-forward that must stay open meanwhile.
    pub(crate) async fn redis_of(&self, name: &QueueName) -> Result<(RedisOptions, Option<Forward>)> {
        let queues: Api<JobQueue> = Api::namespaced(self.client.clone(), name.namespace());
        let found = queues
            .get_opt(name.name())
            .await
            .map_err(|error| self.failure(&format!("read JobQueue {name}"), &error))?;
        let queue = found.ok_or_else(|| {
            Failure::not_found(format!("there is no JobQueue {name} in cluster {}", self.context))
                .advice("check -q and -n, or apply its manifest with kubectl")
        })?;
        let location = credentials::location(&queue);
        let url = self.secret(name, &location.url).await?;
        let url = String::from_utf8(url)
            .map_err(|_| Failure::invalid(format!("the Redis URL of {name} is not text")))?;
        let ca_pem = match &location.ca {
            // A Secret that the operator makes has this key only if there is an authority.
            Some(at) if location.managed => self.secret(name, at).await.ok(),
            Some(at) => Some(self.secret(name, at).await?),
            None => None,
        };
        let url = url.trim().to_owned();
        if self.inside {
            return Ok((RedisOptions { url, ca_pem }, None));
        }
        let forward = forward::open_if_needed(self, &url, name.namespace()).await?;
        let url = forward.as_ref().map_or(url, |forward| forward.url().to_owned());
        Ok((RedisOptions { url, ca_pem }, forward))
    }

    async fn secret(&self, queue: &QueueName, from: &SecretKey) -> Result<Vec<u8>> {
        let what = format!("Secret {}/{}", queue.namespace(), from.name);
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), queue.namespace());
        let found = secrets
            .get_opt(&from.name)
            .await
            .map_err(|error| self.failure(&format!("read {what}"), &error))?;
        let data: BTreeMap<_, _> = found
            .ok_or_else(|| {
                Failure::not_found(format!("there is no {what}, which holds the Redis URL of {queue}")).advice(format!(
                    "`kubectl -n {} describe jobqueue {}` shows whether the operator got that far; --redis names a Redis directly",
                    queue.namespace(),
                    queue.name()
                ))
            })?
            .data
            .unwrap_or_default();
        let keys: Vec<String> = data.keys().cloned().collect();
        let value = data.into_iter().find(|(key, _)| *key == from.key);
        value.map(|(_, value)| value.0).ok_or_else(|| {
            Failure::not_found(format!("{what} has no key `{}`; it has: {}", from.key, keys.join(", ")))
        })
    }

    /// An API call that failed.
    pub(crate) fn failure(&self, what: &str, error: &kube::Error) -> Failure {
        match error {
            kube::Error::Api(status) if status.code == 403 => {
                Failure::unreachable(format!("cluster {} does not let you {what}: {}", self.context, status.message))
                    .advice("ask for that right, or name the Redis with --redis")
            }
            kube::Error::Api(status) if status.code == 404 => {
                Failure::not_found(format!("cannot {what} in cluster {}: {}", self.context, status.message))
                    .advice("install Lanekeeper's chart (or its CRDs: `lanekeeper crds`) first")
            }
            other => Failure::unreachable(format!("cannot {what} in cluster {}: {}", self.context, sources(other)))
                .advice("check the kubeconfig and that its context's API server can be reached; --context names another"),
        }
    }
}

async fn from_kubeconfig(context: Option<&str>) -> Result<(Config, String)> {
    let kubeconfig = Kubeconfig::read().map_err(|error| no_kubeconfig(&sources(&error)))?;
    if kubeconfig.contexts.is_empty() {
        return Err(no_kubeconfig("it has no contexts"));
    }
    let chosen = context.map(str::to_owned).or_else(|| kubeconfig.current_context.clone());
    let known: Vec<String> = kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
    let name = match chosen {
        Some(name) if known.contains(&name) => name,
        Some(name) => {
            return Err(Failure::invalid(format!(
                "the kubeconfig has no context `{name}`; it has: {}",
                known.join(", ")
            )));
        }
        None => {
            return Err(Failure::invalid(format!(
                "the kubeconfig names no current context; it has: {}",
                known.join(", ")
            ))
            .advice("choose one with --context"));
        }
    };
    let options = KubeConfigOptions { context: Some(name.clone()), ..KubeConfigOptions::default() };
    let config =
        Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| no_cluster(&error))?;
    Ok((config, name))
}

fn no_kubeconfig(why: &str) -> Failure {
    Failure::invalid("no Redis is named, no local mode runs in this directory, and there is no usable kubeconfig")
        .details([why.to_owned()])
        .advice("start the local mode (`lanekeeper up -f FILE`), name a Redis (--redis or LANEKEEPER_REDIS_URL), or set KUBECONFIG")
}

fn no_cluster(error: &dyn std::error::Error) -> Failure {
    Failure::unreachable(format!("cannot use the kubeconfig's context: {}", sources(error)))
}

/// The error and what caused it: kube's top-level messages alone say little.
fn sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text.push_str(&format!(": {said}"));
        }
        cause = inner.source();
    }
    text
}
