//! The cluster under test, its tools, and ways into it.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use kube::Client;
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

use crate::command::{self, Said, repository};
use crate::wait;

const SCRIPT: &str = "tests/cluster/cluster.sh";

/// What is known of the cluster once it is up; the same for every test of a run.
#[derive(Debug, Clone)]
struct Found {
    kubeconfig: PathBuf,
    path: OsString,
    provider: Provider,
}

/// Where the cluster comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// `cluster.sh`, on kind.
    Kind,
    /// `cluster.sh`, the one-node cluster.
    Node,
    /// `KUBECONFIG`.
    Given,
}

static FOUND: OnceCell<Found> = OnceCell::const_new();

/// A cluster that answers.
pub struct Cluster {
    found: Found,
    client: Client,
}

impl Cluster {
    /// The cluster that `KUBECONFIG` names, else the project's own, brought up if need be.
    ///
    /// # Errors
    /// When there is none and none can be brought up.
    pub async fn connect() -> Result<Self> {
        let found = FOUND.get_or_try_init(find).await?.clone();
        // kube takes whichever provider of cryptography the process names first; a second naming is no harm
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = kube::config::Kubeconfig::read_from(&found.kubeconfig)?;
        let config =
            kube::Config::from_custom_kubeconfig(config, &kube::config::KubeConfigOptions::default()).await?;
        Ok(Self { found, client: Client::try_from(config)? })
    }

    /// A client of its API.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Where it comes from.
    #[must_use]
    pub fn provider(&self) -> Provider {
        self.found.provider
    }

    /// Its kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.found.kubeconfig
    }

    /// Runs `kubectl` with words separated by spaces.
    ///
    /// # Errors
    /// When it cannot be run; what it says is the caller's to judge.
    pub async fn kubectl(&self, line: &str) -> Result<Said> {
        command::run(self.tool("kubectl").args(line.split_whitespace()), "").await
    }

    /// Runs `kubectl` with standard input.
    ///
    /// # Errors
    /// As for [`Self::kubectl`].
    pub async fn kubectl_with(&self, line: &str, input: &str) -> Result<Said> {
        command::run(self.tool("kubectl").args(line.split_whitespace()), input).await
    }

    /// Runs `helm`.
    ///
    /// # Errors
    /// As for [`Self::kubectl`].
    pub async fn helm(&self, args: &[&str]) -> Result<Said> {
        command::run(self.tool("helm").args(args), "").await
    }

    /// Runs the project's command line tool, the build that is also in the images, else the one of `cargo build`.
    ///
    /// # Errors
    /// As for [`Self::kubectl`].
    pub async fn lanekeeper(&self, args: &[&str]) -> Result<Said> {
        let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let shipped = repository().join("target/static").join(host).join("release/lanekeeper");
        let built = repository().join("target/debug/lanekeeper");
        let newest = [shipped, built]
            .into_iter()
            .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
            .max();
        let (_, program) = newest.context("no lanekeeper program: run docker/build-images.sh")?;
        // an empty state directory of its own keeps a local mode that runs in the repository out of the way
        command::run(self.tool(program).args(args).env("LANEKEEPER_STATE", "target/no-local-mode"), "").await
    }

    /// Runs `cluster.sh`.
    ///
    /// # Errors
    /// When it fails.
    pub async fn script(&self, args: &[&str]) -> Result<String> {
        command::run(Command::new(SCRIPT).args(args), "").await?.success()
    }

    /// Opens a way from this machine's loopback to a Service.
    ///
    /// # Errors
    /// When nothing answers there within a minute.
    pub async fn forward(&self, namespace: &str, service: &str, port: u16) -> Result<Forward> {
        let local = free_port()?;
        let mut command = if self.found.provider == Provider::Given {
            let mut kubectl = self.tool("kubectl");
            kubectl.args([
                "-n",
                namespace,
                "port-forward",
                &format!("svc/{service}"),
                &format!("{local}:{port}"),
            ]);
            kubectl
        } else {
            let mut script = Command::new(SCRIPT);
            script.args(["forward", &local.to_string(), &format!("{namespace}/{service}:{port}")]);
            script
        };
        command.current_dir(repository()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.kill_on_drop(true).spawn().context("cannot start the forwarder")?;
        let what = format!("a way to {namespace}/{service}:{port}");
        wait::until_true(&what, Duration::from_secs(60), async || {
            Ok(tokio::net::TcpStream::connect(("127.0.0.1", local)).await.is_ok())
        })
        .await?;
        Ok(Forward { port: local, _child: child })
    }

    /// Ends a container with SIGKILL, as an out-of-memory kill or a crash would.
    ///
    /// # Errors
    /// When the Pod has no such container or the node refuses.
    pub async fn kill_container(&self, namespace: &str, pod: &str) -> Result<()> {
        if self.found.provider == Provider::Given {
            // the closest that is possible without a way to the node
            let line = format!("-n {namespace} delete pod {pod} --force --grace-period=0 --wait=false");
            self.kubectl(&line).await?.success()?;
            return Ok(());
        }
        let path = "jsonpath={.status.containerStatuses[0].containerID}";
        let id = self.kubectl(&format!("-n {namespace} get pod {pod} -o {path}")).await?.success()?;
        let id = id
            .trim()
            .strip_prefix("containerd://")
            .with_context(|| format!("{pod} has no container: {id}"))?;
        self.script(&["kill-container", id]).await?;
        Ok(())
    }

    fn tool(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("PATH", &self.found.path).env("KUBECONFIG", &self.found.kubeconfig);
        command
    }
}

/// A way into the cluster; closed when dropped.
pub struct Forward {
    /// Where it starts, on 127.0.0.1.
    pub port: u16,
    _child: Child,
}

async fn find() -> Result<Found> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(kubeconfig) = std::env::var_os("KUBECONFIG") {
        return Ok(Found { kubeconfig: kubeconfig.into(), path, provider: Provider::Given });
    }
    let ask = async |word: &str| command::run(Command::new(SCRIPT).arg(word), "").await?.success();
    ask("up").await?;
    let kubeconfig = PathBuf::from(ask("kubeconfig").await?.trim());
    let provider = if ask("provider").await?.trim() == "kind" { Provider::Kind } else { Provider::Node };
    let tools = kubeconfig.parent().context("the kubeconfig stands in a folder")?.join("bin");
    let folders = std::iter::once(tools).chain(std::env::split_paths(&path));
    Ok(Found { path: std::env::join_paths(folders)?, kubeconfig, provider })
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
