//! One test on the cluster: a namespace of its own, diagnostics when it fails, and nothing left behind.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use futures::FutureExt;

use crate::cluster::Cluster;
use crate::jobs::Jobs;
use crate::objects::Objects;
use crate::{diagnostics, release, wait};

/// What a test has to work with.
pub struct World {
    /// The cluster, with the release installed.
    pub cluster: Cluster,
    /// A fresh namespace that enforces the restricted Pod security standard.
    pub namespace: String,
}

impl World {
    /// The objects of the namespace.
    #[must_use]
    pub fn objects(&self) -> Objects<'_> {
        Objects::new(&self.cluster, &self.namespace)
    }

    /// `kubectl apply` in the namespace.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn apply(&self, manifest: &str) -> Result<()> {
        self.cluster.kubectl_with(&format!("-n {} apply -f -", self.namespace), manifest).await?.success()?;
        Ok(())
    }

    /// A queue of the namespace.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn jobs(&self, queue: &str) -> Result<Jobs> {
        Jobs::connect(&self.cluster, &self.namespace, queue).await
    }
}

/// Runs `body` in a namespace `lk-<name>`.
///
/// # Panics
/// When the test fails, after the diagnostics.
pub fn run(name: &str, body: impl AsyncFnOnce(&World) -> Result<()>) {
    run_in(&format!("lk-{name}"), body);
}

/// Runs `body` in a namespace of exactly that name.
///
/// # Panics
/// When the test fails, after the diagnostics.
pub fn run_in(namespace: &str, body: impl AsyncFnOnce(&World) -> Result<()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime needs threads and an epoll instance");
    let started = Instant::now();
    if let Err(error) = runtime.block_on(prepared(namespace, body)) {
        panic!("{namespace}: {error:#}");
    }
    eprintln!("scenario {namespace}: {} s", started.elapsed().as_secs());
}

async fn prepared(namespace: &str, body: impl AsyncFnOnce(&World) -> Result<()>) -> Result<()> {
    let cluster = Cluster::connect().await?;
    if let Err(error) = release::ensure(&cluster).await {
        diagnostics::print(&cluster, release::NAMESPACE).await;
        return Err(error.context("the release did not install"));
    }
    let world = World { cluster, namespace: namespace.to_owned() };
    remove(&world).await.context("a namespace left by an earlier run")?;
    let labels = "pod-security.kubernetes.io/enforce: restricted";
    let manifest =
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}, labels: {{{labels}}}}}\n");
    world.cluster.kubectl_with("apply -f -", &manifest).await?.success()?;

    let outcome = AssertUnwindSafe(body(&world)).catch_unwind().await;
    let outcome = outcome.unwrap_or_else(|panic| Err(anyhow!("panicked: {}", words(panic.as_ref()))));
    if outcome.is_err() {
        diagnostics::print(&world.cluster, namespace).await;
    }
    // A namespace that cannot go is a failure too: a finalizer was left behind.
    let removed = remove(&world).await.context("cleanup");
    if outcome.is_ok() && removed.is_err() {
        diagnostics::print(&world.cluster, namespace).await;
    }
    outcome.and(removed)
}

async fn remove(world: &World) -> Result<()> {
    let namespace = &world.namespace;
    world
        .cluster
        .kubectl(&format!("delete namespace {namespace} --ignore-not-found --wait=false"))
        .await?
        .success()?;
    wait::until_true(&format!("namespace {namespace} is gone"), Duration::from_secs(180), async || {
        let said =
            world.cluster.kubectl(&format!("get namespace {namespace} --ignore-not-found -o name")).await?;
        Ok(said.success()?.trim().is_empty())
    })
    .await
}

fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no words")
}
