//! Kubernetes objects as tests ask for them.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::wait;

/// One namespace of the cluster.
pub struct Objects<'a> {
    cluster: &'a Cluster,
    namespace: &'a str,
}

impl<'a> Objects<'a> {
    /// The objects of a namespace.
    #[must_use]
    pub fn new(cluster: &'a Cluster, namespace: &'a str) -> Self {
        Self { cluster, namespace }
    }

    /// A JobQueue or WorkerPool, as JSON.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn custom(&self, kind: &str, name: &str) -> Result<Value> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("lanekeeper.dev", "v1beta1", kind));
        let api: Api<DynamicObject> = Api::namespaced_with(self.cluster.client(), self.namespace, &resource);
        let object = api.get(name).await.with_context(|| format!("{kind} {}/{name}", self.namespace))?;
        Ok(serde_json::to_value(object)?)
    }

    /// Waits until a condition has that status, and returns its reason and message.
    ///
    /// # Errors
    /// When it does not within `limit`; the error shows the conditions as they are.
    pub async fn condition(
        &self,
        kind: &str,
        name: &str,
        type_: &str,
        status: &str,
        limit: Duration,
    ) -> Result<(String, String)> {
        let what = format!("{kind} {}/{name} has {type_}={status}", self.namespace);
        wait::until(&what, limit, async || {
            let object = self.custom(kind, name).await?;
            let conditions = &object["status"]["conditions"];
            let found = conditions
                .as_array()
                .into_iter()
                .flatten()
                .find(|c| c["type"] == type_ && c["status"] == status);
            match found {
                Some(c) => Ok(Some((text(&c["reason"]), text(&c["message"])))),
                None => bail!("conditions are {conditions}"),
            }
        })
        .await
    }

    /// The Deployments of the API.
    #[must_use]
    pub fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.cluster.client(), self.namespace)
    }

    /// The Deployment of a pool.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn deployment(&self, pool: &str) -> Result<Deployment> {
        Ok(self.deployments().get(&deployment_name(pool)).await?)
    }

    /// `spec.replicas` of a pool's Deployment.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn replicas(&self, pool: &str) -> Result<i32> {
        Ok(self.deployment(pool).await?.spec.and_then(|spec| spec.replicas).unwrap_or(1))
    }

    /// The pods of a pool.
    ///
    /// # Errors
    /// When the API cannot be asked.
    pub async fn pods(&self, pool: &str) -> Result<Vec<Pod>> {
        let api: Api<Pod> = Api::namespaced(self.cluster.client(), self.namespace);
        let selector = ListParams::default().labels(&format!("lanekeeper.dev/pool={pool}"));
        Ok(api.list(&selector).await?.items)
    }

    /// Waits until a pool has no replicas and no pods.
    ///
    /// # Errors
    /// When it still has some after `limit`.
    pub async fn at_zero(&self, pool: &str, limit: Duration) -> Result<()> {
        wait::until_true(&format!("pool {}/{pool} is at zero", self.namespace), limit, async || {
            let (replicas, pods) = (self.replicas(pool).await?, self.pods(pool).await?.len());
            if replicas != 0 || pods != 0 {
                bail!("{replicas} replicas, {pods} pods");
            }
            Ok(true)
        })
        .await
    }

    /// Reasons of the Events about an object.
    ///
    /// # Errors
    /// When the API cannot be asked.
    pub async fn event_reasons(&self, name: &str) -> Result<Vec<String>> {
        let line = format!(
            "-n {} get events --field-selector involvedObject.name={name} -o jsonpath={{.items[*].reason}}",
            self.namespace
        );
        let out = self.cluster.kubectl(&line).await?.success()?;
        Ok(out.split_whitespace().map(str::to_owned).collect())
    }
}

/// The name of a pool's Deployment.
#[must_use]
pub fn deployment_name(pool: &str) -> String {
    format!("{pool}-lanekeeper")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
