//! The Helm release under test: images, storage, install, and the way to its Redis.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::sync::OnceCell;

use crate::cluster::{Cluster, Forward, Provider};
use crate::command::repository;
use crate::wait;

/// The release, and so the Deployment.
pub const NAME: &str = "lanekeeper";
/// Its namespace.
pub const NAMESPACE: &str = "lanekeeper-system";
/// The chart.
pub const CHART: &str = "charts/lanekeeper";

static INSTALLED: OnceCell<()> = OnceCell::const_new();

/// Installs the release once per run.
///
/// # Errors
/// When images are missing or the release does not become ready.
pub async fn ensure(cluster: &Cluster) -> Result<()> {
    INSTALLED
        .get_or_try_init(async || {
            load_images(cluster).await?;
            provide_storage(cluster).await?;
            install(cluster).await
        })
        .await?;
    Ok(())
}

/// `helm upgrade --install`, until everything is ready.
///
/// # Errors
/// When it does not become ready within five minutes.
pub async fn install(cluster: &Cluster) -> Result<()> {
    install_with(cluster, &[]).await
}

/// [`install`] with more values.
///
/// # Errors
/// When it does not become ready within five minutes.
pub async fn install_with(cluster: &Cluster, more: &[&str]) -> Result<()> {
    let values = values()?;
    let mut args = vec!["upgrade", "--install", NAME, CHART, "--namespace", NAMESPACE, "--create-namespace"];
    args.extend(["--wait", "--timeout", "5m"]);
    for value in &values {
        args.extend(["--set-string", value.as_str()]);
    }
    args.extend(["--set", "redis.enabled=true"]);
    for value in more {
        args.extend(["--set", value]);
    }
    cluster.helm(&args).await?.success()?;
    Ok(())
}

/// A way to the release's Redis, and the admin URL through it.
///
/// # Errors
/// When the release has none.
pub async fn redis(cluster: &Cluster) -> Result<(Forward, String)> {
    let service = format!("{NAME}-redis");
    let forward = cluster.forward(NAMESPACE, &service, 6379).await?;
    let line =
        format!("-n {NAMESPACE} get secret {service} -o go-template={{{{.data.password|base64decode}}}}");
    let password = cluster.kubectl(&line).await?.success()?;
    let url = format!("redis://:{}@127.0.0.1:{}", password.trim(), forward.port);
    Ok((forward, url))
}

/// The images of `docker/build-images.sh`.
fn image_tars() -> Result<Vec<PathBuf>> {
    let folder = repository().join("target/images");
    let names = ["lanekeeper-operator", "lanekeeper-worker", "lanekeeper-cli", "saas"];
    let tars: Vec<_> = names.iter().map(|name| folder.join(format!("{name}.tar"))).collect();
    for tar in &tars {
        ensure!(tar.is_file(), "{} is missing: run docker/build-images.sh", tar.display());
    }
    Ok(tars)
}

async fn load_images(cluster: &Cluster) -> Result<()> {
    if cluster.provider() == Provider::Given {
        return Ok(()); // whoever gives a cluster has put the images where it finds them
    }
    let mut args = vec!["load-image".to_owned()];
    args.extend(image_tars()?.iter().map(|tar| tar.display().to_string()));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    cluster.script(&args).await?;
    Ok(())
}

/// The chart's values in tests. The build's time rolls the operator when its image of the same name has changed.
fn values() -> Result<Vec<String>> {
    let prefix = std::env::var("LANEKEEPER_TEST_IMAGES").unwrap_or_else(|_| "localhost".to_owned());
    let tag = std::env::var("LANEKEEPER_IMAGE_TAG").unwrap_or_else(|_| "dev".to_owned());
    let mut values = vec![
        format!("image.repository={prefix}/lanekeeper-operator"),
        format!("image.tag={tag}"),
        format!("worker.image.repository={prefix}/lanekeeper-worker"),
        format!("worker.image.tag={tag}"),
        format!("cli.image.repository={prefix}/lanekeeper-cli"),
        format!("cli.image.tag={tag}"),
        format!("redis.image.repository={prefix}/redis"),
        "redis.image.tag=7.0.15".to_owned(),
        "redis.persistence.size=1Gi".to_owned(),
    ];
    if let Some(tar) = image_tars().unwrap_or_default().first() {
        let built = tar.metadata()?.modified()?.duration_since(std::time::UNIX_EPOCH)?.as_secs();
        values.push(format!("podAnnotations.built={built}"));
    }
    Ok(values)
}

/// A volume for the release's Redis, where the cluster makes none by itself.
async fn provide_storage(cluster: &Cluster) -> Result<()> {
    let classes = cluster.kubectl("get storageclass -o name").await?.success()?;
    if !classes.trim().is_empty() || cluster.provider() != Provider::Node {
        return Ok(());
    }
    let root = cluster.kubeconfig().parent().context("the kubeconfig stands in a folder")?;
    let folder = root.join("data/volumes/redis");
    std::fs::create_dir_all(&folder)?;
    // kubelet does not change the owner of a hostPath; Redis runs as nobody in particular
    std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    let volume = serde_json::json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": format!("{NAME}-redis")},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "claimRef": {"namespace": NAMESPACE, "name": format!("data-{NAME}-redis-0")},
            "hostPath": {"path": folder, "type": "Directory"},
        },
    });
    cluster.kubectl_with("apply -f -", &volume.to_string()).await?.success()?;
    Ok(())
}

/// Waits until the operator's only Pod is the one of the current release.
///
/// # Errors
/// When that takes longer than two minutes.
pub async fn settled(cluster: &Cluster) -> Result<()> {
    wait::until_true("the operator's rollout", Duration::from_secs(120), async || {
        let line = format!("-n {NAMESPACE} rollout status deployment/{NAME} --timeout=1s");
        Ok(cluster.kubectl(&line).await?.code == Some(0))
    })
    .await
}
